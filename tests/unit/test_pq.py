from __future__ import annotations

import numpy as np
import pytest

from mask2former_ext.evaluation.panoptic_quality import PanopticQuality
from tests.reference import MeanColorSegmenter, slow_panoptic_quality

THING, OTHER_THING, STUFF = 1, 2, 7
IS_THING = {THING: True, OTHER_THING: True, STUFF: False}


def row(*runs: tuple[int, int]) -> np.ndarray:
    """An image one pixel high: (id, length) runs."""
    return np.concatenate([np.full(length, segment_id) for segment_id, length in runs])[None]


def segments(*entries: tuple) -> list[dict]:
    """(id, category) or (id, category, "crowd")."""
    return [{"id": entry[0], "category_id": entry[1], "iscrowd": int(len(entry) == 3)} for entry in entries]


def score(pred: np.ndarray, pred_segments: list, true: np.ndarray, true_segments: list) -> PanopticQuality:
    quality = PanopticQuality(IS_THING)
    quality.update(pred, pred_segments, true, true_segments, "a.png")
    return quality


def test_a_perfect_prediction_scores_100():
    ids, listed = row((1, 4), (2, 3), (3, 5)), segments((1, THING), (2, OTHER_THING), (3, STUFF))
    assert set(score(ids, listed, ids, listed).compute().values()) == {100.0}


def test_pq_is_sq_times_rq():
    # thing: 6 of 10 pixels in common -> IoU 6/10, the second true thing is missed: SQ 60, RQ 1 / 1.5, PQ 40
    quality = score(row((1, 6), (0, 14)), segments((1, THING)), row((5, 10), (6, 10)), segments((5, THING), (6, THING)))
    assert quality.per_category()[THING] == pytest.approx({"PQ": 40.0, "SQ": 60.0, "RQ": 100 / 1.5})


def test_an_iou_of_one_half_is_no_match():
    quality = score(row((1, 5), (0, 5)), segments((1, THING)), row((1, 10)), segments((1, THING)))
    assert quality.state[:, 0].tolist() == [0, 1, 1, 0]


def test_a_segment_of_another_category_is_no_match():
    quality = score(row((1, 10)), segments((1, OTHER_THING)), row((1, 10)), segments((1, THING)))
    assert quality.state[:3].T.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_void_pixels_leave_the_union():
    # prediction of 10 covers the 6 of the truth and 4 of void: IoU 6 / (10 + 6 - 6 - 4) = 1
    quality = score(row((1, 10)), segments((1, THING)), row((3, 6), (0, 4)), segments((3, THING)))
    assert quality.state[:, 0].tolist() == [1, 0, 0, 1.0]


@pytest.mark.parametrize(("on_void", "false_positives"), [(5, 1), (6, 0)])
def test_a_prediction_mostly_on_void_is_no_false_positive(on_void, false_positives):
    true = row((0, on_void), (9, 10 - on_void))
    quality = score(row((1, 10)), segments((1, THING)), true, segments((9, STUFF)))
    assert quality.state[1, 0] == false_positives


@pytest.mark.parametrize(("category", "false_positives"), [(THING, 0), (OTHER_THING, 1)])
def test_a_crowd_excuses_predictions_of_its_own_category_only(category, false_positives):
    quality = score(row((1, 10)), segments((1, category)), row((4, 10)), segments((4, THING, "crowd")))
    assert quality.state[1].sum() == false_positives


def test_void_and_crowd_excuse_together():
    # 3 pixels of void and 3 of crowd are more than half of 10
    true, listed = row((0, 3), (4, 3), (5, 4)), segments((4, THING, "crowd"), (5, STUFF))
    assert score(row((1, 10)), segments((1, THING)), true, listed).state[1, 0] == 0


def test_a_crowd_is_never_matched_nor_missed():
    quality = score(row((1, 10)), segments((1, THING)), row((4, 10)), segments((4, THING, "crowd")))
    assert not quality.state.any()


def test_a_group_without_truth_or_prediction_is_nan():
    results = score(row((1, 10)), segments((1, THING)), row((4, 10)), segments((4, THING))).compute()
    assert results["PQ"] == results["PQ_th"] == 100.0
    assert np.isnan([results["PQ_st"], results["SQ_st"], results["RQ_st"]]).all()


def test_written_areas_are_not_believed():
    true = [{"id": 3, "category_id": THING, "iscrowd": 0, "area": 1}]
    assert score(row((1, 10)), segments((1, THING)), row((3, 10)), true).compute()["PQ_th"] == 100.0


def test_ids_without_entry_are_named():
    with pytest.raises(ValueError, match=r"a\.png: truth: segment ids \[8\] have pixels but no entry"):
        score(row((1, 5)), segments((1, THING)), row((4, 2), (8, 3)), segments((4, THING)))


