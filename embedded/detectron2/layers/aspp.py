"""Atrous spatial pyramid pooling (DeepLab v3, arXiv 1706.05587, section 3.3)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.layers.batch_norm import get_norm
from detectron2.layers.blocks import DepthwiseSeparableConv2d
from detectron2.layers.wrappers import Conv2d
from torch import Tensor, nn

__all__ = ["ASPP"]


class _PooledBranch(nn.Sequential):
    """Average over the map, or over windows of (height, width), then a 1x1 convolution, stretched back."""

    def __init__(self, window: tuple[int, int] | None, convolution: nn.Module) -> None:
        pool = nn.AdaptiveAvgPool2d(1) if window is None else nn.AvgPool2d(kernel_size=window, stride=1)
        super().__init__(pool, convolution)
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.window is not None and (height % self.window[0] or width % self.window[1]):
            raise ValueError(f"ASPP: map {height} x {width} is not a multiple of the pooling window {self.window}")
        return F.interpolate(super().forward(x), size=(height, width), mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """A 1x1 convolution, a 3x3 one per dilation (three of them) and a pooled branch, joined by a 1x1 projection."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dilations: Sequence[int],
        *,
        norm: str | Callable,
        activation: Callable,
        pool_kernel_size: tuple[int, int] | None = None,
        dropout: float = 0.0,
        use_depthwise_separable_conv: bool = False,
    ) -> None:
        super().__init__()
        if len(dilations) != 3:
            raise ValueError(f"ASPP takes 3 dilations, got {list(dilations)}")
        self.dropout = dropout
        bias = norm == ""

        def convolution(channels: int, kernel_size: int, dilation: int = 1, *, normed: bool = True) -> nn.Module:
            layer = Conv2d(
                channels,
                out_channels,
                kernel_size,
                padding=dilation if kernel_size == 3 else 0,
                dilation=dilation,
                bias=bias or not normed,
                norm=get_norm(norm, out_channels) if normed else None,
                activation=deepcopy(activation),
            )
            weight_init.c2_xavier_fill(layer)
            return layer

        def dilated(dilation: int) -> nn.Module:
            if not use_depthwise_separable_conv:
                return convolution(in_channels, 3, dilation)
            options = {"norm1": norm, "activation1": deepcopy(activation)}
            options |= {"norm2": norm, "activation2": deepcopy(activation)}
            return DepthwiseSeparableConv2d(in_channels, out_channels, 3, dilation, dilation, **options)

        # The pooled branch has no norm where its map is 1 x 1: one value per image has no statistics.
        pooled = _PooledBranch(pool_kernel_size, convolution(in_channels, 1, normed=pool_kernel_size is not None))
        self.convs = nn.ModuleList([convolution(in_channels, 1), *map(dilated, dilations), pooled])
        self.project = convolution(5 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H, W)."""
        joined = self.project(torch.cat([branch(x) for branch in self.convs], dim=1))
        return F.dropout(joined, self.dropout, training=self.training) if self.dropout > 0 else joined
