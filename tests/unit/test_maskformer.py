"""MaskFormer's decoders and its per-pixel controls: padding, levels, and the per-pixel loss by hand."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from mask2former_ext.models.mask_classifier import InferenceOptions
from mask2former_ext.models.maskformer import ClassMaskDecoder, EncoderPixelDecoder, MaskFormer, PixelDecoder
from mask2former_ext.models.pixel_classifier import PixelClassifier

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
SHAPES = {name: ShapeSpec(channels=8, stride=stride) for name, stride in STRIDES.items()}
LAYER = {"num_heads": 4, "hidden": 48, "dropout": 0.0, "pre_norm": False}
IGNORED = 9
SURE = 40.0  # a logit whose sigmoid is 1 in float32


def some_features(height: int = 64, width: int = 96) -> dict[str, torch.Tensor]:
    return {name: torch.randn(1, 8, -(-height // s), -(-width // s)) for name, s in STRIDES.items()}


def a_decoder(**changes) -> ClassMaskDecoder:
    options = {"num_classes": 3, "num_queries": 5, "hidden_dim": 16, "mask_dim": 8, "encoder_layers": 1}
    options |= {"decoder_layers": 2, "enforce_input_proj": False, "deep_supervision": True, **LAYER}
    return ClassMaskDecoder(8, **{**options, **changes}).eval()


# ------------------------------------------------------------------------------------------------------------ decoders


@pytest.mark.parametrize("size", [(64, 96), (75, 51)])
def test_the_pyramid_ends_at_the_finest_map_whatever_the_size(size):
    decoder = PixelDecoder(SHAPES, conv_dim=32, mask_dim=16, norm="GN")
    features = some_features(*size)
    embeddings, start = decoder(features)
    assert embeddings.shape == (1, 16, *features["res2"].shape[-2:]) and start is features["res5"]


def test_a_pyramid_without_the_finest_map_has_its_stride():
    shapes = {name: SHAPES[name] for name in ("res3", "res4")}
    assert PixelDecoder(shapes, conv_dim=32, mask_dim=16, norm="").stride == 8


def test_the_encoder_keeps_padding_out_of_the_valid_part():
    decoder = EncoderPixelDecoder(SHAPES, conv_dim=32, mask_dim=16, norm="GN", num_layers=2, **LAYER).eval()
    features, fraction = some_features(128, 128), torch.tensor([[1.0, 0.5]])
    _, before = decoder(features, fraction)
    features["res5"][..., 2:] = 100.0
    torch.testing.assert_close(decoder(features, fraction)[1][..., :2], before[..., :2])


def test_queries_do_not_see_the_padding():
    decoder, memory, embeddings = a_decoder(), torch.randn(1, 8, 4, 4), torch.randn(1, 8, 16, 16)
    before = decoder(memory, embeddings, torch.tensor([[0.5, 1.0]]))
    memory[:, :, 2:] = 100.0
    after = decoder(memory, embeddings, torch.tensor([[0.5, 1.0]]))
    torch.testing.assert_close(after["pred_logits"], before["pred_logits"])


def test_a_fully_valid_canvas_gives_what_no_padding_gives():
    decoder, memory, embeddings = a_decoder(), torch.randn(1, 8, 4, 4), torch.randn(1, 8, 16, 16)
    without, whole = decoder(memory, embeddings), decoder(memory, embeddings, torch.ones(1, 2))
    torch.testing.assert_close(whole["pred_masks"], without["pred_masks"])


@pytest.mark.parametrize(("supervised", "expected"), [(True, 1), (False, 0)])
def test_earlier_layers_predict_in_training_with_deep_supervision_alone(supervised, expected):
    decoder = a_decoder(deep_supervision=supervised).train()
    assert len(decoder(torch.randn(1, 8, 4, 4), torch.randn(1, 8, 16, 16))["aux_outputs"]) == expected


def test_dropout_acts_in_training_alone():
    decoder, inputs = a_decoder(dropout=0.5), (torch.randn(1, 8, 4, 4), torch.randn(1, 8, 16, 16))
    first, second = (decoder(*inputs)["pred_masks"] for _ in range(2))
    assert torch.equal(first, second)
    first, second = (decoder.train()(*inputs)["pred_masks"] for _ in range(2))
    assert not torch.equal(first, second)


def test_a_panoptic_segment_is_the_whole_region_that_its_query_wins():
    # Mask probability is below one half in the right half, yet there is no other query: MaskFormer keeps those pixels.
    class Head(nn.Module):
        def forward(self, *_):
            masks = torch.tensor([[SURE, -1.0]]).expand(1, 1, 8, 2)
            return {"pred_logits": torch.tensor([[[SURE, 0.0]]]), "pred_masks": masks}

    tasks = {"semantic": False, "instance": False, "panoptic": True}
    options = {"min_class_prob": 0.5, "min_visible_fraction": 0.5, "resize_masks_first": True, "things_only": True}
    model = MaskFormer(
        backbone=nn.Identity(),
        sem_seg_head=Head(),
        criterion=nn.Identity(),
        is_thing=torch.tensor([True]),
        pixel_mean=[0.0],
        pixel_std=[1.0],
        size_divisibility=0,
        inference=InferenceOptions(**tasks, **options, detections_per_image=1),
    ).eval()
    ids, _ = model([{"image": torch.zeros(1, 8, 8)}])[0]["panoptic_seg"]
    assert (ids == 1).all()


# ------------------------------------------------------------------------------------------------------ per-pixel loss


def pixel_classifier(logits: torch.Tensor, **changes) -> PixelClassifier:
    """A model whose head says `logits` (B, K, h, w) at stride 4, whatever the image."""

    class Head(nn.Module):
        def forward(self, *_):
            return [logits, logits]

    options = {"num_classes": logits.shape[1], "stride": 4, "loss_weight": 1.0, "ignore_label": IGNORED}
    network = {"backbone": nn.Identity(), "sem_seg_head": Head(), "pixel_mean": [0.0], "pixel_std": [1.0]}
    return PixelClassifier(**{**options, **changes}, **network, size_divisibility=0)


def labeled(labels: torch.Tensor) -> dict:
    return {"image": torch.zeros(1, *labels.shape), "sem_seg": labels}


def test_undecided_pixels_cost_the_logarithm_of_the_number_of_classes():
    labels = torch.randint(0, 3, (5, 7))
    losses = pixel_classifier(torch.zeros(1, 3, 2, 2), loss_weight=2.0).train()([labeled(labels)])
    assert losses["loss_sem_seg"].item() == pytest.approx(2 * math.log(3))


def test_ignored_pixels_neither_cost_nor_count():
    # one labeled pixel, where the logits are sure and right; the others would cost 40 each
    logits = torch.tensor([SURE, 0.0]).view(1, 2, 1, 1)
    labels = torch.full((4, 4), IGNORED)
    labels[0, 0] = 0
    assert pixel_classifier(logits).train()([labeled(labels)])["loss_sem_seg"].item() == pytest.approx(0, abs=1e-6)


def test_a_batch_of_ignored_pixels_costs_nothing():
    losses = pixel_classifier(torch.zeros(1, 2, 1, 1)).train()([labeled(torch.full((4, 4), IGNORED))])
    assert losses["loss_sem_seg"].item() == 0


def test_images_of_a_batch_count_by_their_labeled_pixels():
    # 16 pixels cost log 2 each and 48 cost nothing: log 2 / 4 on average
    logits = torch.tensor([[0.0, 0.0], [SURE, 0.0]]).view(2, 2, 1, 1).expand(-1, -1, 1, 3)
    batch = [labeled(torch.zeros(4, 4, dtype=torch.int64)), labeled(torch.zeros(4, 12, dtype=torch.int64))]
    assert pixel_classifier(logits).train()(batch)["loss_sem_seg"].item() == pytest.approx(math.log(2) / 4)


def test_each_earlier_layer_has_its_own_loss():
    losses = pixel_classifier(torch.zeros(1, 2, 1, 1)).train()([labeled(torch.zeros(4, 4, dtype=torch.int64))])
    assert list(losses) == ["loss_sem_seg", "loss_sem_seg_0"]


def test_enlarged_logits_are_cut_to_the_image():
    # 6 of 8 columns are image. Logits -3 and 1 of two cells of 4 px; pixel 1.5 px from a cell's center, 3/8 of the way
    # to the next, has -3 + 4 * 3/8 = -1.5: the fourth pixel, at 3.5 of 8
    logits = torch.tensor([-3.0, 1.0]).view(1, 1, 1, 2)
    result = pixel_classifier(logits).eval()([{"image": torch.zeros(1, 4, 6)}])[0]["sem_seg"]
    assert result.shape == (1, 4, 6)
    assert result[0, 0].tolist() == pytest.approx([-3, -3, -2.5, -1.5, -0.5, 0.5])
