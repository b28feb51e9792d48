"""Backbones under Detectron2's registry, and their keys. Detectron2's own ResNets need nothing from here, but for the
one of its DeepLab project (deep stem, dilated), which is registered when that is imported.

`MODEL.BACKBONE.FREEZE_AT` holds for all: 0 freezes nothing, 1 what comes before res2, 2 also res2, and so on.
"""

from __future__ import annotations

import importlib
import logging

from detectron2.config import CfgNode as CN
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import Tensor

from mask2former_ext.contract import color_places, register
from mask2former_ext.layers.swin import SwinTransformer

logger = logging.getLogger(__name__)


def add_backbone_config(cfg: CN) -> None:
    """Add MODEL.SWIN (for MODEL.BACKBONE.NAME D2SwinTransformer) and MODEL.TIMM (for TimmBackbone), in place."""
    swin = cfg.MODEL.SWIN = CN()
    swin.PRETRAIN_IMG_SIZE = 224  # px; counts with APE only
    swin.PATCH_SIZE = 4  # px
    swin.EMBED_DIM = 96  # channels of res2, doubled in each further stage; C in the paper
    swin.DEPTHS = [2, 2, 6, 2]  # blocks of each stage
    swin.NUM_HEADS = [3, 6, 12, 24]  # of each stage
    swin.WINDOW_SIZE = 7  # cells; M in the paper
    swin.MLP_RATIO = 4.0  # hidden width of a block's MLP, times its channels
    swin.QKV_BIAS = True  # queries, keys and values have a bias
    swin.QK_SCALE = None  # factor of the attention logits; None: 1 / sqrt(channels of a head)
    swin.DROP_RATE = 0.0  # dropout of the embeddings, projections and MLPs
    swin.ATTN_DROP_RATE = 0.0  # dropout of the attention weights
    swin.DROP_PATH_RATE = 0.3  # of the last block, rising linearly from 0
    swin.APE = False  # learned absolute position embedding
    swin.PATCH_NORM = True  # a norm after the patch embedding
    swin.OUT_FEATURES = ["res2", "res3", "res4", "res5"]  # strides 4, 8, 16, 32
    swin.USE_CHECKPOINT = False  # recompute blocks in the backward pass: less memory, more time

    node = cfg.MODEL.TIMM = CN()
    node.NAME = "convnext_tiny"  # as in timm.list_models()
    node.PRETRAINED = False  # fetch timm's weights when the model is built
    node.OUT_FEATURES = ["res2", "res3", "res4", "res5"]  # strides 4, 8, 16, 32
    node.DROP_PATH_RATE = 0.0  # timm's drop_path_rate
    node.PYRAMID_CHANNELS = 256  # of every level of the pyramid that a plain ViT gets


class _PyramidBackbone(Backbone):
    """What Detectron2 asks of a backbone, for a network that has `num_features` and `strides` by output name."""

    num_features: dict[str, int]
    strides: dict[str, int]

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=channels, stride=self.strides[name])
            for name, channels in self.num_features.items()
        }

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride of such a pyramid, whichever outputs the configuration names."""
        return 32


class D2SwinTransformer(SwinTransformer, _PyramidBackbone):
    """The published Swin Transformer from `cfg.MODEL.SWIN`."""

    def __init__(self, cfg: CN, input_shape: ShapeSpec) -> None:
        node = cfg.MODEL.SWIN
        super().__init__(
            pretrain_img_size=node.PRETRAIN_IMG_SIZE,
            patch_size=node.PATCH_SIZE,
            in_channels=input_shape.channels,
            embed_dim=node.EMBED_DIM,
            depths=node.DEPTHS,
            num_heads=node.NUM_HEADS,
            window_size=node.WINDOW_SIZE,
            mlp_ratio=node.MLP_RATIO,
            qkv_bias=node.QKV_BIAS,
            qk_scale=node.QK_SCALE,
            drop_rate=node.DROP_RATE,
            attn_drop_rate=node.ATTN_DROP_RATE,
            drop_path_rate=node.DROP_PATH_RATE,
            ape=node.APE,
            patch_norm=node.PATCH_NORM,
            out_features=node.OUT_FEATURES,
            use_checkpoint=node.USE_CHECKPOINT,
            freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        )
        _tell_frozen(cfg)


class TimmBackbone(_PyramidBackbone):
    """A model of timm from `cfg.MODEL.TIMM`."""

    def __init__(self, cfg: CN, input_shape: ShapeSpec) -> None:
        # Here, since importing timm takes a second that other backbones need not wait.
        from mask2former_ext.layers.timm_backbone import TimmFeatures

        super().__init__()
        node = cfg.MODEL.TIMM
        self.features = TimmFeatures(
            node.NAME,
            pretrained=node.PRETRAINED,
            out_features=node.OUT_FEATURES,
            freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
            drop_path_rate=node.DROP_PATH_RATE or None,
            pyramid_channels=node.PYRAMID_CHANNELS,
            in_channels=input_shape.channels,
            color_places=color_places(cfg.INPUT.FORMAT),
        )
        self.num_features, self.strides = self.features.num_features, self.features.strides
        _tell_frozen(cfg)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.features(image)


def _pyramid_of(cfg: CN, bottom_up: Backbone) -> FPN:
    """Detectron2's feature pyramid (`cfg.MODEL.FPN`) on any backbone, with p6 by pooling."""
    node = cfg.MODEL.FPN
    return FPN(
        bottom_up,
        node.IN_FEATURES,
        node.OUT_CHANNELS,
        norm=node.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=node.FUSE_TYPE,
    )


def build_timm_fpn_backbone(cfg: CN, input_shape: ShapeSpec) -> FPN:
    """A model of timm (`cfg.MODEL.TIMM`) under a feature pyramid."""
    return _pyramid_of(cfg, TimmBackbone(cfg, input_shape))


def build_swin_fpn_backbone(cfg: CN, input_shape: ShapeSpec) -> FPN:
    """The published Swin Transformer (`cfg.MODEL.SWIN`) under a feature pyramid."""
    return _pyramid_of(cfg, D2SwinTransformer(cfg, input_shape))


def _tell_frozen(cfg: CN) -> None:
    freeze_at = cfg.MODEL.BACKBONE.FREEZE_AT
    if freeze_at:
        logger.info("MODEL.BACKBONE.FREEZE_AT %d: the backbone is not trained up to that stage", freeze_at)


for _backbone in (D2SwinTransformer, TimmBackbone, build_timm_fpn_backbone, build_swin_fpn_backbone):
    register(BACKBONE_REGISTRY, _backbone)
if "build_resnet_deeplab_backbone" not in BACKBONE_REGISTRY:
    importlib.import_module("detectron2.projects.deeplab")  # registers it
