"""ResNet with DeepLab's stem of three 3x3 convolutions, and dilated last stages (arXiv 1706.05587)."""

from __future__ import annotations

from collections.abc import Callable

import fvcore.nn.weight_init as weight_init
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling.backbone import BACKBONE_REGISTRY, BasicStem, ResNet
from detectron2.modeling.backbone.resnet import stages_from_config
from torch import Tensor

# (res4, res5): strides 32, 16 and 8 of the last map
_DILATIONS = ((1, 1), (1, 2), (2, 4))


class DeepLabStem(CNNBlockBase):
    """Three 3x3 convolutions, the first with stride 2, and max pooling: stride 4 in all."""

    def __init__(self, in_channels: int = 3, out_channels: int = 128, norm: str | Callable = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        half = out_channels // 2
        for number, (before, after, stride) in enumerate(
            ((in_channels, half, 2), (half, half, 1), (half, out_channels, 1)), start=1
        ):
            layer = Conv2d(before, after, 3, stride=stride, padding=1, bias=False, norm=get_norm(norm, after))
            weight_init.c2_msra_fill(layer)
            self.add_module(f"conv{number}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for name in ("conv1", "conv2", "conv3"):
            x = F.relu_(self.get_submodule(name)(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


_STEMS = {"basic": BasicStem, "deeplab": DeepLabStem}


@BACKBONE_REGISTRY.register()
def build_resnet_deeplab_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """The ResNet (50, 101 or 152) of cfg.MODEL.RESNETS, with the keys that `add_deeplab_config` adds."""
    node = cfg.MODEL.RESNETS
    if node.STEM_TYPE not in _STEMS:
        raise ValueError(f"MODEL.RESNETS.STEM_TYPE is {node.STEM_TYPE!r}; it is one of {sorted(_STEMS)}")
    if (node.RES4_DILATION, node.RES5_DILATION) not in _DILATIONS:
        raise ValueError(f"MODEL.RESNETS: (RES4_DILATION, RES5_DILATION) is none of {_DILATIONS}:\n{node}")
    stem = _STEMS[node.STEM_TYPE](in_channels=input_shape.channels, out_channels=node.STEM_OUT_CHANNELS, norm=node.NORM)
    dilations = (1, 1, node.RES4_DILATION, node.RES5_DILATION)
    stages = stages_from_config(node, dilations, last_grid=node.RES5_MULTI_GRID)
    return ResNet(stem, stages, out_features=node.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
