"""The evaluators on a data set of two synthetic images. Category ids have gaps and mix things (dog 4, cat 9) with stuff
(grass 2, sky 7): contiguous classes grass 0, dog 1, sky 2, cat 3."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluators
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from mask2former_ext.data.targets.masks import encode_mask
from mask2former_ext.distributed import leave_process_group
from mask2former_ext.evaluation.build import build_evaluator
from mask2former_ext.evaluation.evaluators import InstanceEvaluator, PanopticEvaluator, SemanticEvaluator
from tests.two_images import (
    CLASS_OF_ID,
    HEADLINES,
    NAMES,
    SIZE,
    THING_OF_ID,
    box_of,
    evaluate,
    inputs_of,
    perfect_output,
    rgb,
    truth_of,
    write_instances,
    write_panoptic,
    write_semantic,
)


def config(panoptic: bool = True, instance: bool = True, semantic: bool = True) -> CfgNode:
    tasks = {"PANOPTIC_ON": panoptic, "INSTANCE_ON": instance, "SEMANTIC_ON": semantic}
    model = {"META_ARCHITECTURE": "Mask2Former", "MASK_CLASSIFIER": tasks}
    return CfgNode({"MODEL": model, "TEST": {"DETECTIONS_PER_IMAGE": 100}})


def test_panoptic_data_gives_every_metric_and_a_perfect_prediction_100(register, tmp_path):
    results = evaluate(build_evaluator(config(), register(write_panoptic(tmp_path))))
    assert list(results) == ["panoptic_seg", "bbox", "segm", "sem_seg"]
    figures = [results[task][key] for task, key in HEADLINES]
    assert figures == pytest.approx([100.0] * len(HEADLINES))


def test_only_tasks_that_are_on_are_scored(register, tmp_path):
    name = register(write_panoptic(tmp_path))
    assert list(evaluate(build_evaluator(config(instance=False, semantic=False), name))) == ["panoptic_seg"]


def test_only_tasks_that_have_truth_are_scored(register, tmp_path):
    assert list(evaluate(build_evaluator(config(), register({}, write_semantic(tmp_path))))) == ["sem_seg"]


def test_no_truth_for_any_task_is_an_error(register):
    with pytest.raises(ValueError, match="no truth for any task that the model answers: semantic, instance, panoptic"):
        build_evaluator(config(), register({}))


def test_a_half_right_prediction_scores_as_worked_by_hand(register, tmp_path):
    # The cat of image 1 is called dog: PQ dog 2 TP 1 FP -> 2/2.5, cat 1 FN -> 0; mIoU: the cat's 280 pixels are dog's.
    outputs = [perfect_output(0), perfect_output(1)]
    for segment in outputs[1]["panoptic_seg"][1]:
        segment["category_id"] = {3: 1}.get(segment["category_id"], segment["category_id"])
    outputs[1]["sem_seg"][1] += 2 * outputs[1]["sem_seg"][3]
    results = evaluate(build_evaluator(config(), register(write_panoptic(tmp_path))), outputs)
    assert results["panoptic_seg"]["PQ_th"] == pytest.approx(40.0)
    assert results["sem_seg"]["IoU-dog"] == pytest.approx(100 * 800 / 1080)
    assert results["sem_seg"]["IoU-cat"] == 0.0


def test_predicted_stuff_does_not_count_against_ap(register, tmp_path):
    output = perfect_output(1)
    stuff = Instances(SIZE, pred_boxes=Boxes(torch.tensor([[0.0, 0, 60, 20]])), scores=torch.tensor([1.0]))
    stuff.pred_masks, stuff.pred_classes = torch.ones(1, *SIZE, dtype=torch.bool), torch.tensor([2])
    output["instances"] = Instances.cat([output["instances"], stuff])
    results = evaluate(InstanceEvaluator(register(write_panoptic(tmp_path))), [perfect_output(0), output])
    assert results["segm"]["AP"] == pytest.approx(100.0)


def test_an_instances_json_counts_things_only_whatever_it_lists(register, tmp_path):
    results = evaluate(InstanceEvaluator(register(write_instances(tmp_path))))
    assert [key for key in results["segm"] if key.startswith("AP-")] == ["AP-dog", "AP-cat"]
    assert results["segm"]["AP"] == pytest.approx(100.0)


def test_an_instances_json_may_number_its_images_otherwise(register, tmp_path):
    # its image 1 is the data set's image 0
    name = register({**write_panoptic(tmp_path), **write_instances(tmp_path, first_image_id=1)})
    assert evaluate(InstanceEvaluator(name))["segm"]["AP"] == pytest.approx(100.0)


def test_annotations_of_the_records_serve_where_no_file_does(register):
    entries = []
    for number in (0, 1):
        ids, segments = truth_of(number)
        things = [(ids == s["id"], THING_OF_ID[s["category_id"]]) for s in segments if s["category_id"] in THING_OF_ID]
        form = {"bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
        annotations = [{**form, "category_id": k, "bbox": box_of(m), "segmentation": encode_mask(m)} for m, k in things]
        entries.append({"annotations": annotations})
    assert evaluate(InstanceEvaluator(register({}, entries)))["segm"]["AP"] == pytest.approx(100.0)


def test_things_and_stuff_in_separate_maps_are_told_apart(register, tmp_path):
    maps = {"stuff_dataset_id_to_contiguous_id": {2: 0, 7: 2}, "thing_classes": NAMES}
    results = evaluate(build_evaluator(config(), register({**write_panoptic(tmp_path), **maps})))
    assert [results[task][key] for task, key in HEADLINES] == pytest.approx([100.0] * len(HEADLINES))


def test_a_missing_instances_json_is_told_and_replaced(register, tmp_path, caplog):
    name = register({**write_panoptic(tmp_path), "json_file": str(tmp_path / "absent.json")})
    with caplog.at_level("WARNING"):
        evaluator = InstanceEvaluator(name)
    assert "absent.json" in caplog.text and "things of its panoptic truth" in caplog.text
    assert evaluate(evaluator)["segm"]["AP"] == pytest.approx(100.0)


def test_ids_in_the_png_that_the_json_lacks_are_named(register, tmp_path):
    name = register(write_panoptic(tmp_path))
    ids, _ = truth_of(1)
    ids[0, 50] = 12345
    Image.fromarray(rgb(ids)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1\.png and .*panoptic\.json: segment ids \[12345\]"):
        evaluate(PanopticEvaluator(name))


def test_a_label_outside_the_classes_names_the_file(register, tmp_path):
    name = register({}, write_semantic(tmp_path))
    Image.fromarray(np.full(SIZE, 77, dtype=np.uint8)).save(tmp_path / "1_labels.png")
    with pytest.raises(ValueError, match=r"1_labels\.png: labels \[77\] of the truth"):
        evaluate(SemanticEvaluator(name))


def test_an_image_without_panoptic_annotation_is_found_before_evaluation(register, tmp_path):
    name = register(write_panoptic(tmp_path), [{}, {"image_id": 99}])
    with pytest.raises(ValueError, match=r"panoptic\.json: no annotation for 1 images, first /images/1\.jpg"):
        PanopticEvaluator(name)


def test_a_thing_that_the_instances_json_lacks_is_found_before_evaluation(register, tmp_path):
    things = {"thing_dataset_id_to_contiguous_id": {4: 1, 55: 3}, "stuff_dataset_id_to_contiguous_id": {2: 0, 7: 2}}
    with pytest.raises(ValueError, match=r"instances\.json: things \[55\]"):
        InstanceEvaluator(register({**write_instances(tmp_path), **things}))


def test_a_model_of_other_classes_is_refused(register, tmp_path):
    output = {**perfect_output(0), "sem_seg": torch.zeros(7, *SIZE)}
    with pytest.raises(ValueError, match=r"0\.jpg: the model scores 7 classes, but data set synthetic has 4"):
        evaluate(SemanticEvaluator(register(write_panoptic(tmp_path))), [output])


def test_an_output_folder_that_cannot_be_made_is_named(register, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="output_dir .*file/below' cannot be written"):
        SemanticEvaluator(register(write_panoptic(tmp_path)), str(tmp_path / "file" / "below"))


def test_predictions_are_written_on_request(register, tmp_path):
    out = tmp_path / "out"
    evaluate(build_evaluator(config(), register(write_panoptic(tmp_path)), str(out)))
    assert {path.name for path in out.iterdir()} == {
        "predictions.json",
        "panoptic_predictions",
        "instances_predictions.pth",
        "coco_instances_results.json",
        "sem_seg_predictions.json",
        "sem_seg_evaluation.pth",
    }
    written = json.loads((out / "predictions.json").read_text())["annotations"][1]
    ids = np.asarray(Image.open(out / "panoptic_predictions" / written["file_name"])).astype(int) @ [1, 256, 65536]
    assert set(np.unique(ids).tolist()) - {0} == {segment["id"] for segment in written["segments_info"]}


def _evaluate_in_process(rank: int, folder: str, port: int) -> None:
    """Rank r evaluates image r of two; the first process writes what all found."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    _register_for_process(folder)
    evaluator = build_evaluator(config(), "made_for_two")
    evaluator.reset()
    evaluator.process([inputs_of(rank)], [wrong_in_places(rank)])
    results = evaluator.evaluate()
    if rank == 0:
        (Path(folder) / "results.json").write_text(json.dumps(results))
    leave_process_group()


