"""Every architecture from files to scores: data, a few steps, evaluation, the predictor."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode

from mask2former_ext import Predictor, load_config
from mask2former_ext.data import register_all
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.engine import Trainer
from mask2former_ext.engine.setup import setup
from mask2former_ext.engine.trainer import evaluate

pytestmark = pytest.mark.slow  # a training of each architecture

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
EVERY_TASK = {"panoptic_seg", "bbox", "segm", "sem_seg"}
MODELS = {
    "mask2former": ("mask2former", [], EVERY_TASK),
    "maskformer": ("maskformer", [], EVERY_TASK),
    "oneformer": ("oneformer", [], EVERY_TASK),
    "per_pixel_baseline_plus": ("per_pixel", [], {"sem_seg"}),
    "per_pixel_baseline": ("per_pixel", ["MODEL.META_ARCHITECTURE", "PerPixelBaseline"], {"sem_seg"}),
    "mask_rcnn": ("mask_rcnn", [], {"bbox", "segm"}),
    "faster_rcnn": ("mask_rcnn", ["MODEL.MASK_ON", "False"], {"bbox"}),
    "panoptic_fpn": ("panoptic_fpn", [], EVERY_TASK),
}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    make_shapes(str(tmp_path / "shapes"), Recipe(train=4, val=2, height=64, width=64))
    yield tmp_path
    register_all()


def arguments(root: Path, folder: str, overrides: list[str], **flags: bool) -> Namespace:
    settings = ["DATASETS.ROOT", str(root), "OUTPUT_DIR", str(root / "out"), "MODEL.DEVICE", "cpu", "SEED", "1"]
    file = str(CONFIGS / folder / "tiny.yaml")
    return Namespace(config_file=file, opts=[*settings, *overrides], eval_only=flags.get("eval_only", False))


def prepared(root: Path, folder: str, overrides: list[str], **flags: bool) -> CfgNode:
    return setup(arguments(root, folder, overrides, **flags))


BAD_BOXES = [[5, 5, 0, 20], [90, 5, 10, 10], [float("nan"), 5, 10, 10]]  # x, y, width, height in pictures of 64 x 64


def set_with_bad_boxes(root: Path) -> str:
    """DATASETS.CUSTOM for the synthetic training images, with a triangle for each of the bad boxes in the first."""
    path, images = root / "shapes" / "instances_train.json", root / "shapes" / "train" / "images"
    content = json.loads(path.read_text())
    first, category = content["images"][0]["id"], content["categories"][0]["id"]
    for number, box in enumerate(BAD_BOXES):
        triangle = {"segmentation": [[5, 5, 25, 5, 25, 25]], "bbox": box, "area": 200, "iscrowd": 0}
        content["annotations"].append({"id": 9000 + number, "image_id": first, "category_id": category, **triangle})
    path.write_text(json.dumps(content))
    return str([{"NAME": "bad", "IMAGES": str(images), "INSTANCES": str(path)}])


def test_training_leaves_bad_boxes_of_a_json_out_and_counts_them(root: Path) -> None:
    own = ["DATASETS.CUSTOM", set_with_bad_boxes(root), "DATASETS.TRAIN", "('bad',)", "DATASETS.TEST", "()"]
    Trainer(prepared(root, "mask_rcnn", own)).train()
    (line,) = [line for line in (root / "out" / "log.txt").read_text().splitlines() if "Left out" in line]
    assert "Left out 3 truth boxes: " in line
    assert all(f"annotation {9000 + number}: bbox" in line for number in range(3))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_trained_saved_and_scored_in_all_that_it_answers(root: Path, model: str) -> None:
    folder, overrides, tasks = MODELS[model]
    trainer = Trainer(prepared(root, folder, overrides))
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert set(trainer.last_results) == tasks
    again = evaluate(
        prepared(root, folder, [*overrides, "MODEL.WEIGHTS", str(root / "out" / "model_final.pth")], eval_only=True)
    )
    assert all(again[task] == pytest.approx(trainer.last_results[task], nan_ok=True) for task in tasks)


def test_the_predictor_answers_in_the_models_own_numbers(root: Path) -> None:
    settings = ["DATASETS.ROOT", str(root), "MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    predictor = Predictor(load_config(str(CONFIGS / "panoptic_fpn" / "tiny.yaml"), settings))
    result = predictor(np.zeros((50, 70, 3), np.uint8))
    assert result["sem_seg"].shape == (4, 50, 70) and result["instances"].pred_masks.shape[1:] == (50, 70)
    assert set(result["instances"].pred_classes.tolist()) <= set(range(6))
    assert predictor.classes.label_names == ["things", "sky", "ground", "water"]
