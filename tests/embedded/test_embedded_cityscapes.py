"""The embedded Detectron2's Cityscapes evaluators, against scores worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from detectron2.structures import Instances
from PIL import Image

from tests.places import EMBEDDED

pytest.importorskip("cityscapesscripts")
pytestmark = pytest.mark.skipif(not EMBEDDED, reason="the real one needs a package that nobody can install")

ROAD, CAR = 7, 26  # Cityscapes' label ids; their train ids are 0 and 13
SIDE = 40
LEFT_CAR, RIGHT_CAR = slice(0, 16), slice(24, 40)  # columns of the two cars, in the upper half
INPUT = {"file_name": "leftImg8bit/val/town/town_000000_000000_leftImg8bit.png"}


def mask(columns: slice) -> torch.Tensor:
    area = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    area[:20, columns] = True
    return area


@pytest.fixture
def town(tmp_path, monkeypatch):
    """Name of a set of one 40 x 40 picture: a road, and two cars of 320 pixels on it."""
    monkeypatch.chdir(tmp_path)
    instance_ids = np.full((SIDE, SIDE), ROAD, dtype=np.uint16)
    instance_ids[mask(LEFT_CAR)], instance_ids[mask(RIGHT_CAR)] = 1000 * CAR, 1000 * CAR + 1
    folder = tmp_path / "gtFine" / "town"
    folder.mkdir(parents=True)
    Image.fromarray(instance_ids).save(folder / "town_000000_000000_gtFine_instanceIds.png")
    label_ids = np.where(instance_ids == ROAD, ROAD, CAR).astype(np.uint8)
    Image.fromarray(label_ids).save(folder / "town_000000_000000_gtFine_labelIds.png")
    name = f"town_{tmp_path.name}"
    MetadataCatalog.get(name).set(gt_dir=str(folder.parent), thing_classes=["person", "rider", "car"])
    return name


def instance_scores(name: str, *columns: slice) -> dict[str, float]:
    evaluator = CityscapesInstanceEvaluator(name)
    evaluator.reset()
    cars = Instances((SIDE, SIDE), pred_masks=torch.stack([mask(c) for c in columns]))
    cars.pred_classes = torch.full((len(columns),), 2)
    cars.scores = torch.linspace(0.9, 0.8, len(columns))
    evaluator.process([INPUT], [{"instances": cars}])
    return evaluator.evaluate()["segm"]


def semantic_scores(name: str, cars: torch.Tensor) -> dict[str, float]:
    evaluator = CityscapesSemSegEvaluator(name)
    evaluator.reset()
    scores = torch.zeros(19, SIDE, SIDE)
    scores[0][~cars] = 1.0
    scores[13][cars] = 1.0
    evaluator.process([INPUT], [{"sem_seg": scores}])
    return evaluator.evaluate()["sem_seg"]


def test_instances_that_equal_the_truth_score_100(town):
    assert instance_scores(town, LEFT_CAR, RIGHT_CAR) == pytest.approx({"AP": 100.0, "AP50": 100.0})


def test_one_of_two_instances_scores_50(town):
    # precision 1 up to recall 1/2
    assert instance_scores(town, LEFT_CAR)["AP"] == pytest.approx(50.0)


def test_labels_that_equal_the_truth_score_100(town):
    scores = semantic_scores(town, mask(LEFT_CAR) | mask(RIGHT_CAR))
    assert (scores["IoU"], scores["IoU_sup"]) == pytest.approx((100.0, 100.0))


def test_labels_without_one_car_score_by_their_pixels(town):
    # car: 320 of 640; road: 960 of 960 + 320; their mean
    assert semantic_scores(town, mask(LEFT_CAR))["IoU"] == pytest.approx(100 * (320 / 640 + 960 / 1280) / 2)


def test_the_instance_evaluator_leaves_no_file_behind(town, tmp_path):
    instance_scores(town, LEFT_CAR)
    assert [path.name for path in tmp_path.iterdir()] == ["gtFine"]


def test_the_evaluators_leave_numpy_as_it_is(town):
    before = set(vars(np))
    instance_scores(town, LEFT_CAR)
    assert set(vars(np)) == before