def test_entries_without_pixels_are_named():
    with pytest.raises(ValueError, match=r"a\.png: prediction: segment ids \[2\] .* no pixel"):
        score(row((1, 5)), segments((1, THING), (2, STUFF)), row((4, 5)), segments((4, THING)))


def test_unknown_categories_are_named():
    with pytest.raises(ValueError, match=r"a\.png: prediction: category ids \[99\]"):
        score(row((1, 5)), segments((1, 99)), row((4, 5)), segments((4, THING)))


def test_maps_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"a\.png: the prediction is \(1, 5\) pixels, the truth \(1, 6\)"):
        score(row((1, 5)), segments((1, THING)), row((4, 6)), segments((4, THING)))


def random_case(rng: np.random.Generator, categories: list[int], crowd: bool) -> tuple:
    """A truth of coarse blocks with void, and a prediction that repeats it with noise and changed categories."""
    true = np.kron(rng.integers(0, 6, (3, 4)), np.ones((3, 3), dtype=int))
    pred = np.where(rng.random(true.shape) < 0.3, rng.integers(0, 7, true.shape), true)
    true_category = {i: int(rng.choice(categories)) for i in range(1, 6)}
    pred_category = {i: c if rng.random() < 0.8 else int(rng.choice(categories)) for i, c in true_category.items()}
    pred_category[6] = int(rng.choice(categories))
    true_segments = [segment for segment in segments(*true_category.items()) if segment["id"] in true]
    for segment in true_segments:
        segment["iscrowd"] = int(crowd and rng.random() < 0.3)
    return pred, [s for s in segments(*pred_category.items()) if s["id"] in pred], true, true_segments


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_loops_on_void_and_crowd(seed):
    rng = np.random.default_rng(seed)
    cases = [random_case(rng, list(IS_THING), crowd=True) for _ in range(5)]
    quality = PanopticQuality(IS_THING)
    for case in cases:
        quality.update(*case)
    assert quality.compute() == pytest.approx(slow_panoptic_quality(cases, IS_THING), nan_ok=True)


def as_torchmetrics(ids: np.ndarray, listed: list[dict]) -> np.ndarray:
    """(H, W) ids -> (1, H, W, 2) of category and instance; a category that is neither thing nor stuff is void."""
    category = {0: 0, **{s["id"]: s["category_id"] for s in listed}}
    return np.stack([np.vectorize(category.get)(ids), ids], axis=-1)[None]


def test_agrees_with_torchmetrics_on_200_cases_without_crowd():
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchmetrics.detection")
    rng, ours, theirs = np.random.default_rng(0), [], []
    for _ in range(200):
        # torchmetrics takes void out of predictions too, panopticapi does not: the prediction leaves no pixel empty.
        # Id 9 is the one segment of the stuff category.
        pred, pred_segments, true, true_segments = random_case(rng, [THING, OTHER_THING], crowd=False)
        pred[pred == 0], true[true == 5] = 6, 9
        pred[pred == 5] = 9
        pred_segments = listed_in(pred, pred_segments, {6: THING, 9: STUFF})
        true_segments = listed_in(true, true_segments, {9: STUFF})
        results = score(pred, pred_segments, true, true_segments).compute()
        ours.append([results["PQ"], results["SQ"], results["RQ"]])
        metric = detection.PanopticQuality({THING, OTHER_THING}, {STUFF}, return_sq_and_rq=True)
        metric.update(*(torch.tensor(as_torchmetrics(*m)) for m in ((pred, pred_segments), (true, true_segments))))
        theirs.append((100 * metric.compute().double()).tolist())
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def listed_in(ids: np.ndarray, known: list[dict], more: dict[int, int]) -> list[dict]:
    """The segments that have pixels in `ids`, with the categories of `known` or else of `more`."""
    category = {**more, **{s["id"]: s["category_id"] for s in known}}
    return segments(*((i, category[i]) for i in np.unique(ids).tolist() if i))


def test_states_of_two_halves_add_up():
    rng = np.random.default_rng(1)
    cases = [random_case(rng, list(IS_THING), crowd=True) for _ in range(8)]
    whole, halves = PanopticQuality(IS_THING), [PanopticQuality(IS_THING), PanopticQuality(IS_THING)]
    for number, case in enumerate(cases):
        whole.update(*case)
        halves[number % 2].update(*case)
    np.testing.assert_allclose(halves[0].state + halves[1].state, whole.state)


def test_the_mean_color_segmenter_splits_blobs_of_a_thing():
    image = np.zeros((8, 20, 3), dtype=np.uint8)
    image[2:7, 2:7] = image[2:7, 12:17] = 200
    segmenter = MeanColorSegmenter([image], [(image[..., 0] > 0).astype(int)], [False, True])
    ids, listed = segmenter.panoptic(image)
    assert [s["category_id"] for s in listed] == [0, 1, 1]
    assert ids[3, 3] != ids[3, 13]
