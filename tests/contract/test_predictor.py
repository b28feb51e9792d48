"""One call of a Predictor with a task, or with another threshold than the configuration's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mask2former_ext import Predictor
from mask2former_ext.contract import Request
from tests.models import MODELS
from tests.rcnn import labeled, panoptic_model

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def predictor_of(name: str) -> Predictor:
    torch.manual_seed(0)
    cfg = MODELS[name]()
    cfg.INPUT.MIN_SIZE_TEST = 40
    return Predictor(cfg)


@pytest.mark.parametrize("name", ["mask2former_resnet", "oneformer_resnet"])
def test_one_task_alone_is_answered_as_it_is_among_the_others(name):
    predictor = predictor_of(name)
    alone, all_tasks = predictor(IMAGE, task="semantic"), predictor(IMAGE)
    assert set(alone) == {"sem_seg"} and set(all_tasks) > {"sem_seg"}
    assert torch.equal(alone["sem_seg"], all_tasks["sem_seg"])


def test_a_threshold_changes_what_is_found_in_this_call_alone():
    predictor = predictor_of("mask2former_resnet")
    before, between, after = predictor(IMAGE), predictor(IMAGE, threshold=1.0), predictor(IMAGE)
    assert len(before["panoptic_seg"][1]) > 0 and len(between["panoptic_seg"][1]) == 0
    assert len(before["instances"]) > 0 and len(between["instances"]) == 0
    assert after["panoptic_seg"][1] == before["panoptic_seg"][1]


def test_a_failed_call_leaves_the_thresholds_as_they_were():
    predictor = predictor_of("mask2former_resnet")
    before = predictor(IMAGE)["panoptic_seg"][1]
    with pytest.raises(ValueError, match="an image must be"):
        predictor([IMAGE, IMAGE[0]], threshold=1.0)
    assert predictor(IMAGE)["panoptic_seg"][1] == before


@pytest.mark.parametrize(
    ("question", "message"), [({"task": "depth"}, "task is 'depth'"), ({"threshold": 2}, "threshold is 2")]
)
def test_a_wrong_task_or_threshold_is_named(question, message):
    with pytest.raises(ValueError, match=message):
        predictor_of("mask2former_resnet")(IMAGE, **question)


def test_of_panoptic_fpn_the_threshold_is_the_least_score_of_a_thing():
    model = panoptic_model("MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0)
    has_things = [any(s["isthing"] for s in model([labeled()])[0]["panoptic_seg"][1])]
    (result,) = model.answer([labeled()], Request(("panoptic",), 1.0))
    has_things.append(any(s["isthing"] for s in result["panoptic_seg"][1]))
    has_things.append(any(s["isthing"] for s in model([labeled()])[0]["panoptic_seg"][1]))
    assert has_things == [True, False, True]


def test_of_mask_rcnn_a_lower_threshold_finds_more_in_this_call_alone():
    model = panoptic_model("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
    counts = [len(model([labeled()])[0]["instances"])]
    counts.append(len(model.answer([labeled()], Request(("instance",), 0.0))[0]["instances"]))
    counts.append(len(model([labeled()])[0]["instances"]))
    assert counts[0] == counts[2] == 0 < counts[1]


def test_a_threshold_of_pixels_leaves_the_things_as_they_are():
    model = panoptic_model("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
    assert len(model.answer([labeled()], Request(("semantic",), 0.0))[0]["instances"]) == 0


@pytest.mark.parametrize("size", [(1, 900), (900, 1)])
def test_an_image_that_is_too_thin_to_be_made_smaller_is_answered(size):
    predictor = predictor_of("mask2former_resnet")
    predictor.resize.max_size = 60
    assert predictor(np.zeros((*size, 3), dtype=np.uint8))["sem_seg"].shape[1:] == size


# Threads that share one predictor.


def counts(prediction: dict) -> tuple:
    """What a call's task and threshold decide: the keys, and how many instances and segments there are."""
    instances, segments = prediction.get("instances", ()), prediction.get("panoptic_seg", ((), ()))[1]
    return tuple(sorted(prediction)), len(instances), len(segments)


@pytest.mark.parametrize("name", ["mask2former_resnet", "oneformer_resnet", "maskformer_resnet"])
def test_threads_on_one_predictor_get_the_answers_of_their_own_requests(name):
    predictor = predictor_of(name)
    requests = [
        {"task": "instance", "threshold": 0.0},
        {"task": "panoptic", "threshold": 1.0},
        {"task": "semantic"},
        {},
    ]
    alone = [counts(predictor(IMAGE, **request)) for request in requests]
    with ThreadPoolExecutor(len(requests)) as threads:
        together = [
            list(threads.map(lambda request: counts(predictor(IMAGE, **request)), requests * 5)) for _ in range(2)
        ]
    assert len(set(alone)) == len(requests) and together == [alone * 5] * 2


def test_threads_on_panoptic_fpn_get_the_answers_of_their_own_thresholds():
    model = panoptic_model("MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0)
    requests = [Request(threshold=0.0), Request(threshold=1.0), Request(("semantic",), 0.0)]

    def answer(request: Request) -> tuple:
        with torch.inference_mode():
            return counts(model.answer([labeled()], request)[0])

    alone = [answer(request) for request in requests]
    with ThreadPoolExecutor(len(requests)) as threads:
        together = list(threads.map(answer, requests * 7))
    assert alone[0] != alone[1] and together == alone * 7


def test_a_model_that_knows_no_contract_is_called_as_it_is():
    predictor = predictor_of("mask2former_resnet")
    ours = predictor(IMAGE)
    foreign, ours_in_it = torch.nn.Module(), predictor.model
    foreign.forward = lambda inputs: ours_in_it(inputs)
    predictor.model = foreign
    assert predictor(IMAGE, threshold=1.0)["panoptic_seg"][1] == ours["panoptic_seg"][1]
