"""A Predictor asked for one task, or at another threshold than the configuration's, for one call."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_models import MODELS, _metadata  # noqa: F401  # the fixture registers their data set
from test_panoptic_fpn import labelled, panoptic_model

from mask2former_ext import Predictor

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
    ("question", "said"), [({"task": "depth"}, "task is 'depth'"), ({"threshold": 2}, "threshold is 2")]
)
def test_a_wrong_task_or_threshold_is_named(question, said):
    with pytest.raises(ValueError, match=said):
        predictor_of("mask2former_resnet")(IMAGE, **question)


def test_of_panoptic_fpn_the_threshold_is_the_least_score_of_a_thing():
    model = panoptic_model("MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.0)
    has_things = [any(s["isthing"] for s in model([labelled()])[0]["panoptic_seg"][1])]
    with model.asked("panoptic", 1.0):
        has_things.append(any(s["isthing"] for s in model([labelled()])[0]["panoptic_seg"][1]))
    has_things.append(any(s["isthing"] for s in model([labelled()])[0]["panoptic_seg"][1]))
    assert has_things == [True, False, True]
