"""Feature pyramid network (arXiv 1612.03144) with Detectron2's parameter names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import fvcore.nn.weight_init as weight_init
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling.backbone.backbone import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.resnet import build_resnet_backbone
from torch import Tensor, nn


class FPN(Backbone):
    """Maps p2, p3, ... (by the log2 of the stride), all with `out_channels`, from the `in_features` of a backbone.

    From the coarsest map down: a 1x1 convolution of the backbone's map, plus the coarser sum enlarged twofold; of every
    sum a 3x3 convolution is an output. `top_block` adds coarser levels.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str | Callable = "",
        top_block: Any = None,  # nn.Module with num_levels and in_feature
        fuse_type: str = "sum",
        square_pad: int = 0,
    ) -> None:
        """`fuse_type`: "sum" or "avg" of the two maps. `square_pad` > 0: images are padded to squares of that side."""
        super().__init__()
        if not in_features:
            raise ValueError("FPN needs at least one input feature (MODEL.FPN.IN_FEATURES)")
        if fuse_type not in ("sum", "avg"):
            raise ValueError(f"FPN fuse type is {fuse_type!r}; it is 'sum' or 'avg'")
        shapes = bottom_up.output_shape()
        strides = [shapes[name].stride for name in in_features]
        if any(coarse != 2 * fine for fine, coarse in zip(strides, strides[1:], strict=False)):
            raise ValueError(f"FPN needs strides that double from map to map; {list(in_features)} have {strides}")

        self._levels = [int(math.log2(stride)) for stride in strides]
        for level, name in zip(self._levels, in_features, strict=True):
            for part, channels, size in (("lateral", shapes[name].channels, 1), ("output", out_channels, 3)):
                layer = Conv2d(
                    channels, out_channels, size, padding=size // 2, bias=norm == "", norm=get_norm(norm, out_channels)
                )
                weight_init.c2_xavier_fill(layer)
                self.add_module(f"fpn_{part}{level}", layer)
        self.top_block = top_block
        self.in_features = tuple(in_features)
        self.bottom_up = bottom_up
        self._fuse_type = fuse_type
        self._square_pad = square_pad
        self._size_divisibility = strides[-1]
        finest, coarsest = self._levels[0], self._levels[-1] + (top_block.num_levels if top_block is not None else 0)
        self._out_feature_strides = {f"p{level}": 2**level for level in range(finest, coarsest + 1)}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": self._square_pad}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> {"p2": (N, out_channels, H / 4, W / 4), ...}; H and W are multiples of size_divisibility."""
        features = self.bottom_up(x)
        outputs: dict[str, Tensor] = {}
        merged: Tensor | None = None
        for level, name in reversed(list(zip(self._levels, self.in_features, strict=True))):
            lateral = self.get_submodule(f"fpn_lateral{level}")(features[name])
            if merged is None:
                merged = lateral
            else:
                merged = lateral + F.interpolate(merged, scale_factor=2.0, mode="nearest")
                if self._fuse_type == "avg":
                    merged = merged / 2
            outputs[f"p{level}"] = self.get_submodule(f"fpn_output{level}")(merged)
        if self.top_block is not None:
            source = self.top_block.in_feature
            extra = self.top_block(features[source] if source in features else outputs[source])
            outputs |= {f"p{self._levels[-1] + 1 + number}": each for number, each in enumerate(extra)}
        return {name: outputs[name] for name in self._out_features}


class LastLevelMaxPool(nn.Module):
    """p6: every second pixel of p5."""

    def __init__(self) -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = "p5"

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.max_pool2d(x, kernel_size=1, stride=2)]


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """ResNet and FPN, with p6 by pooling."""
    node, bottom_up = cfg.MODEL.FPN, build_resnet_backbone(cfg, input_shape)
    options = {"norm": node.NORM, "top_block": LastLevelMaxPool(), "fuse_type": node.FUSE_TYPE}
    return FPN(bottom_up, node.IN_FEATURES, node.OUT_CHANNELS, **options)
