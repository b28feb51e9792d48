"""Losses and matching, held against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mask2former_ext import losses
from mask2former_ext.losses import (
    DenseCriterion,
    PointCriterion,
    Target,
    binary_cross_entropy,
    dice_loss,
    focal_loss,
    pairwise_bce_cost,
    pairwise_dice_cost,
    pairwise_focal_cost,
    sample_points,
)

SURE = 40.0  # a logit whose sigmoid is 1 in float32


def criterion(**changes) -> PointCriterion:
    options = {
        "class_weight": 2.0,
        "mask_weight": 5.0,
        "dice_weight": 5.0,
        "no_object_weight": 0.1,
        "num_points": 32,
        "oversample_ratio": 3.0,
        "importance_sample_ratio": 0.75,
    }
    return PointCriterion(2, **{**options, **changes})


def dense_criterion() -> DenseCriterion:
    return DenseCriterion(2, class_weight=1.0, mask_weight=20.0, dice_weight=1.0, no_object_weight=0.1)


def halves(size: int = 8) -> torch.Tensor:
    """Two masks (2, size, size): the left half and the right half."""
    masks = torch.zeros(2, size, size, dtype=torch.bool)
    masks[0, :, : size // 2] = True
    masks[1, :, size // 2 :] = True
    return masks


def a_target(masks: torch.Tensor, labels: list[int], **changes) -> Target:
    size = tuple(masks.shape[-2:])
    return Target(torch.tensor(labels, dtype=torch.int64), masks, changes.get("valid_size", size), "image", 0)


def test_dice_of_a_half_covered_mask():
    # prediction covers 4 of 8 target pixels and nothing else: 1 - (2*4 + 1) / (4 + 8 + 1) = 4/13
    logits = torch.tensor([[SURE] * 4 + [-SURE] * 12])
    truth = torch.tensor([[1.0] * 8 + [0.0] * 8])
    assert dice_loss(logits, truth).item() == pytest.approx(4 / 13)


def test_binary_cross_entropy_of_undecided_logits_is_log_two():
    assert binary_cross_entropy(torch.zeros(1, 6), torch.ones(1, 6)).item() == pytest.approx(math.log(2))


def test_focal_loss_of_undecided_logits():
    # p_t is 1/2 everywhere. Object, weight 1/4: 1/4 * 1/4 * log 2; background, weight 3/4: 3/4 * 1/4 * log 2;
    # the mean of two of the one and two of the other is log 2 / 8
    loss = focal_loss(torch.zeros(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert loss.item() == pytest.approx(math.log(2) / 8)


def test_focal_loss_hardly_counts_what_is_known():
    # logit log 9: p_t = 9/10 on the object, so 1/4 * (1/10)^2 * log(10/9), and 1/10 on the background,
    # so 3/4 * (9/10)^2 * log 10
    logits = torch.full((2, 1), math.log(9))
    expected = [0.25 * 0.01 * math.log(10 / 9), 0.75 * 0.81 * math.log(10)]
    assert focal_loss(logits, torch.tensor([[1.0], [0.0]])).tolist() == pytest.approx(expected, rel=1e-5)


PAIRS = [
    (pairwise_dice_cost, dice_loss),
    (pairwise_bce_cost, binary_cross_entropy),
    (pairwise_focal_cost, focal_loss),
]


@pytest.mark.parametrize(("pairwise", "single"), PAIRS)
def test_the_pairwise_cost_is_the_loss_of_each_pair(pairwise, single):
    torch.manual_seed(0)
    logits, truth = torch.randn(3, 50) * 5, (torch.rand(2, 50) > 0.5).float()
    expected = torch.stack([torch.stack([single(q[None], t[None])[0] for t in truth]) for q in logits])
    torch.testing.assert_close(pairwise(logits, truth), expected)


def test_points_sample_pixel_centers():
    # 2 x 2 map: the center of the top right pixel is x = 0.75, y = 0.25; the middle of all four is their mean
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    values = sample_points(maps, torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]))
    assert values[0, 0].tolist() == [2.0, 2.5]


def test_queries_are_matched_to_the_masks_they_predict():
    # query 0 predicts the right half, query 2 the left half, query 1 nothing
    masks = halves()
    logits = torch.full((1, 3, 8, 8), -SURE)
    logits[0, 0][masks[1]] = SURE
    logits[0, 2][masks[0]] = SURE
    matches = criterion().match(torch.zeros(1, 1, 3, 3), [logits], [a_target(masks, [0, 1])])
    query, obj = matches[0]
    assert query.tolist() == [[0, 2]] and obj.tolist() == [[1, 0]]


def test_an_image_without_objects_is_matched_to_nothing():
    matches = criterion().match(torch.zeros(1, 1, 3, 3), [torch.zeros(1, 3, 8, 8)], [a_target(halves()[:0], [])])
    assert matches[0].shape == (2, 1, 0)


def test_class_loss_is_the_mean_weighted_by_class():
    # logits say class 0 with probability 1/2, the others 1/4. Query 0 has class 0, query 1 none (weight 0.1):
    # (1 * log 2 + 0.1 * log 4) / (1 + 0.1), times the weight 2
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0]]).expand(1, 2, 3)
    outputs = {"pred_logits": logits, "pred_masks": torch.zeros(1, 2, 8, 8)}
    masks = halves()[:1]
    outputs["pred_masks"][0, 0][masks[0]] = SURE
    losses = criterion()(outputs, [a_target(masks, [0])])
    assert losses["loss_ce"].item() == pytest.approx(2 * (math.log(2) + 0.1 * math.log(4)) / 1.1, rel=1e-5)


def test_mask_losses_are_summed_over_masks_and_divided_by_their_number():
    # undecided everywhere: BCE is log 2 for each mask, so log 2 on average, times the weight 5
    outputs = {"pred_logits": torch.zeros(1, 4, 3), "pred_masks": torch.zeros(1, 4, 8, 8)}
    losses = criterion()(outputs, [a_target(halves(), [0, 1])])
    assert losses["loss_mask"].item() == pytest.approx(5 * math.log(2), rel=1e-5)


def test_matching_under_autocast_is_done_in_float32(monkeypatch):
    costs = []
    assign = losses.linear_sum_assignment
    monkeypatch.setattr(losses, "linear_sum_assignment", lambda cost: costs.append(cost) or assign(cost))
    outputs = {"pred_logits": torch.randn(1, 4, 3), "pred_masks": torch.randn(1, 4, 8, 8)}
    criterion()(outputs, [a_target(halves(), [0, 1])])
    with torch.autocast("cpu", torch.bfloat16):
        criterion()(outputs, [a_target(halves(), [0, 1])])
    assert (costs[0] == costs[1]).all()


def test_layers_are_numbered_from_the_first_and_the_last_has_no_number():
    layer = {"pred_logits": torch.zeros(1, 4, 3), "pred_masks": torch.zeros(1, 4, 8, 8)}
    losses = criterion()({**layer, "aux_outputs": [layer, layer]}, [a_target(halves(), [0, 1])])
    suffixes = ("_0", "_1", "")
    assert set(losses) == {name + suffix for name in ("loss_ce", "loss_mask", "loss_dice") for suffix in suffixes}


def test_each_layer_is_scored_against_the_masks_it_was_matched_to():
    # layer 0 has the two queries the other way round than the last layer: both are perfect, so both cost nothing
    masks = halves()
    logits = torch.where(masks, SURE, -SURE)[None]
    classes = torch.zeros(1, 2, 3)
    swapped = {"pred_logits": classes, "pred_masks": logits.flip(1)}
    losses = criterion(importance_sample_ratio=0.0)(
        {"pred_logits": classes, "pred_masks": logits, "aux_outputs": [swapped]}, [a_target(masks, [0, 0])]
    )
    assert losses["loss_dice_0"].item() == pytest.approx(losses["loss_dice"].item(), abs=0.15)
    assert losses["loss_dice_0"].item() < 0.5


def test_uncertain_points_lie_where_the_logit_is_near_zero():
    # the logit is zero in column 8, whose center is x = 8.5 / 16, and grows by 10 a column
    logits = ((torch.arange(16.0) - 8).expand(16, 16) * 10).reshape(1, 1, 16, 16)
    target = a_target(torch.ones(1, 16, 16, dtype=torch.bool), [0])
    points = criterion(num_points=100, importance_sample_ratio=1.0).uncertain_points(logits, target)
    assert points.shape == (1, 1, 100, 2)
    # a third of the candidates is kept: those within about a third of the width around it, but for a few on the map's
    # border, beyond which values fade to zero
    assert ((points[..., 0] - 8.5 / 16).abs() < 0.2).float().mean() > 0.9


def test_no_point_is_sampled_on_the_padding():
    target = a_target(torch.ones(1, 16, 16, dtype=torch.bool), [0], valid_size=(8, 4))
    points = criterion().uncertain_points(torch.zeros(1, 2, 16, 16), target)
    assert points[..., 0].max() <= 4 / 16 and points[..., 1].max() <= 8 / 16


def test_a_non_finite_mask_logit_raises_with_its_term():
    outputs = {"pred_logits": torch.zeros(1, 3, 3), "pred_masks": torch.full((1, 3, 8, 8), float("nan"))}
    with pytest.raises(FloatingPointError, match=r"image: mask cost of layers \[0\]; image: dice cost"):
        criterion()(outputs, [a_target(halves(), [0, 1])])


def test_an_importance_ratio_above_the_oversampling_is_refused():
    with pytest.raises(ValueError, match="IMPORTANCE_SAMPLE_RATIO 1.5"):
        criterion(importance_sample_ratio=1.5)


# ------------------------------------------------------------------------------------------------------- on all pixels


def test_dense_losses_are_taken_at_the_resolution_of_the_truth():
    # logits (-2 log 3, 2 log 3) enlarged from 2 to 4 columns: (-2, -1, 1, 2) log 3. The truth is the right half, so the
    # wrong answer's probability is 1/10 in the outer columns and 1/4 in the inner ones, left as right; the weights
    # 1/4 and 3/4 of the two sides sum to 1
    masks = torch.tensor([[[False, False, True, True]]])
    outputs = {"pred_logits": torch.zeros(1, 1, 3), "pred_masks": torch.tensor([[[[-1.0, 1.0]]]]) * 2 * math.log(3)}
    losses = dense_criterion()(outputs, [a_target(masks, [0])])
    expected = 20 * (math.log(10 / 9) / 100 + math.log(4 / 3) / 16) / 4
    assert losses["loss_mask"].item() == pytest.approx(expected, rel=1e-5)
    # Dice: twice 3/4 + 9/10 inside, plus 1, by 1/10 + 1/4 + 3/4 + 9/10 = 2 of the mask, 2 of the truth, plus 1.
    assert losses["loss_dice"].item() == pytest.approx(1 - 4.3 / 5, rel=1e-5)


def test_dense_losses_are_summed_over_masks_and_divided_by_their_number():
    # undecided everywhere, half of the pixels are object: focal is log 2 / 8 for each mask, times the weight 20
    outputs = {"pred_logits": torch.zeros(1, 4, 3), "pred_masks": torch.zeros(1, 4, 2, 2)}
    losses = dense_criterion()(outputs, [a_target(halves(), [0, 1])])
    assert losses["loss_mask"].item() == pytest.approx(20 * math.log(2) / 8, rel=1e-5)


def test_dense_matching_takes_the_truth_at_the_nearest_pixel():
    # Of 4 x 4 pixels the nearest to 2 x 2 predictions are those of even row and column: object 0 alone. So it goes to
    # the query that covers all, though object 1 has three times as many pixels.
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, ::2, ::2] = True
    masks[1] = ~masks[0]
    logits = torch.stack((torch.full((2, 2), -SURE), torch.full((2, 2), SURE)))[None]
    query, obj = dense_criterion().match(torch.zeros(1, 1, 2, 3), [logits], [a_target(masks, [0, 0])])[0]
    assert query.tolist() == [[0, 1]] and obj.tolist() == [[1, 0]]


@pytest.mark.parametrize("garbage", [-SURE, SURE])
def test_dense_losses_do_not_look_at_the_padding(garbage):
    masks = torch.zeros(1, 8, 16, dtype=torch.bool)
    masks[0, :, :4] = True
    alone = {"pred_logits": torch.zeros(1, 2, 3), "pred_masks": torch.randn(1, 2, 2, 2)}
    padded = {**alone, "pred_masks": torch.cat((alone["pred_masks"], torch.full((1, 2, 2, 2), garbage)), dim=3)}
    # bilinear enlargement lets the padding reach two pixels into the image: the last two columns are not compared
    first = dense_criterion()(alone, [a_target(masks[:, :, :8], [0], valid_size=(8, 6))])
    second = dense_criterion()(padded, [a_target(masks, [0], valid_size=(8, 6))])
    assert {key: x.item() for key, x in second.items()} == pytest.approx({key: x.item() for key, x in first.items()})


def dense_losses_and_gradient(logits: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    logits = logits.clone().requires_grad_()
    outputs = {"pred_logits": torch.zeros(1, 4, 3), "pred_masks": logits}
    losses = dense_criterion()({**outputs, "aux_outputs": [outputs]}, [a_target(halves(), [0, 1])])
    sum(losses.values()).backward()
    return losses, logits.grad


def test_dense_losses_in_chunks_are_those_in_one_go(monkeypatch):
    logits = torch.randn(1, 4, 4, 4)
    whole, gradient = dense_losses_and_gradient(logits)
    monkeypatch.setattr(losses, "CHUNK_PIXELS", 1)
    chunked, gradient_in_chunks = dense_losses_and_gradient(logits)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(gradient_in_chunks, gradient)


def test_only_matched_masks_are_enlarged(monkeypatch):
    enlarged = []
    compare = losses._enlarged_losses
    monkeypatch.setattr(losses, "_enlarged_losses", lambda x, *rest: enlarged.append(len(x)) or compare(x, *rest))
    outputs = {"pred_logits": torch.zeros(1, 50, 3), "pred_masks": torch.randn(1, 50, 4, 4)}
    dense_criterion()(outputs, [a_target(halves(), [0, 1])])
    assert sum(enlarged) == 2
