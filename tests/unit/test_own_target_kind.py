"""A target kind that a user's own file registers: looked up, checked before training, and learned from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg

from mask2former_ext.config import add_config
from mask2former_ext.data.checks import check_truth
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.data.targets import Augmented, Source, TargetKind, register_target_kind, table, target_kind

ROOT = Path(__file__).resolve().parents[2]


class DepthTarget(TargetKind):
    name = "depth"
    needs = (("depth_file_name",),)
    file_keys = ("depth_file_name",)

    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:  # noqa: ARG002
        return {"depth": np.zeros(augmented.size)}


@pytest.fixture
def cfg(monkeypatch: pytest.MonkeyPatch) -> CfgNode:
    monkeypatch.setattr(table, "_KINDS", dict(table._KINDS))
    cfg = get_cfg()
    add_config(cfg)
    cfg.INPUT.TARGETS, cfg.DATASETS.TRAIN = "depth", ("coco_2017_train_panoptic",)
    return cfg


@pytest.mark.parametrize("architecture", ["Mask2Former", "MaskRCNN"])
def test_register_target_kind_makes_a_name_known_to_every_model(cfg: CfgNode, architecture: str) -> None:
    cfg.MODEL.META_ARCHITECTURE = architecture
    register_target_kind("depth", DepthTarget)
    assert isinstance(target_kind(cfg), DepthTarget)


def test_register_target_kind_rejects_a_name_that_is_taken(cfg: CfgNode) -> None:  # noqa: ARG001
    with pytest.raises(ValueError, match="the target kind 'semantic' is SemanticTarget already; choose another name"):
        register_target_kind("semantic", DepthTarget)


def test_a_kind_that_nobody_registered_is_named_with_those_known(cfg: CfgNode) -> None:
    with pytest.raises(ValueError, match="INPUT.TARGETS is 'depth', but must be one of instance, panoptic, semantic"):
        target_kind(cfg)


def test_a_record_without_what_the_kind_needs_is_named() -> None:
    records = [{"file_name": "a.png", "depth_file_name": "d.png"}, {"file_name": "b.png"}]
    with pytest.raises(ValueError, match=r"b.png: INPUT.TARGETS asks for depth truth.* has no depth_file_name"):
        check_truth("coco_2017_train_panoptic", records, DepthTarget(), crop_needs_labels=False)


@pytest.mark.slow
def test_the_boundary_of_the_documentation_is_one_pixel_wide(tmp_path: Path) -> None:
    code = "import own_target, numpy as np; from detectron2.data.transforms import NoOpTransform, TransformList\n"
    code += "labels = np.array([[1, 1, 2], [1, 1, 2]]); image = np.zeros((2, 3, 3), np.uint8)\n"
    code += "augmented = own_target.Augmented(image, labels, TransformList([NoOpTransform()]), 0)\n"
    code += "print(own_target.BoundaryTarget().build(None, augmented)['sem_seg'].tolist())"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'docs' / 'examples'}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip().endswith("[[0, 1, 0], [0, 1, 0]]"), done.stderr[-2000:]


@pytest.mark.slow
def test_the_target_kind_of_the_documentation_is_learned_from(tmp_path: Path) -> None:
    make_shapes(str(tmp_path / "shapes"), Recipe(train=4, val=1, height=64, width=64))
    example = ROOT / "docs" / "examples" / "own_target"
    command = [sys.executable, "train_net.py", "--import", f"{example}.py", "--config-file", f"{example}.yaml"]
    command += ["DATASETS.ROOT", str(tmp_path), "OUTPUT_DIR", str(tmp_path / "out"), "SOLVER.MAX_ITER", "2"]
    command += ["SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "total_loss" in (tmp_path / "out" / "metrics.json").read_text()
