"""Detectron2's COCO, semantic and panoptic evaluators, real or embedded, against scores worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, LVISEvaluator, SemSegEvaluator
from detectron2.evaluation.coco_evaluation import _evaluate_predictions_on_coco, instances_to_coco_json
from detectron2.structures import Boxes, Instances
from PIL import Image

from tests.places import EMBEDDED

SIDE = 8
INPUT = {"file_name": "a.jpg", "image_id": 1, "height": SIDE, "width": SIDE}


def rectangle(x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


LEFT, RIGHT, TOP_LEFT = rectangle(0, 0, 4, 8), rectangle(4, 0, 8, 8), rectangle(0, 0, 4, 4)
ALL_CAT = {"sem_seg": torch.stack([torch.ones(SIDE, SIDE), torch.zeros(SIDE, SIDE)])}


@pytest.fixture
def dataset(tmp_path):
    """One 8 x 8 image: thing "cat" (category 7) on the left half, stuff "sky" (category 9) on the right half."""
    categories = [{"id": 7, "name": "cat", "isthing": 1}, {"id": 9, "name": "sky", "isthing": 0}]
    images = [{"id": 1, "file_name": "a.jpg", "height": SIDE, "width": SIDE}]
    cat = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 4, 8], "area": 32, "iscrowd": 0}
    cat["segmentation"] = [[0, 0, 4, 0, 4, 8, 0, 8]]
    instances = {"info": {}, "images": images, "annotations": [cat], "categories": categories[:1]}
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    segments = [{"id": i, "category_id": c["id"], "iscrowd": 0, "area": 32} for i, c in enumerate(categories, 1)]
    truth = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    panoptic = {"images": images, "annotations": truth, "categories": categories}
    (tmp_path / "panoptic.json").write_text(json.dumps(panoptic))
    ids = np.where(LEFT.numpy(), 1, 2).astype(np.uint8)
    Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=2)).save(tmp_path / "a.png")
    Image.fromarray(ids - 1).save(tmp_path / "semantic.png")

    name = f"evaluated_{tmp_path.name}"
    DatasetCatalog.register(name, lambda: [{**INPUT, "sem_seg_file_name": str(tmp_path / "semantic.png")}])
    MetadataCatalog.get(name).set(
        json_file=str(tmp_path / "instances.json"),
        panoptic_json=str(tmp_path / "panoptic.json"),
        panoptic_root=str(tmp_path),
        thing_classes=["cat"],
        stuff_classes=["cat", "sky"],
        thing_dataset_id_to_contiguous_id={7: 0},
        stuff_dataset_id_to_contiguous_id={7: 0, 9: 1},
        ignore_label=255,
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def evaluate(evaluator, output: dict) -> dict[str, dict[str, float]]:
    evaluator.reset()
    evaluator.process([INPUT], [output])
    return evaluator.evaluate()


def instances(mask: torch.Tensor, box: list[float], category: int = 0) -> Instances:
    found = Instances((SIDE, SIDE))
    found.pred_boxes, found.pred_masks = Boxes(torch.tensor([box])), mask[None]
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([category])
    return found


def test_perfect_instances_have_average_precision_100(dataset):
    results = evaluate(COCOEvaluator(dataset), {"instances": instances(LEFT, [0.0, 0.0, 4.0, 8.0])})
    assert results["segm"]["AP"] == results["bbox"]["AP"] == pytest.approx(100)


def test_mask_and_box_are_scored_apart(dataset):
    # The mask is the upper half of the cat: IoU 0.5, a hit at the first of ten thresholds. The box is exact.
    results = evaluate(COCOEvaluator(dataset), {"instances": instances(TOP_LEFT, [0.0, 0.0, 4.0, 8.0])})
    assert results["segm"]["AP"] == pytest.approx(10)
    assert results["segm"]["AP50"] == results["bbox"]["AP75"] == pytest.approx(100)


def test_average_precision_is_nan_without_truth_or_any_prediction(dataset):
    found = evaluate(COCOEvaluator(dataset), {"instances": instances(LEFT, [0.0, 0.0, 4.0, 8.0])})
    nothing = evaluate(COCOEvaluator(dataset), {"instances": instances(LEFT, [0.0, 0.0, 4.0, 8.0])[:0]})
    assert math.isnan(found["segm"]["APl"]) and math.isnan(nothing["bbox"]["AP"])


def test_a_predicted_class_that_the_data_lacks_is_an_error(dataset):
    with pytest.raises(AssertionError, match="class"):
        evaluate(COCOEvaluator(dataset), {"instances": instances(LEFT, [0.0, 0.0, 4.0, 8.0], category=1)})


def test_instances_become_results_in_cocos_form():
    (result,) = instances_to_coco_json(instances(LEFT, [1.0, 2.0, 4.0, 8.0]), img_id=5)
    assert (result["image_id"], result["category_id"], result["bbox"]) == (5, 0, [1.0, 2.0, 3.0, 6.0])
    assert result["segmentation"]["size"] == [SIDE, SIDE] and isinstance(result["segmentation"]["counts"], str)


def test_subclasses_of_other_repositories_reach_the_summarized_evaluation(dataset):
    evaluator = COCOEvaluator(dataset)
    results = instances_to_coco_json(instances(LEFT, [0.0, 0.0, 4.0, 8.0]), img_id=1)
    summarized = _evaluate_predictions_on_coco(evaluator._coco_api, [{**results[0], "category_id": 7}], "segm")
    assert summarized.stats[0] == pytest.approx(1)
    assert evaluator._derive_coco_results(summarized, "segm")["AP"] == pytest.approx(100)


def test_subclasses_of_other_repositories_keep_panoptic_predictions(panoptic_dataset):
    evaluator = COCOPanopticEvaluator(panoptic_dataset)
    evaluator.reset()
    evaluator._predictions.append(evaluator._convert_category_id({"id": 3, "category_id": 1, "isthing": False}))
    evaluator._predictions.append(evaluator._convert_category_id({"id": 4, "category_id": 7}))
    assert evaluator._predictions == [{"id": 3, "category_id": 9}, {"id": 4, "category_id": 7}]


def test_subclasses_of_other_repositories_read_the_classes(dataset):
    evaluator = SemSegEvaluator(dataset)
    assert list(evaluator._class_names) == ["cat", "sky"] and evaluator._logger.name.startswith("detectron2")


def test_predictions_are_written_with_the_category_ids_of_the_data(dataset, tmp_path):
    evaluate(COCOEvaluator(dataset, output_dir=str(tmp_path)), {"instances": instances(LEFT, [0.0, 0.0, 4.0, 8.0])})
    (result,) = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert result["category_id"] == 7


def test_semantic_scores_count_pixels(dataset):
    # All is called cat: 32 of 64 pixels right. IoU cat 32/64, sky 0; accuracies 1 and 0; both weigh one half.
    scores = evaluate(SemSegEvaluator(dataset), ALL_CAT)["sem_seg"]
    expected = {"mIoU": 25, "fwIoU": 25, "mACC": 50, "pACC": 50, "IoU-cat": 50, "IoU-sky": 0, "ACC-cat": 100}
    assert {key: scores[key] for key in expected} == pytest.approx(expected)


def test_ignored_pixels_do_not_count(dataset):
    scores = evaluate(SemSegEvaluator(dataset, ignore_label=1), ALL_CAT)["sem_seg"]
    assert scores["pACC"] == pytest.approx(100)


def panoptic(ids: torch.Tensor, segments: list[dict] | None) -> dict:
    return {"panoptic_seg": (ids.to(torch.int32), segments)}


@pytest.fixture
def panoptic_dataset(dataset):
    if not EMBEDDED:
        pytest.importorskip("panopticapi", reason="Detectron2's own panoptic evaluator needs panopticapi")
    return dataset


def test_panoptic_quality_of_a_missed_part(panoptic_dataset):
    # The cat is exact; the sky is called cat as well, which leaves one false positive and one false negative:
    # cat SQ 1, RQ 1 / 1.5; sky 0.
    segments = [{"id": 4, "category_id": 0, "isthing": True}, {"id": 6, "category_id": 0, "isthing": True}]
    ids = 4 * LEFT.int() + 6 * RIGHT.int()
    scores = evaluate(COCOPanopticEvaluator(panoptic_dataset), panoptic(ids, segments))["panoptic_seg"]
    expected = {"PQ": 100 / 3, "SQ": 50, "RQ": 100 / 3, "PQ_th": 200 / 3, "SQ_th": 100, "PQ_st": 0, "RQ_st": 0}
    assert {key: scores[key] for key in expected} == pytest.approx(expected)


def test_panoptic_labels_without_segments_are_taken_apart(panoptic_dataset):
    # Category x 10 + instance; 0 and 12 are the cat and the sky.
    MetadataCatalog.get(panoptic_dataset).label_divisor = 10
    scores = evaluate(COCOPanopticEvaluator(panoptic_dataset), panoptic(12 * RIGHT.int(), None))["panoptic_seg"]
    assert scores["PQ"] == pytest.approx(100)


@pytest.mark.skipif(not EMBEDDED, reason="the real Detectron2 has it")
def test_an_evaluator_that_is_left_out_says_how_to_install_the_real_one():
    with pytest.raises(ImportError, match="facebookresearch/detectron2"):
        LVISEvaluator("lvis_v1_val")
