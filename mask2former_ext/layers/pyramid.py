"""Convolutions of the pixel decoders, and the top-down path of a feature pyramid (arXiv 1612.03144).

Letters: B batch, C channels, h, w map size. Level 1 is the finest.
"""

from __future__ import annotations

from collections.abc import Callable

from detectron2.layers import Conv2d, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F


def convolution(
    in_channels: int, channels: int, *, kernel_size: int, norm: str = "", activation: Callable | None = None
) -> Conv2d:
    """A convolution that keeps the map's size, with `norm` (as in Detectron2's `get_norm`) or a bias after it."""
    layer = Conv2d(
        in_channels,
        channels,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=norm == "",
        norm=get_norm(norm, channels),
        activation=activation,
    )
    weight_init.c2_xavier_fill(layer)
    return layer


def projection(in_channels: int, channels: int, enforce: bool) -> nn.Module:
    """A 1x1 convolution to `channels`; nothing where there are as many already, unless `enforce`."""
    if in_channels == channels and not enforce:
        return nn.Identity()
    return convolution(in_channels, channels, kernel_size=1)


class TopDownPath(nn.Module):
    """Levels under their published names: `adapter_n` takes a backbone map in, `layer_n` smooths the sum."""

    def add_level(self, number: int, in_channels: int, channels: int, norm: str) -> None:
        self.add_module(f"adapter_{number}", convolution(in_channels, channels, kernel_size=1, norm=norm))
        self.add_smoothing(number, channels, channels, norm)

    def add_smoothing(self, number: int, in_channels: int, channels: int, norm: str) -> None:
        layer = convolution(in_channels, channels, kernel_size=3, norm=norm, activation=F.relu)
        self.add_module(f"layer_{number}", layer)

    def smooth(self, number: int, x: Tensor) -> Tensor:
        return getattr(self, f"layer_{number}")(x)

    def descend(self, number: int, feature: Tensor, coarser: Tensor, mode: str) -> Tensor:
        """Backbone map (B, in_channels, h, w) and the level above, resized by `mode` ("nearest", "bilinear") ->
        (B, C, h, w)."""
        lateral = getattr(self, f"adapter_{number}")(feature)
        return self.smooth(number, lateral + F.interpolate(coarser, size=lateral.shape[-2:], mode=mode))
