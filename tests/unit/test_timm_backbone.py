"""The timm adapter: strides, channels, freezing, the pyramid of a plain ViT. The smallest models of their kinds."""

from __future__ import annotations

import pytest
import timm
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn

from mask2former_ext.layers.timm_backbone import SimpleFeaturePyramid, TimmFeatures
from mask2former_ext.models.backbones import add_backbone_config

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
MODELS = {
    "resnet18": [64, 128, 256, 512],
    "convnext_atto": [40, 80, 160, 320],
    "mobilenetv3_small_050": [8, 16, 24, 288],
    "vit_tiny_patch16_224": [256, 256, 256, 256],
}


@pytest.mark.parametrize("name", MODELS)
def test_features_have_their_strides_and_channels_on_odd_sizes(name):
    model = TimmFeatures(name)
    shapes = {feature: tuple(value.shape) for feature, value in model(torch.randn(2, 3, 45, 70)).items()}
    # 45 / 4, 45 / 8, ... and 70 / 4, 70 / 8, ... rounded up.
    sizes = {"res2": (12, 18), "res3": (6, 9), "res4": (3, 5), "res5": (2, 3)}
    channels = dict(zip(STRIDES, MODELS[name], strict=True))
    assert shapes == {feature: (2, channels[feature], *size) for feature, size in sizes.items()}
    assert model.num_features == channels and model.strides == STRIDES


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name):
    model = TimmFeatures(name)
    sum(feature.square().sum() for feature in model(torch.randn(2, 3, 64, 64)).values()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_every_parameter_learns_where_the_last_stage_is_not_asked_for():
    model = TimmFeatures("resnet18", out_features=("res2", "res4"))
    outputs = model(torch.randn(2, 3, 64, 64))
    sum(feature.square().sum() for feature in outputs.values()).backward()
    assert list(outputs) == ["res2", "res4"]
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_building_moves_no_running_statistics():
    statistics = [value for name, value in TimmFeatures("resnet18").named_buffers() if name.endswith("running_mean")]
    assert statistics and not any(value.any() for value in statistics)


def test_a_model_of_channels_last_comes_out_channels_first(monkeypatch):
    model = TimmFeatures("resnet18").eval()
    image = torch.randn(1, 3, 64, 64)
    expected = model(image)
    body = model.body
    body.output_fmt = type(body.output_fmt).NHWC
    monkeypatch.setattr(body, "forward", lambda x: [v.permute(0, 2, 3, 1) for v in type(body).forward(body, x)])
    assert torch.equal(model(image)["res3"], expected["res3"])


@pytest.mark.parametrize("freeze_at, frozen", [(0, []), (1, ["bn1", "conv1"]), (2, ["bn1", "conv1", "layer1"])])
def test_freezing_takes_the_first_stages_of_a_convnet(freeze_at, frozen):
    model = TimmFeatures("resnet18", freeze_at=freeze_at)
    fixed = {name.split(".")[1] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert sorted(fixed) == frozen


def test_freezing_takes_the_first_blocks_of_an_efficientnet():
    # timm keeps its seven stages in one child, `blocks`; the third ends at stride 8, which is res3.
    body = TimmFeatures("tf_efficientnet_lite0", freeze_at=3).body
    assert not body.conv_stem.weight.requires_grad and not body.bn1.weight.requires_grad
    trained = [any(parameter.requires_grad for parameter in stage.parameters()) for stage in body.blocks]
    assert trained == [False] * 3 + [True] * 4


def test_statistics_of_frozen_stages_stay():
    model = TimmFeatures("resnet18", freeze_at=2).train()
    model(torch.randn(2, 3, 64, 64))
    assert not model.body["bn1"].running_mean.any()
    assert model.body["layer2"][0].bn1.running_mean.any()


def test_freezing_a_vit_takes_embeddings_and_first_quarters_of_blocks():
    model = TimmFeatures("vit_tiny_patch16_224", freeze_at=3)
    vit = model.body.model
    assert not vit.pos_embed.requires_grad and not vit.patch_embed.proj.weight.requires_grad
    # 12 blocks, two quarters of them frozen.
    assert [block.mlp.fc1.weight.requires_grad for block in vit.blocks] == [False] * 6 + [True] * 6


def test_a_pyramid_doubles_keeps_or_halves_its_map_and_norms_each_level():
    pyramid = SimpleFeaturePyramid(8, in_stride=16, strides=STRIDES, out_channels=6)
    kinds = {name: [type(step) for step in level] for name, level in pyramid.levels.items()}
    up, pool, end = nn.ConvTranspose2d, nn.MaxPool2d, [type(step) for step in pyramid.levels["res4"]]
    assert [kinds["res2"].count(up), kinds["res3"].count(up), kinds["res5"].count(pool)] == [2, 1, 1]
    assert [kind[-4:] for kind in kinds.values()] == [end] * 4
    shapes = {name: tuple(value.shape) for name, value in pyramid(torch.randn(1, 8, 4, 6)).items()}
    assert shapes == {"res2": (1, 6, 16, 24), "res3": (1, 6, 8, 12), "res4": (1, 6, 4, 6), "res5": (1, 6, 2, 3)}


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnet19", {}, "has no model 'resnet19'; near it: resnet18"),
        ("xcit_nano_12_p16_224", {}, r"has features at strides \[16\], not at \[4, 8, 32\]"),
        ("vit_tiny_patch16_224", {"out_features": ["res1"]}, r"out_features must be some of .*, got \['res1'\]"),
        ("eva02_tiny_patch14_224", {}, "has patches of 14 pixels"),
        ("swin_s3_tiny_224", {}, "does not take images of any size"),
        ("resnet18", {"freeze_at": 6}, "freeze_at must be 0 to 5, got 6"),
        ("resnet18", {"freeze_at": 4, "out_features": ["res3"]}, "freeze_at must be 0 to 3, got 4"),
        ("xception41", {"freeze_at": 2}, "cannot be told apart for freezing"),
    ],
)
def test_a_model_that_cannot_serve_is_refused_when_it_is_built(name, options, message):
    with pytest.raises(ValueError, match=message):
        TimmFeatures(name, **options)


def test_detectron2_builds_it_and_learns_its_outputs():
    cfg = get_cfg()
    add_backbone_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "TimmBackbone", 0
    cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.OUT_FEATURES = "resnet18", ["res3", "res5"]
    backbone = build_backbone(cfg)
    shapes = {name: (shape.channels, shape.stride) for name, shape in backbone.output_shape().items()}
    assert shapes == {"res3": (128, 8), "res5": (512, 32)}
    assert backbone.size_divisibility == 32
    assert list(backbone(torch.randn(1, 3, 64, 64))) == ["res3", "res5"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224", "resnet10t"])
def test_timms_weights_for_four_channels_follow_this_projects_rule(name, monkeypatch):
    create, stem = timm.create_model, {}

    def fetched(*args, pretrained, **options):
        body = create(*args, pretrained=False, **options)
        if pretrained:
            stem.update((key, value) for key, value in body.state_dict().items() if value.shape[1:2] == (3,))
        return body

    monkeypatch.setattr(timm, "create_model", fetched)
    features = TimmFeatures(name, pretrained=True, in_channels=4, color_places=(1, 2, 3))
    ((key, given),) = stem.items()
    built = features.body.state_dict()[key]
    assert torch.equal(built[:, 1:], given) and torch.allclose(built[:, 0], given.mean(dim=1))
