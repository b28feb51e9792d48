from __future__ import annotations

import json

import numpy as np
import pytest

from mask2former_ext.data.targets.masks import encode_mask
from mask2former_ext.evaluation.average_precision import coco_average_precision, in_memory_coco, load_coco

CAT, DOG = 3, 8


def box_mask(x: int, y: int, width: int, height: int) -> dict:
    mask = np.zeros((100, 100), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return encode_mask(mask)


def instance(category: int, box: tuple[int, int, int, int], **more: object) -> dict:
    area = box[2] * box[3]
    rest = {"iscrowd": 0, "area": area, **more}
    return {"image_id": 1, "category_id": category, "bbox": list(box), "segmentation": box_mask(*box), **rest}


def average_precision(truth: list[dict], results: list[dict], iou_type: str = "segm", **options: object) -> dict:
    images = [{"id": 1, "height": 100, "width": 100}]
    coco = in_memory_coco(images, truth, [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}])
    return coco_average_precision(coco, results, iou_type, **options)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_a_perfect_prediction_scores_100(iou_type):
    truth = [instance(CAT, (0, 0, 20, 20)), instance(DOG, (30, 30, 50, 50))]
    results = average_precision(truth, [{**t, "score": 0.9} for t in truth], iou_type)
    assert [results[key] for key in ("AP", "AP50", "AP75", "APs", "APm")] == pytest.approx([100.0] * 5)


def test_an_iou_of_070_counts_at_five_of_ten_thresholds():
    # 14 of 20 rows: IoU 0.7 passes 0.50, 0.55, 0.60, 0.65, 0.70
    results = average_precision([instance(CAT, (0, 0, 20, 20))], [instance(CAT, (0, 0, 20, 14), score=1.0)])
    assert (results["AP"], results["AP50"], results["AP75"]) == pytest.approx((50.0, 100.0, 0.0))


def test_a_false_positive_ranked_first_halves_precision():
    wrong, right = instance(CAT, (60, 60, 20, 20), score=0.9), instance(CAT, (0, 0, 20, 20), score=0.8)
    assert average_precision([instance(CAT, (0, 0, 20, 20))], [wrong, right])["AP"] == pytest.approx(50.0)


def test_a_missed_instance_ends_the_recall():
    # recall reaches 1/2: of the 101 recall points 0.00 ... 0.50 have precision 1
    truth = [instance(CAT, (0, 0, 20, 20)), instance(CAT, (60, 60, 20, 20))]
    assert average_precision(truth, [{**truth[0], "score": 1.0}])["AP"] == pytest.approx(100 * 51 / 101)


def test_a_prediction_inside_a_crowd_is_no_false_positive():
    truth = [instance(CAT, (0, 0, 20, 20)), instance(CAT, (40, 40, 50, 50), iscrowd=1)]
    inside = [instance(CAT, (45 + 5 * i, 45, 5, 5), score=0.9) for i in range(5)]
    assert average_precision(truth, [*inside, {**truth[0], "score": 0.5}])["AP"] == pytest.approx(100.0)


def test_results_beyond_max_dets_do_not_count():
    wrong, right = instance(CAT, (60, 60, 20, 20), score=0.9), instance(CAT, (0, 0, 20, 20), score=0.8)
    assert average_precision([instance(CAT, (0, 0, 20, 20))], [wrong, right], max_dets=1)["AP"] == 0.0


def test_the_size_of_an_object_is_the_area_of_its_mask():
    # the box is of medium size (40 x 40), the mask within is small (10 x 10)
    thin = {**instance(CAT, (0, 0, 10, 10)), "bbox": [0, 0, 40, 40]}
    assert average_precision([thin], [{**thin, "score": 1.0}])["APs"] == pytest.approx(100.0)


def test_per_class_scores_follow_the_order_of_the_given_categories():
    truth = [instance(CAT, (0, 0, 20, 20)), instance(DOG, (30, 30, 50, 50))]
    options = {"category_ids": [DOG, CAT], "class_names": ["dog", "cat"]}
    results = average_precision(truth, [{**truth[0], "score": 1.0}], **options)
    assert (results["AP-cat"], results["AP-dog"]) == pytest.approx((100.0, 0.0))


def test_categories_left_out_do_not_count():
    truth = [instance(CAT, (0, 0, 20, 20)), instance(DOG, (30, 30, 50, 50))]
    assert average_precision(truth, [{**truth[0], "score": 1.0}], category_ids=[CAT])["AP"] == pytest.approx(100.0)


def test_without_results_the_score_is_0_and_without_truth_nan():
    assert average_precision([instance(CAT, (0, 0, 20, 20))], [])["AP"] == 0.0
    assert np.isnan(average_precision([], [])["AP"])


def test_a_json_without_info_iscrowd_and_area_is_completed(tmp_path):
    polygon = {"id": 1, "image_id": 1, "category_id": CAT, "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]]}
    truth = {"images": [{"id": 1, "height": 100, "width": 100}], "annotations": [polygon], "categories": [{"id": CAT}]}
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    results = [instance(CAT, (0, 0, 20, 20), score=1.0)]
    assert coco_average_precision(load_coco(str(path)), results, "segm")["AP"] == pytest.approx(100.0)
