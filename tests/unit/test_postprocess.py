"""Inference as pure functions, on masks small enough to work out by hand."""

from __future__ import annotations

import pytest
import torch

from mask2former_ext import postprocess
from mask2former_ext.postprocess import (
    ResizedMasks,
    boxes_of_masks,
    instance_inference,
    panoptic_inference,
    semantic_inference,
)

SURE = 40.0
LEFT = torch.tensor([[1, 1, 0, 0]] * 4).bool()
RIGHT = ~LEFT
IS_THING = torch.tensor([True, False])  # class 0 is a thing, class 1 stuff


def classes(*labels: int) -> torch.Tensor:
    """Logits (Q, 3) certain of the given label; 2 is "no object"."""
    return torch.nn.functional.one_hot(torch.tensor(labels), 3).float() * SURE


def masks(*binary: torch.Tensor) -> ResizedMasks:
    return ResizedMasks(torch.stack([torch.where(x, SURE, -SURE) for x in binary]))


def panoptic(class_logits, mask_logits, **changes):
    options = {"min_class_prob": 0.5, "min_visible_fraction": 0.8, "min_pixel_prob": 0.5, **changes}
    return panoptic_inference(class_logits, mask_logits, IS_THING, **options)


def test_two_things_of_one_class_are_two_segments():
    ids, segments = panoptic(classes(0, 0), masks(LEFT, RIGHT))
    assert ids[0].tolist() == [1, 1, 2, 2]
    assert [(s["id"], s["category_id"], s["isthing"]) for s in segments] == [(1, 0, True), (2, 0, True)]


def test_two_stuff_queries_of_one_class_become_one_segment():
    ids, segments = panoptic(classes(1, 1), masks(LEFT, RIGHT))
    assert ids.unique().tolist() == [1] and len(segments) == 1 and not segments[0]["isthing"]


def test_a_query_without_an_object_takes_no_pixel():
    ids, segments = panoptic(classes(2, 0), masks(LEFT | RIGHT, RIGHT))
    assert ids[0].tolist() == [0, 0, 1, 1] and len(segments) == 1


def test_a_query_below_the_class_probability_takes_no_pixel():
    ids, segments = panoptic(torch.zeros(1, 3), masks(LEFT))  # probability 1/3 each
    assert not ids.any() and segments == []


def test_a_mostly_hidden_segment_is_dropped():
    # query 1 claims all 16 pixels but wins only the right 8, half of its mask: below the fraction 0.8
    logits = torch.stack([torch.where(LEFT, SURE, -SURE), torch.full((4, 4), 1.0)])
    ids, segments = panoptic(classes(0, 0), ResizedMasks(logits))
    assert ids[0].tolist() == [1, 1, 0, 0] and len(segments) == 1


def test_pixels_below_the_pixel_probability_stay_empty():
    logits = torch.where(LEFT, SURE, -0.1)[None]  # probability 0.475 on the right
    assert panoptic(classes(0), ResizedMasks(logits))[0][0].tolist() == [1, 1, 0, 0]
    assert panoptic(classes(0), ResizedMasks(logits), min_pixel_prob=0.0, min_visible_fraction=0.0)[0].all()


def test_semantic_scores_sum_class_times_mask_probability():
    # query 0: class 0 with 1/2 on the left; query 1: class 0 with 1/4 everywhere -> left 3/4, right 1/4
    logits = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 2.0]]).log()
    scores = semantic_inference(logits, masks(LEFT, LEFT | RIGHT))
    torch.testing.assert_close(scores[0, 0], torch.tensor([0.75, 0.75, 0.25, 0.25]))


def test_instance_score_is_class_probability_times_mean_mask_probability():
    # mask probability 0.8 on the left, below 0.5 elsewhere; class 0 with probability 1
    logits = torch.where(LEFT, torch.tensor(0.8).logit(), -SURE)[None]
    found = instance_inference(classes(0), ResizedMasks(logits), max_instances=1)
    assert found.scores.tolist() == pytest.approx([0.8], abs=1e-4)
    assert torch.equal(found.masks[0], LEFT) and found.boxes.tolist() == [[0, 0, 2, 4]]


def test_classes_are_dropped_only_after_the_best_pairs_were_taken():
    # the best pair is of stuff (class 1): with one detection allowed nothing is left, with two the thing is
    logits = torch.tensor([[0.0, 5.0, 0.0], [3.0, 0.0, 0.0]])
    one = instance_inference(logits, masks(LEFT, RIGHT), max_instances=1, keep_class=IS_THING)
    two = instance_inference(logits, masks(LEFT, RIGHT), max_instances=2, keep_class=IS_THING)
    assert len(one.scores) == 0 and two.classes.tolist() == [0]


def test_instances_come_by_descending_score():
    found = instance_inference(torch.randn(6, 4), ResizedMasks(torch.randn(6, 5, 7)), max_instances=10)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True) and len(found.masks) == 10


def test_boxes_bound_the_mask_and_are_zero_for_an_empty_one():
    binary = torch.zeros(2, 5, 6, dtype=torch.bool)
    binary[0, 1:4, 2] = True
    assert boxes_of_masks(binary).tolist() == [[2, 1, 3, 4], [0, 0, 0, 0]]


def test_no_instances_give_empty_tensors_of_the_right_form():
    found = instance_inference(classes(1), masks(LEFT), max_instances=1, keep_class=IS_THING)
    assert found.masks.shape == (0, 4, 4) and found.boxes.shape == (0, 4)


def test_masks_are_resized_in_two_steps_and_the_padding_is_cut():
    # 2 x 2 logits, padded canvas 8 x 8 of which the image is the left 8 x 2: the right half never shows
    logits = torch.tensor([[[SURE, -SURE], [SURE, -SURE]]])
    resized = ResizedMasks(logits, (8, 8), (8, 2), (4, 1))
    (_, enlarged), *_ = resized.chunks(torch.tensor([0]))
    assert enlarged.shape == (1, 4, 1) and (enlarged == 1).all()


def test_results_do_not_depend_on_the_memory_that_is_allowed(monkeypatch):
    torch.manual_seed(0)
    class_logits, mask_logits = torch.randn(9, 3) * 3, torch.randn(9, 6, 5) * 3
    sizes = ((24, 20), (22, 19), (31, 40))

    def run():
        return (
            semantic_inference(class_logits, ResizedMasks(mask_logits, *sizes)),
            panoptic(class_logits, ResizedMasks(mask_logits, *sizes), min_visible_fraction=0.2)[0],
            instance_inference(class_logits, ResizedMasks(mask_logits, *sizes), max_instances=7).masks,
        )

    whole = run()
    monkeypatch.setattr(postprocess, "KEEP_BYTES", 0)
    monkeypatch.setattr(postprocess, "CHUNK_BYTES", 2 * 4 * 31 * 40)
    for a, b in zip(whole, run(), strict=True):
        torch.testing.assert_close(a, b)
