"""Scores of models that number things (dog 0, cat 1) and stuff (grass 1, sky 2) apart, or that give boxes alone.

The data are those of tests/two_images.py, whose classes are numbered together: grass 0, dog 1, sky 2, cat 3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog

from mask2former_ext import add_config
from mask2former_ext.classes import to_metadata
from mask2former_ext.data.targets.separated import separate
from mask2former_ext.engine.trainer import results_table
from mask2former_ext.evaluation.build import build_evaluator
from mask2former_ext.evaluation.evaluators import InstanceEvaluator
from tests.two_images import (
    HEADLINES,
    class_map,
    evaluate,
    inputs_of,
    perfect_output,
    write_instances,
    write_panoptic,
    write_semantic,
)

THING_OF, LABEL_OF = {1: 0, 3: 1}, {0: 1, 1: 0, 2: 2, 3: 0}
AP = {"AP": 1.0, "AP50": 2.0, "AP75": 3.0, "APs": 4.0, "APm": 5.0, "APl": 6.0}


def config(architecture: str = "PanopticFeaturePyramid") -> CfgNode:
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = architecture
    return cfg


def separated_output(number: int) -> dict:
    """`perfect_output` as a model says it that numbers things and stuff apart."""
    output = perfect_output(number)
    output["instances"].pred_classes.apply_(THING_OF.get)
    for segment in output["panoptic_seg"][1]:
        segment["category_id"] = (THING_OF if segment["isthing"] else LABEL_OF)[segment["category_id"]]
    labels = torch.from_numpy(np.vectorize({**LABEL_OF, 255: 0}.get)(class_map(number)))
    output["sem_seg"] = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).float()
    return output


def outputs() -> list[dict]:
    return [separated_output(0), separated_output(1)]


def test_a_perfect_prediction_scores_100_in_every_metric(register, tmp_path: Path) -> None:
    results = evaluate(build_evaluator(config(), register(write_panoptic(tmp_path))), outputs())
    assert [results[task][key] for task, key in HEADLINES] == pytest.approx([100.0] * len(HEADLINES))
    assert results["sem_seg"]["IoU-things"] == pytest.approx(100.0)


def test_instances_and_labels_of_files_of_their_own_score_100_too(register, tmp_path: Path) -> None:
    name = register({**write_panoptic(tmp_path), **write_instances(tmp_path)}, write_semantic(tmp_path))
    results = evaluate(build_evaluator(config(), name), outputs())
    assert [results[task][key] for task, key in HEADLINES] == pytest.approx([100.0] * len(HEADLINES))


def test_a_set_that_is_separated_already_scores_100_too(register, tmp_path: Path) -> None:
    name = register(write_panoptic(tmp_path))
    files = {key: getattr(MetadataCatalog.get(name), key) for key in ("panoptic_json", "panoptic_root")}
    numbers = to_metadata(separate(name).classes)  # as Detectron2 lists them
    del numbers["class_table"]
    MetadataCatalog.remove("synthetic")
    MetadataCatalog.get("synthetic").set(**files, **numbers)
    results = evaluate(build_evaluator(config(), "synthetic"), outputs())
    assert [results[task][key] for task, key in HEADLINES] == pytest.approx([100.0] * len(HEADLINES))


def test_things_of_the_records_alone_are_scored_by_their_own_numbers(register) -> None:
    def entry(number: int) -> dict:
        found = perfect_output(number)["instances"]
        masks, classes = found.pred_masks.numpy().astype(np.uint8), found.pred_classes.tolist()
        return {"annotations": [{"category_id": k, "segmentation": m} for k, m in zip(classes, masks, strict=True)]}

    evaluator = build_evaluator(config("MaskRCNN"), register({}, [entry(0), entry(1)]))
    assert evaluate(evaluator, outputs())["segm"]["AP"] == pytest.approx(100.0)


def test_mask_rcnn_is_asked_for_instances_alone(register, tmp_path: Path) -> None:
    assert build_evaluator(config("MaskRCNN"), register(write_panoptic(tmp_path))).tasks == ("instance",)


def test_any_thing_is_no_class_of_a_segment(register, tmp_path: Path) -> None:
    output = separated_output(0)
    output["panoptic_seg"][1][0].update(category_id=0, isthing=False)
    evaluator = build_evaluator(config(), register(write_panoptic(tmp_path)))
    with pytest.raises(ValueError, match="predicted stuff class 0 is no class of stuff"):
        evaluate(evaluator, [output, separated_output(1)])


def without_masks(number: int) -> dict:
    instances = separated_output(number)["instances"]
    instances.remove("pred_masks")
    return {"instances": instances}


def test_boxes_alone_have_an_ap_of_boxes(register, tmp_path: Path) -> None:
    results = evaluate(
        build_evaluator(config("MaskRCNN"), register(write_instances(tmp_path))), [without_masks(0), without_masks(1)]
    )
    assert list(results) == ["bbox"] and results["bbox"]["AP"] == pytest.approx(100.0)
    assert results_table(results).split()[:3] == ["bbox", "AP", "100.000"]


def test_a_detector_that_finds_nothing_is_not_scored_by_masks(register, tmp_path: Path) -> None:
    nothing = [{"instances": without_masks(n)["instances"][[]]} for n in (0, 1)]
    results = evaluate(build_evaluator(config("MaskRCNN"), register(write_instances(tmp_path))), nothing)
    assert list(results) == ["bbox"] and results["bbox"]["AP"] == 0


def test_masks_are_not_scored_where_the_truth_has_boxes_alone(register, caplog) -> None:
    boxes = {"annotations": [{"category_id": 1, "bbox": [10, 10, 20, 20], "bbox_mode": 1}]}
    evaluator = InstanceEvaluator(register({}, [boxes, boxes]))
    assert list(evaluate(evaluator)) == ["bbox"]
    assert "The truth of synthetic has boxes without masks: AP of masks is not measured." in caplog.messages


@pytest.mark.parametrize(
    ("results", "table"),
    [
        ({"bbox": AP}, ["bbox"]),
        ({"val": {"bbox": AP, "segm": AP}, "test": {"segm": AP}}, ["val", "segm", "bbox", "test", "segm"]),
        ({"keypoints": {"AP": 1.0}, "bbox": AP, "sem_seg": {}}, ["bbox", "keypoints"]),
    ],
)
def test_the_table_has_a_line_for_each_task_that_was_scored(results: dict, table: list[str]) -> None:
    assert [line.split()[0] for line in results_table(results).splitlines()] == table


def test_predictions_of_labels_are_written_with_the_ids_of_the_data_set(register, tmp_path: Path) -> None:
    evaluator = build_evaluator(config(), register(write_panoptic(tmp_path)), str(tmp_path / "out"))
    evaluator.process([inputs_of(0)], [separated_output(0)])
    evaluator.evaluate()
    written = (tmp_path / "out" / "sem_seg_predictions.json").read_text()
    assert all(f'"category_id": {category}' in written for category in (0, 2, 7))  # any thing, grass, sky
