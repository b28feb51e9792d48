"""Building blocks of convolutional networks."""

from __future__ import annotations

from collections.abc import Callable

import fvcore.nn.weight_init as weight_init
from detectron2.layers.batch_norm import FrozenBatchNorm2d, get_norm
from detectron2.layers.wrappers import Conv2d
from torch import Tensor, nn


class CNNBlockBase(nn.Module):
    """A block with known channels and stride, whose forward takes and gives (N, C, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def freeze(self) -> CNNBlockBase:
        """Stop all training of this block, in place: parameters as well as batch statistics."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


class DepthwiseSeparableConv2d(nn.Module):
    """A convolution per channel, then a 1x1 convolution over channels (MobileNet, arXiv 1704.04861)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: str | Callable | None = None,
        activation1: Callable | None = None,
        norm2: str | Callable | None = None,
        activation2: Callable | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            padding=padding,
            dilation=dilation,
            groups=in_channels,
            bias=not norm1,
            norm=get_norm(norm1, in_channels),
            activation=activation1,
        )
        self.pointwise = Conv2d(
            in_channels, out_channels, 1, bias=not norm2, norm=get_norm(norm2, out_channels), activation=activation2
        )
        weight_init.c2_msra_fill(self.depthwise)
        weight_init.c2_msra_fill(self.pointwise)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))
