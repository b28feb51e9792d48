"""What every backbone promises, and backbones by name."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import Tensor, nn

BACKBONE_REGISTRY = Registry("BACKBONE")
BACKBONE_REGISTRY.__doc__ = "Callables of (cfg, input_shape: ShapeSpec) that return a Backbone."


class Backbone(nn.Module):
    """Maps images (N, C, H, W) to a dict of named feature maps.

    The default `output_shape` reads the attributes _out_features, _out_feature_channels and _out_feature_strides.
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    @property
    def size_divisibility(self) -> int:
        """Height and width of the input must be multiples of it; 0: any size will do."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """See ImageList.from_tensors: "size_divisibility" and "square_size", where they matter."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """The backbone named by cfg.MODEL.BACKBONE.NAME, for images with as many channels as PIXEL_MEAN has numbers."""
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    name = cfg.MODEL.BACKBONE.NAME
    backbone = BACKBONE_REGISTRY.get(name)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise TypeError(f"MODEL.BACKBONE.NAME: {name} built a {type(backbone).__name__}, not a Backbone")
    return backbone