def _register_for_process(folder: str) -> None:
    content = {"panoptic_json": f"{folder}/panoptic.json", "panoptic_root": folder}
    DatasetCatalog.register("made_for_two", lambda: [inputs_of(0), inputs_of(1)])
    MetadataCatalog.get("made_for_two").set(
        thing_classes=["dog", "cat"],
        stuff_classes=NAMES,
        thing_dataset_id_to_contiguous_id=THING_OF_ID,
        stuff_dataset_id_to_contiguous_id=CLASS_OF_ID,
        **content,
    )


def wrong_in_places(number: int) -> dict:
    output = perfect_output(number)
    ids, segments = output["panoptic_seg"]
    ids[30:, 20:] = segments[0]["id"]
    output["sem_seg"] = output["sem_seg"].roll(5, dims=1)
    output["instances"].pred_masks[:, :15] = False
    return output


@pytest.mark.slow
def test_two_processes_score_as_one(register, tmp_path):
    metadata = write_panoptic(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_evaluate_in_process, (str(tmp_path), port), nprocs=2)
    together = json.loads((tmp_path / "results.json").read_text())
    alone = evaluate(build_evaluator(config(), register(metadata)), [wrong_in_places(0), wrong_in_places(1)])
    assert together.keys() == alone.keys()
    for task, scores in alone.items():
        assert together[task] == pytest.approx(scores, nan_ok=True)


def test_evaluators_are_detectron2s(register, tmp_path):
    assert isinstance(build_evaluator(config(), register(write_panoptic(tmp_path))), DatasetEvaluators)
