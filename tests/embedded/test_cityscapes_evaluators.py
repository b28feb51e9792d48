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


def register_picture(tmp_path: Path, numbers: np.ndarray) -> str:
    """Name of a set of one picture. `numbers` (40, 40): ROAD, or 1000 x CAR + the number of a car."""
    folder = tmp_path / "gtFine" / "ulm"
    folder.mkdir(parents=True)
    labels = np.where(numbers == ROAD, ROAD, CAR).astype(np.uint8)
    Image.fromarray(labels).save(folder / "ulm_000000_000019_gtFine_labelIds.png")
    Image.fromarray(numbers.astype(np.uint16)).save(folder / "ulm_000000_000019_gtFine_instanceIds.png")
    metadata = MetadataCatalog.get(f"cityscapes_{tmp_path.name}")
    metadata.set(gt_dir=str(folder.parent), thing_classes=["person", "car"])
    return metadata.name


@pytest.fixture
def name(tmp_path: Path) -> str:
    """Road on the left half, one car on the right."""
    numbers = np.full((40, 40), ROAD)
    numbers[:, 20:] = 1000 * CAR
    return register_picture(tmp_path, numbers)


def upper(columns: slice) -> torch.Tensor:
    """bool (40, 40): these columns of the upper half."""
    area = torch.zeros(40, 40, dtype=torch.bool)
    area[:20, columns] = True
    return area


LEFT_CAR, RIGHT_CAR = upper(slice(0, 16)), upper(slice(24, 40))


@pytest.fixture
def two_cars(tmp_path: Path) -> str:
    """A road, and two cars of 320 pixels on it."""
    numbers = np.full((40, 40), ROAD)
    numbers[LEFT_CAR], numbers[RIGHT_CAR] = 1000 * CAR, 1000 * CAR + 1
    return register_picture(tmp_path, numbers)


def semantic_scores(name: str, cars: torch.Tensor) -> dict[str, float]:
    """Scores of a prediction that calls `cars`, bool (40, 40), car and all else road."""
    pytest.importorskip("cityscapesscripts")
    scores = torch.zeros(19, 40, 40)
    scores[0][~cars] = 1
    scores[13][cars] = 1
    evaluator = CityscapesSemSegEvaluator(name)
    evaluator.reset()
    evaluator.process([INPUT], [{"sem_seg": scores}])
    return evaluator.evaluate()["sem_seg"]


def instance_scores(name: str, *cars: torch.Tensor) -> dict[str, float]:
    """Scores of these cars, bool (40, 40) each, the surest first."""
    pytest.importorskip("cityscapesscripts")
    instances = Instances((40, 40), pred_masks=torch.stack(cars))
    instances.pred_classes, instances.scores = torch.ones(len(cars)).long(), torch.linspace(0.9, 0.8, len(cars))
    evaluator = CityscapesInstanceEvaluator(name)
    evaluator.reset()
    evaluator.process([INPUT], [{"instances": instances}])
    return evaluator.evaluate()["segm"]


def from_column(left: int) -> torch.Tensor:
    """bool (40, 40): all columns from `left` on."""
    return (torch.arange(40) >= left).expand(40, 40)


def test_semantic_scores_are_those_of_the_official_package(name: str):
    # Half of the car is called road. Road: 800 of 1200 pixels; car: 400 of 800. The mean of the two is 7/12.
    assert semantic_scores(name, from_column(30))["IoU"] == pytest.approx(100 * 7 / 12)


def test_labels_that_equal_the_truth_score_100(two_cars: str):
    scores = semantic_scores(two_cars, LEFT_CAR | RIGHT_CAR)
    assert (scores["IoU"], scores["IoU_sup"]) == pytest.approx((100.0, 100.0))


def test_labels_without_one_car_score_by_their_pixels(two_cars: str):
    # Car: 320 of 640; road: 960 of 960 + 320; their mean.
    assert semantic_scores(two_cars, LEFT_CAR)["IoU"] == pytest.approx(100 * (320 / 640 + 960 / 1280) / 2)


@pytest.mark.parametrize(("left", "average_precision"), [(20, 100.0), (25, 50.0)])
def test_instance_scores_are_those_of_the_official_package(name: str, left: int, average_precision: float):
    # From 25 on the overlap is 3/4, which exceeds five of the ten thresholds: 0.5, 0.55, ... 0.7.
    assert instance_scores(name, from_column(left))["AP"] == pytest.approx(average_precision)


def test_instances_that_equal_the_truth_score_100(two_cars: str):
    assert instance_scores(two_cars, LEFT_CAR, RIGHT_CAR) == pytest.approx({"AP": 100.0, "AP50": 100.0})


def test_one_of_two_instances_scores_50(two_cars: str):
    # Precision 1 up to recall 1/2.
    assert instance_scores(two_cars, LEFT_CAR)["AP"] == pytest.approx(50.0)


def test_the_evaluators_leave_no_file_and_numpy_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = set(vars(np))
    instance_scores(name, from_column(20))
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
