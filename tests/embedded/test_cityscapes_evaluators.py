"""Cityscapes' evaluators on one picture of 40 x 40 pixels, against scores worked out by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from PIL import Image

from tests.places import EMBEDDED

pytestmark = pytest.mark.skipif(not EMBEDDED, reason="the pinned Detectron2 imports a package that is not public")
if EMBEDDED:
    from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator

INPUT = {"file_name": "images/ulm/ulm_000000_000019_leftImg8bit.png", "height": 40, "width": 40}
ROAD, CAR = 7, 26  # ids of the files; train ids 0 and 13


@pytest.fixture
def name(tmp_path: Path) -> str:
    """Road on the left half, one car on the right."""
    folder = tmp_path / "gtFine" / "ulm"
    folder.mkdir(parents=True)
    labels = np.full((40, 40), ROAD, dtype=np.uint8)
    labels[:, 20:] = CAR
    Image.fromarray(labels).save(folder / "ulm_000000_000019_gtFine_labelIds.png")
    numbers = np.where(labels == CAR, CAR * 1000, ROAD).astype(np.uint16)
    Image.fromarray(numbers).save(folder / "ulm_000000_000019_gtFine_instanceIds.png")
    metadata = MetadataCatalog.get(f"cityscapes_{tmp_path.name}")
    metadata.set(gt_dir=str(folder.parent), thing_classes=["person", "car"])
    return metadata.name


def test_semantic_scores_are_those_of_the_official_package(name: str):
    pytest.importorskip("cityscapesscripts")
    scores = torch.zeros(19, 40, 40)
    scores[0, :, :30] = 1
    scores[13, :, 30:] = 1  # half of the car is called road
    evaluator = CityscapesSemSegEvaluator(name)
    evaluator.reset()
    evaluator.process([INPUT], [{"sem_seg": scores}])
    # Road: 800 of 1200 pixels; car: 400 of 800. Of the classes that the picture has, the mean is 7/12.
    assert evaluator.evaluate()["sem_seg"]["IoU"] == pytest.approx(100 * 7 / 12)


def instance_scores(name: str, left: int) -> dict[str, float]:
    """Scores of one car from column `left` on."""
    pytest.importorskip("cityscapesscripts")
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[0, :, left:] = True
    found = Instances((40, 40), pred_classes=torch.tensor([1]), scores=torch.tensor([0.9]), pred_masks=mask)
    evaluator = CityscapesInstanceEvaluator(name)
    evaluator.reset()
    evaluator.process([INPUT], [{"instances": found}])
    return evaluator.evaluate()["segm"]


@pytest.mark.parametrize(("left", "average_precision"), [(20, 100.0), (25, 50.0)])
def test_instance_scores_are_those_of_the_official_package(name: str, left: int, average_precision: float):
    # From 25 on the overlap is 3/4, which exceeds five of the ten thresholds: 0.5, 0.55, ... 0.7.
    assert instance_scores(name, left)["AP"] == pytest.approx(average_precision)


def test_the_evaluators_leave_no_file_and_numpy_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = set(vars(np))
    instance_scores(name, 20)
    assert [path.name for path in tmp_path.iterdir()] == ["gtFine"] and set(vars(np)) == before


def test_a_picture_without_a_prediction_is_named(name: str):
    pytest.importorskip("cityscapesscripts")
    evaluator = CityscapesSemSegEvaluator(name)
    evaluator.reset()
    with pytest.raises(ValueError, match="1 of 1 pictures have no prediction, first ulm_000000_000019"):
        evaluator.evaluate()


def test_without_the_official_package_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)
    for module in [key for key in sys.modules if key.startswith("cityscapesscripts.")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"mask2former_ext\[cityscapes\]"):
        CityscapesInstanceEvaluator(name)
