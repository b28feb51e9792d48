"""What every backbone promises."""

from __future__ import annotations

from detectron2.layers import ShapeSpec
from torch import Tensor, nn


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
