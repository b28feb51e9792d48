"""Scripts of other projects that have registered models, backbones and data sets under names that are ours too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

FOREIGN = """
import logging
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from torch import nn

theirs = {}
for name in ("MaskFormer", "OneFormer", "PerPixelBaseline"):
    theirs[name] = type(name, (nn.Module,), {"__module__": "theirs"})
    META_ARCH_REGISTRY.register(theirs[name])
theirs["D2SwinTransformer"] = type("D2SwinTransformer", (nn.Module,), {"__module__": "theirs"})
BACKBONE_REGISTRY.register(theirs["D2SwinTransformer"])
for name in ("ade20k_full_sem_seg_train", "mapillary_vistas_sem_seg_train"):
    DatasetCatalog.register(name, lambda: ["theirs"])
    MetadataCatalog.get(name).stuff_classes = ["their class"]
"""
DATA_SETS = ("ade20k_full_sem_seg_train", "mapillary_vistas_sem_seg_train")
USES_PARTS = """
import sys
import numpy as np

import mask2former_ext.evaluation.confusion_matrix
from mask2former_ext.inference.drawing import draw
from mask2former_ext.inference.segmentation import semantic_segmentation
import torch

found = semantic_segmentation(torch.tensor([[[1.0, 0]], [[0, 1.0]]]), None)
picture = draw(np.zeros((1, 2, 3), np.uint8), found)
print(picture.dtype, [n for n in sys.modules if n.startswith("mask2former_ext.models")])
"""
ADDS_CONFIG = """
import mask2former_ext as m
from mask2former_ext.contract import Contract, contract_of

logging.basicConfig(format="%(message)s")
cfg = get_cfg()
m.add_config(cfg)
m.add_config(get_cfg())
for cfg.MODEL.META_ARCHITECTURE in ("MaskFormer", "OneFormer", "Mask2Former"):
    kept = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE) is theirs.get(cfg.MODEL.META_ARCHITECTURE)
    print(cfg.MODEL.META_ARCHITECTURE, kept, contract_of(cfg).__name__, contract_of(cfg).reads_task)
print(BACKBONE_REGISTRY.get("D2SwinTransformer") is theirs["D2SwinTransformer"])
m.data.register_all()
print(DatasetCatalog.get("ade20k_full_sem_seg_train"))
"""


def run(script: str, tmp_path: Path) -> tuple[list[str], list[str]]:
    """The lines that a script, after FOREIGN, prints in a process of its own, and those that it logs."""
    (tmp_path / "script.py").write_text(FOREIGN + script)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest.mark.slow
def test_a_script_with_models_of_our_names_uses_our_parts(tmp_path):
    assert run(USES_PARTS, tmp_path) == (["uint8 []"], [])


@pytest.mark.slow
def test_add_config_keeps_foreign_models_and_logs_a_line_for_each(tmp_path):
    printed, logged = run(ADDS_CONFIG, tmp_path)
    kept = ["MaskFormer True Contract False", "OneFormer True Contract False", "Mask2Former False Mask2Former False"]
    assert printed == [*kept, "True", "['theirs']"]
    names = ["D2SwinTransformer", "MaskFormer", "OneFormer", "PerPixelBaseline"]
    names = [f"{name} of theirs" for name in names] + [f"data set {name}" for name in DATA_SETS]
    assert sorted(logged) == [f"{name} is registered already: that one is used, not ours" for name in names]
