"""Boxes relative to others: anchors, deltas, matching and sampling, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mask2former_ext.layers.rcnn import boxes as boxes_module
from mask2former_ext.layers.rcnn.anchors import AnchorGrid, cell_anchors
from mask2former_ext.layers.rcnn.boxes import BoxCoder, ExampleSampler, touching

REFERENCE = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
# Center (5, 10) -> (10, 20): half a width and half a height further; as wide, twice as high.
BOX = torch.tensor([[5.0, 0.0, 15.0, 40.0]])
DELTAS = [0.5, 0.5, 0.0, math.log(2)]
RPN = ExampleSampler([0.3, 0.7], [0, -1, 1], num_samples=256, positive_fraction=0.5)


def random_boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2) * 80
    return torch.cat((corner, corner + 1 + torch.rand(count, 2) * 40), dim=1)


# ------------------------------------------------------------------------------------------------------------- anchors


def test_an_anchor_has_the_area_and_the_ratio_asked_for():
    # ratio is height / width: 32 x 32 pixels of area as 45.25 x 22.63, 32 x 32 and 22.63 x 45.25
    width = 32 / math.sqrt(0.5)
    expected = torch.tensor([[width, width / 2], [32, 32], [width / 2, width]])
    anchors = cell_anchors([32], [0.5, 1.0, 2.0])
    torch.testing.assert_close(anchors[:, 2:] - anchors[:, :2], expected)
    torch.testing.assert_close(anchors[:, 2:], -anchors[:, :2])


def test_anchors_stand_row_by_row_with_those_of_a_cell_together():
    grid = AnchorGrid([[2, 4]], [[1.0]], strides=[8], offset=0.0)
    (anchors,) = grid([(2, 2)])
    centers = ((anchors[:, :2] + anchors[:, 2:]) / 2).tolist()
    assert centers == [[0, 0], [0, 0], [8, 0], [8, 0], [0, 8], [0, 8], [8, 8], [8, 8]]
    assert (anchors[:, 2] - anchors[:, 0]).tolist() == [2, 4] * 4


def test_an_offset_moves_anchors_by_a_part_of_the_stride():
    (anchors,) = AnchorGrid([[2]], [[1.0]], strides=[8], offset=0.5)([(1, 2)])
    assert anchors.tolist() == [[3, 3, 5, 5], [11, 3, 13, 5]]


def test_sizes_of_each_level_and_ratios_of_all():
    first, second = AnchorGrid([[2], [4]], [[1.0]], strides=[4, 8], offset=0.0)([(1, 1), (1, 1)])
    assert first.tolist() == [[-1, -1, 1, 1]] and second.tolist() == [[-2, -2, 2, 2]]


def test_corners_may_be_rounded_to_pixels():
    (anchors,) = AnchorGrid([[32]], [[0.5]], strides=[4], offset=0.0, rounded=True)([(1, 1)])
    assert anchors.tolist() == [[-23, -11, 23, 11]]  # of 45.25 x 22.63


@pytest.mark.parametrize(
    ("sizes", "offset", "message"),
    [
        ([[2], [4], [8]], 0.0, "SIZES has 3 entries, but must have 1 or one for each of the 2 maps"),
        ([[2], [4, 8]], 0.0, r"levels have \[1, 2\] anchors a cell"),
        ([[2]], 1.0, "OFFSET is 1.0"),
    ],
)
def test_anchors_that_no_head_can_serve_are_refused(sizes, offset, message):
    with pytest.raises(ValueError, match=message):
        AnchorGrid(sizes, [[1.0]], strides=[4, 8], offset=offset)


# -------------------------------------------------------------------------------------------------------------- deltas


def test_deltas_are_shifts_in_sizes_and_logarithms_of_ratios():
    torch.testing.assert_close(BoxCoder([1, 1, 1, 1]).encode(BOX, REFERENCE)[0], torch.tensor(DELTAS))


def test_weights_multiply_deltas():
    expected = torch.tensor([5.0, 5.0, 0.0, 5 * math.log(2)])
    torch.testing.assert_close(BoxCoder([10, 10, 5, 5]).encode(BOX, REFERENCE)[0], expected)


def test_decoding_gives_the_box_that_was_encoded():
    coder, boxes, reference = BoxCoder([10, 10, 5, 5]), random_boxes(50), random_boxes(50)
    torch.testing.assert_close(coder.decode(coder.encode(boxes, reference), reference), boxes, atol=1e-3, rtol=1e-5)


def test_one_reference_serves_the_deltas_of_all_classes():
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 1, 0] = 1.0  # the second class moves by one width
    boxes = BoxCoder([1, 1, 1, 1]).decode(deltas, REFERENCE[:, None])
    assert boxes[0].tolist() == [[0, 0, 10, 20], [10, 0, 20, 20], [0, 0, 10, 20]]


def test_a_box_grows_to_at_most_a_thousand_sixteenths_of_its_reference():
    width = BoxCoder([1, 1, 1, 1]).decode(torch.tensor([[0.0, 0.0, 100.0, 0.0]]), REFERENCE)[0]
    assert float(width[2] - width[0]) == pytest.approx(10 * 1000 / 16)


def test_smooth_l1_is_quadratic_below_beta_and_plain_for_beta_0():
    # one difference of 0.5, one of 2: with beta 1, 0.5 * 0.25 + (2 - 0.5); without, 0.5 + 2
    deltas = torch.tensor([[0.5, 2.0, 0.0, 0.0]])
    losses = [BoxCoder([1, 1, 1, 1], beta=beta).loss(deltas, REFERENCE, REFERENCE) for beta in (1.0, 0.0)]
    assert [float(loss) for loss in losses] == pytest.approx([1.625, 2.5])


def test_giou_of_two_boxes_side_by_side():
    # no overlap; union 200 + 200 in a hull of 30 x 20 = 600: 1 - (0 - (600 - 400) / 600) = 4/3
    deltas = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    assert float(BoxCoder([1, 1, 1, 1], "giou").loss(deltas, REFERENCE, REFERENCE)) == pytest.approx(4 / 3, abs=1e-5)


@pytest.mark.parametrize("loss_type", ["smooth_l1", "giou", "diou", "ciou"])
def test_no_boxes_have_no_loss_but_a_gradient(loss_type):
    deltas = torch.zeros(0, 4, requires_grad=True)
    loss = BoxCoder([1, 1, 1, 1], loss_type).loss(deltas, torch.zeros(0, 4), torch.zeros(0, 4))
    loss.backward()
    assert loss == 0 and deltas.grad is not None


def test_a_loss_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="BBOX_REG_LOSS_TYPE is 'l2'; known are smooth_l1, giou, diou, ciou"):
        BoxCoder([1, 1, 1, 1], "l2")


# ------------------------------------------------------------------------------------------------- matching, sampling


def test_labels_follow_the_best_overlap():
    # overlaps with the truth: 1, 1/2, 0, 1/5
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [0, 0, 10, 2]])
    index, label = RPN.match(boxes, torch.tensor([[50.0, 50, 60, 60], [0, 0, 10, 10]]))
    assert label.tolist() == [1, -1, 0, 0]
    assert index[:2].tolist() == [1, 1]


def test_a_threshold_belongs_to_the_labels_above_it():
    boxes = torch.tensor([[0.0, 0, 10, 5]])  # half of the truth, exactly
    regions = ExampleSampler([0.5], [0, 1], num_samples=512, positive_fraction=0.25)
    assert regions.match(boxes, torch.tensor([[0.0, 0, 10, 10]]))[1].tolist() == [1]


def test_every_truth_gets_the_boxes_nearest_to_it():
    # the truth is a quarter of the first two boxes alike: too little for a label, but nothing is nearer
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10]])
    truth = torch.tensor([[0.0, 0, 5, 5]])
    assert RPN.match(boxes, truth)[1].tolist() == [0, 0, 0]
    assert RPN.match(boxes, truth, every_truth=True)[1].tolist() == [1, 1, 0]


def test_a_truth_that_no_box_touches_makes_no_box_an_object():
    boxes, truth = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[50.0, 50, 60, 60]])
    assert RPN.match(boxes, truth, every_truth=True)[1].tolist() == [0]


def test_without_truth_all_is_background():
    assert RPN.match(random_boxes(3), torch.zeros(0, 4), every_truth=True)[1].tolist() == [0, 0, 0]


def test_matching_does_not_depend_on_the_memory_that_is_allowed(monkeypatch):
    boxes, truth = random_boxes(60), random_boxes(7)
    whole = RPN.match(boxes, truth, every_truth=True)
    monkeypatch.setattr(boxes_module, "MAX_PAIRS", 130)
    for a, b in zip(whole, RPN.match(boxes, truth, every_truth=True), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("num_objects", "drawn"), [(300, (128, 128)), (3, (3, 253)), (0, (0, 256))])
def test_background_fills_up_where_objects_are_few(num_objects, drawn):
    classes = torch.zeros(2000, dtype=torch.int64)
    classes[:num_objects], classes[1000:] = 1, -1
    objects, others = RPN.sample(classes, background=0, generator=None)
    assert (len(objects), len(others)) == drawn
    assert (classes[objects] == 1).all() and (classes[others] == 0).all()
    assert len(objects.unique()) == len(objects) and len(others.unique()) == len(others)


def test_fewer_boxes_than_samples_are_all_drawn():
    objects, others = RPN.sample(torch.tensor([1, 0, 0, -1]), background=0, generator=None)
    assert objects.tolist() == [0] and sorted(others.tolist()) == [1, 2]


def test_a_generator_fixes_what_is_drawn():
    classes = torch.arange(2000) % 2
    draws = [RPN.sample(classes, background=0, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (([0.7, 0.3], [0, -1, 1], 256, 0.5), "must ascend"),
        (([0.3, 0.7], [0, 1], 256, 0.5), "be one more"),
        (([0.5], [0, 2], 256, 0.5), "each must be -1"),
        (([0.5], [0, 1], 0, 0.5), "BATCH_SIZE_PER_IMAGE is 0"),
    ],
)
def test_a_sampling_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ExampleSampler(*options)


def test_boxes_touch_a_picture_if_some_area_lies_in_it():
    nan = float("nan")
    boxes = torch.tensor(
        [[0, 0, 1, 1], [-5, -5, 1, 1], [19, 9, 30, 30], [20, 0, 25, 5], [-5, 0, 0, 5], [3, 3, 3, 9], [nan, 0, 5, 5]]
    )
    assert touching(boxes, (10, 20)).tolist() == [True, True, True, False, False, False, False]
