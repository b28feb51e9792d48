"""Models on images of four channels, RGBT: they train, answer and draw, and take weights on three channels."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances

import mask2former_ext
from mask2former_ext.interop.weights import load_weights

TINY = Path(__file__).resolve().parents[2] / "configs" / "mask2former" / "tiny.yaml"
BACKBONES = {
    "timm": ["MODEL.BACKBONE.NAME", "TimmBackbone", "MODEL.TIMM.NAME", "convnext_atto"],
    "vit": ["MODEL.BACKBONE.NAME", "TimmBackbone", "MODEL.TIMM.NAME", "vit_tiny_patch16_224"],
    "resnet": ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 18, "MODEL.BACKBONE.FREEZE_AT", 0]
    + ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]],
    "swin": ["MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM", 24, "MODEL.SWIN.DEPTHS", [1, 1, 1, 1]]
    + ["MODEL.SWIN.NUM_HEADS", [1, 2, 2, 4], "MODEL.SWIN.WINDOW_SIZE", 4],
}
STEM = {
    "timm": "backbone.features.body.stem_0.weight",
    "vit": "backbone.features.body.model.patch_embed.proj.weight",
    "resnet": "backbone.stem.conv1.weight",
    "swin": "backbone.patch_embed.proj.weight",
}
every_backbone = pytest.mark.parametrize("backbone", BACKBONES)


def config(backbone: str, image_format: str = "RGBT", **changes: str) -> CfgNode:
    count = len(image_format)
    settings = [*BACKBONES[backbone], "INPUT.FORMAT", image_format, "MODEL.PIXEL_MEAN", [120.0] * count]
    settings += ["MODEL.PIXEL_STD", [60.0] * count, "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
    settings += ["INPUT.MIN_SIZE_TEST", 0, "MODEL.MASK_CLASSIFIER.NUM_CLASSES", 9]
    return mask2former_ext.load_config(str(TINY), settings + [x for pair in changes.items() for x in pair])


def image(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 96, channels), dtype=np.uint8)


@every_backbone
def test_a_model_of_four_channels_answers_and_draws(backbone: str) -> None:
    predictor = mask2former_ext.Predictor(config(backbone))
    assert predictor.channels == "RGBT"
    result = predictor(image(4))
    assert result["sem_seg"].shape[1:] == (64, 96) and (result.image == image(4)[:, :, :3]).all()
    assert result.draw("panoptic").shape[2] == 3


@every_backbone
def test_the_fourth_channel_is_learned_from(backbone: str) -> None:
    instances = Instances((64, 96), gt_classes=torch.tensor([1]), gt_masks=torch.ones(1, 64, 96, dtype=torch.bool))
    model = build_model(config(backbone)).train()
    losses = model([{"image": torch.from_numpy(image(4).transpose(2, 0, 1).copy()), "instances": instances}])
    sum(losses.values()).backward()
    gradient = dict(model.named_parameters())[STEM[backbone]].grad
    assert gradient.shape[1] == 4 and gradient[:, 3].abs().sum() > 0


@every_backbone
def test_weights_on_three_channels_are_made_to_fit_four(
    backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    three, four = build_model(config(backbone, "RGB")), build_model(config(backbone, "TBGR"))
    torch.save(three.state_dict(), tmp_path / "three.pth")
    with caplog.at_level(logging.INFO):
        report = load_weights(four, str(tmp_path / "three.pth"), "TBGR")
    given, built = three.state_dict()[STEM[backbone]], four.state_dict()[STEM[backbone]]
    assert torch.equal(built[:, 1:], given) and torch.allclose(built[:, 0], given.mean(dim=1))
    assert not report.wrong_shape and sum("on 3 channels: copied for the colors" in x for x in caplog.messages) == 1


def test_weights_on_four_channels_do_not_fit_three(tmp_path: Path) -> None:
    torch.save(build_model(config("resnet")).state_dict(), tmp_path / "four.pth")
    with pytest.raises(ValueError, match=r"four.pth: backbone.stem.conv1.weight is \[64, 4, 7, 7\] in the file and"):
        load_weights(build_model(config("resnet", "RGB")), str(tmp_path / "four.pth"), "RGB")


def test_the_predictor_of_a_gray_model_takes_color_and_gray() -> None:
    predictor = mask2former_ext.Predictor(config("resnet", "L"))
    gray = np.repeat(image(1), 3, axis=2)  # of equal colors Pillow's gray is their value
    assert torch.equal(predictor(gray)["sem_seg"], predictor(image(1))["sem_seg"])
    assert predictor(image(1)).draw("semantic").shape[2] == 3


def test_the_predictor_says_which_channels_it_takes() -> None:
    predictor = mask2former_ext.Predictor(config("resnet"))
    with pytest.raises(ValueError, match=r"an image must be RGBT uint8 \(H, W, 4\), got uint8 \(64, 96, 3\)"):
        predictor(image(3))


def test_an_input_of_other_channels_than_the_model_is_named() -> None:
    with pytest.raises(ValueError, match=r"image 0 of the batch: its channels are 3, but MODEL.PIXEL_MEAN has 4"):
        build_model(config("resnet")).eval()([{"image": torch.zeros(3, 64, 64)}])
