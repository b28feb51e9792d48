from __future__ import annotations

import numpy as np
import pytest

from mask2former_ext.evaluation.confusion_matrix import ConfusionMatrix

NAMES = ["sky", "road", "car"]


def scores(pred: list, truth: list, ignore_label: int | None = 255) -> dict[str, float]:
    matrix = ConfusionMatrix(3, ignore_label)
    matrix.update(np.array([pred]), np.array([truth]))
    return matrix.compute(NAMES)


def test_scores_of_ten_pixels_worked_by_hand():
    # truth: 6 sky, 4 road. Of sky 5 are hit and 1 called road; of road 3 are hit and 1 called sky.
    # IoU sky 5/7, road 3/5; accuracy sky 5/6, road 3/4
    results = scores([0] * 5 + [1] + [1] * 3 + [0], [0] * 6 + [1] * 4)
    expected = {
        "mIoU": (5 / 7 + 3 / 5) / 2,
        "fwIoU": 0.6 * 5 / 7 + 0.4 * 3 / 5,
        "mACC": (5 / 6 + 3 / 4) / 2,
        "pACC": 8 / 10,
        "IoU-sky": 5 / 7,
        "ACC-road": 3 / 4,
    }
    assert {key: results[key] for key in expected} == pytest.approx({key: 100 * v for key, v in expected.items()})


def test_a_class_absent_from_the_truth_is_in_no_mean():
    # one road pixel is called car: road 1/2, car is not in the truth
    results = scores([0, 0, 1, 2], [0, 0, 1, 1])
    assert results["mIoU"] == pytest.approx(100 * (1 + 1 / 2) / 2)
    assert np.isnan(results["IoU-car"]) and np.isnan(results["ACC-car"])


def test_ignored_pixels_do_not_count_whatever_was_predicted():
    assert scores([0, 0, 1, 2], [0, 0, 1, 255])["mIoU"] == 100.0


def test_the_ignore_label_may_be_the_number_of_classes():
    assert scores([0, 1, 2], [0, 1, 3], ignore_label=3)["pACC"] == 100.0


def test_without_any_truth_all_scores_are_nan():
    assert np.isnan(list(scores([0, 1], [255, 255]).values())).all()


def test_keys_are_those_of_detectron2():
    per_class = [f"{kind}-{name}" for kind in ("IoU", "ACC") for name in NAMES]
    assert list(scores([0], [0])) == ["mIoU", "fwIoU", *per_class[:3], "mACC", "pACC", *per_class[3:]]


def test_labels_outside_the_classes_are_named():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"b\.png: labels \[3, 200\] of the truth are outside \[0, 3\)"):
        matrix.update(np.zeros((1, 4), int), np.array([[0, 3, 200, 255]]), "b.png")


def test_maps_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"b\.png: the prediction is \(1, 4\) pixels, the truth \(4, 1\)"):
        ConfusionMatrix(3).update(np.zeros((1, 4), int), np.zeros((4, 1), int), "b.png")


def test_matrices_of_two_halves_add_up():
    rng = np.random.default_rng(0)
    pred, truth = rng.integers(0, 3, (2, 20, 20))
    whole, half = ConfusionMatrix(3), ConfusionMatrix(3)
    whole.update(pred, truth)
    half.update(pred[:10], truth[:10])
    half.update(pred[10:], truth[10:])
    np.testing.assert_array_equal(half.matrix, whole.matrix)
