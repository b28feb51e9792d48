"""Panoptic FPN: the merge of things and stuff, worked out by hand, and the semantic head beside Mask R-CNN's."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from mask2former_ext.models.panoptic_fpn import MergeOptions, merge_things_and_stuff
from mask2former_ext.models.pixel_classifier import pixel_labels
from tests.rcnn import NUM_LABELS, labeled, losses_of, panoptic_cfg, panoptic_model

LABELS = torch.tensor([[1, 1, 1, 1, 2, 2]] * 4)


def columns(first: int, last: int) -> torch.Tensor:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:, first:last] = True
    return mask


def merge(masks: list, scores: list, labels: torch.Tensor = LABELS, **changes):
    options = MergeOptions(**{"max_overlap": 0.5, "min_stuff_area": 4, "min_score": 0.5, **changes})
    stacked = torch.stack(masks) if masks else torch.zeros(0, 4, 6, dtype=torch.bool)
    return merge_things_and_stuff(stacked, torch.tensor(scores), torch.arange(7, 7 + len(scores)), labels, options)


def test_things_lie_before_stuff_and_come_first():
    ids, segments = merge([columns(0, 2)], [0.9])
    assert ids[0].tolist() == [1, 1, 2, 2, 3, 3] and ids.dtype == torch.int32
    assert segments == [
        {"id": 1, "isthing": True, "score": pytest.approx(0.9), "category_id": 7, "instance_id": 0},
        {"id": 2, "isthing": False, "category_id": 1, "area": 8},
        {"id": 3, "isthing": False, "category_id": 2, "area": 8},
    ]


def test_the_instance_with_the_higher_score_lies_before_the_other():
    ids, segments = merge([columns(0, 3), columns(2, 6)], [0.6, 0.9])
    assert ids[0].tolist() == [2, 2, 1, 1, 1, 1]
    assert [(s["category_id"], s["instance_id"]) for s in segments] == [(8, 1), (7, 0)]


@pytest.mark.parametrize(("last", "stays"), [(4, True), (3, False)])
def test_an_instance_of_which_more_than_half_is_taken_is_left_out(last, stays):
    # columns 1 and 2 are taken: of the columns 1 to 4 half, which is not more; of 1 to 3 two thirds
    _, segments = merge([columns(1, 3), columns(1, last + 1)], [0.9, 0.8])
    assert len([s for s in segments if s["isthing"]]) == 1 + stays


def test_an_instance_below_the_score_or_without_a_pixel_is_left_out():
    ids, segments = merge([columns(0, 2), columns(3, 3), columns(4, 6)], [0.4, 0.9, 0.5])
    assert [s["instance_id"] for s in segments if s["isthing"]] == [2]
    assert ids[0].tolist() == [2, 2, 2, 2, 1, 1]


def test_stuff_that_has_too_little_left_stays_empty():
    ids, segments = merge([columns(1, 6)], [0.9], min_stuff_area=5)  # 4 pixels of label 1 are left, none of label 2
    assert ids[0].tolist() == [0, 1, 1, 1, 1, 1] and len(segments) == 1


def test_pixels_that_the_semantic_head_calls_a_thing_stay_empty():
    ids, segments = merge([columns(0, 1)], [0.9], torch.tensor([[0, 0, 0, 3, 3, 3]] * 4))
    assert ids[0].tolist() == [1, 0, 0, 2, 2, 2] and segments[1]["category_id"] == 3


def test_without_instances_all_is_stuff():
    assert merge([], [])[0][0].tolist() == [1, 1, 1, 1, 2, 2]


# ----------------------------------------------------------------------------------------------------------- the model


@pytest.mark.slow
def test_things_stuff_and_both_are_answered_at_the_size_asked_for():
    result = panoptic_model()([labeled()])[0]
    assert result["sem_seg"].shape == (NUM_LABELS, 140, 150) and result["panoptic_seg"][0].shape == (140, 150)
    assert result["instances"].image_size == (140, 150)


def test_things_and_stuff_may_be_left_uncombined():
    assert set(panoptic_model("MODEL.PANOPTIC_FPN.COMBINE.ENABLED", False)([labeled()])[0]) == {"instances", "sem_seg"}


@pytest.mark.slow
def test_padding_and_ignored_pixels_have_no_semantic_loss():
    # 70 x 100 is padded to 96 x 128; with all labels ignored nothing is left
    model = panoptic_model()
    assert losses_of(model, labeled(255))["loss_sem_seg"] == 0
    half = labeled(1)
    half["sem_seg"][:, 50:] = 255
    logits = torch.zeros(1, NUM_LABELS, 96, 128)
    logits[..., 50:], logits[:, 1, 70:] = 9.0, 9.0  # would cost something if it counted
    model.sem_seg_head.forward = lambda _: logits
    model.sem_seg_head.stride = 1
    images = model.batch([half])
    loss = model.semantic_loss({}, pixel_labels([half], images, num_classes=NUM_LABELS, ignore_label=255))
    assert float(loss) == pytest.approx(float(torch.tensor(NUM_LABELS).log()))  # of four equal logits


@pytest.mark.slow
def test_weights_reach_the_losses_that_detectron2_gives_them_to():
    weights = ["MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 0.5, "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", 3.0]
    plain, weighted = losses_of(panoptic_model(), labeled()), losses_of(panoptic_model(*weights), labeled())
    expected = {
        "loss_sem_seg": 0.5,
        "loss_box_reg": 3,
        "loss_mask": 3,
        "loss_cls": 1,
        "loss_rpn_cls": 1,
        "loss_rpn_loc": 1,
    }
    assert {name: (weighted[name] / plain[name]).item() for name in plain} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sem_seg", "message"),
    [
        (None, "photo.jpg: a training input must hold 'sem_seg'"),
        (
            torch.full((70, 100), 4),
            r"photo.jpg: label 4 is in sem_seg, .* 4 classes \(0 to 3\), and 255 is what it ignores",
        ),
        (torch.zeros(70, 99), r"photo.jpg: sem_seg is of size \[70, 99\], but the image of \[70, 100\]"),
    ],
)
def test_labels_that_the_model_cannot_take_are_named(sem_seg, message):
    x = {key: value for key, value in {**labeled(), "sem_seg": sem_seg}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        panoptic_model().train()([x])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 8, "COMMON_STRIDE is 8, but p2 has stride 4"),
        ("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemSegHead", "SEM_SEG_HEAD.NAME is 'PointRendSemSegHead'"),
        ("MODEL.MASK_ON", False, "MASK_ON is False, but PanopticFeaturePyramid needs"),
    ],
)
def test_what_is_not_built_here_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        build_model(panoptic_cfg(key, value))
