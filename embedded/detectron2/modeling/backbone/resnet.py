"""ResNet (arXiv 1512.03385) and ResNeXt (1611.05431) with Detectron2's parameter names.

Shapes: N images, C channels, H, W pixels. The maps res2 to res5 have strides 4 to 32 without dilation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2._left_out import left_out_message
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling.backbone.backbone import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

Norm = str | Callable[[int], nn.Module]

# depth -> (is it made of bottlenecks, blocks per stage); table 1 of the paper
_LAYOUTS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int, norm: Norm, dilation: int = 1, **options: Any
) -> Conv2d:
    """Convolution without bias and its norm, as wide as its input at stride 1."""
    options |= {"padding": kernel_size // 2 * dilation, "dilation": dilation, "bias": False}
    layer = Conv2d(in_channels, out_channels, kernel_size, norm=get_norm(norm, out_channels), **options)
    weight_init.c2_msra_fill(layer)
    return layer


class BasicStem(CNNBlockBase):
    """7x7 convolution and max pooling: stride 4 in all."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Norm = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _convolution(in_channels, out_channels, 7, norm, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class _ResidualBlock(CNNBlockBase):
    """What both kinds of block share: relu(residual(x) + shortcut(x)), the shortcut projected if channels change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Norm) -> None:
        super().__init__(in_channels, out_channels, stride)
        changes = in_channels != out_channels
        self.shortcut = _convolution(in_channels, out_channels, 1, norm, stride=stride) if changes else None

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        carried = x if self.shortcut is None else self.shortcut(x)
        return F.relu_(self.residual(x) + carried)


class BasicBlock(_ResidualBlock):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm = "BN") -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        self.conv1 = _convolution(in_channels, out_channels, 3, norm, stride=stride)
        self.conv2 = _convolution(out_channels, out_channels, 3, norm)

    def residual(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu_(self.conv1(x)))


class BottleneckBlock(_ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions, the middle one grouped in ResNeXt.

    `stride_in_1x1`: the stride is in the first convolution (the models from MSRA), otherwise in the 3x3 one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Norm = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        first, middle = (stride, 1) if stride_in_1x1 else (1, stride)
        width = bottleneck_channels
        self.conv1 = _convolution(in_channels, width, 1, norm, stride=first)
        self.conv2 = _convolution(width, width, 3, norm, stride=middle, dilation=dilation, groups=num_groups)
        self.conv3 = _convolution(width, out_channels, 1, norm)

    def residual(self, x: Tensor) -> Tensor:
        return self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))


class ResNet(Backbone):
    """A stem and stages res2, res3, ...; with `num_classes` also a classifier, whose output is called "linear"."""

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: Sequence[Sequence[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        """`out_features`: names among stem, res2, ..., linear; default the last. Stages after the last are dropped.

        `freeze_at`: see `freeze`.
        """
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        names = [f"res{number}" for number in range(2, 2 + len(stages))]
        if out_features is None:
            out_features = ["linear" if num_classes is not None else names[-1]]
        if not out_features:
            raise ValueError("a ResNet needs at least one output feature")
        known = ["stem", *names, *(["linear"] if num_classes is not None else [])]
        unknown = [name for name in out_features if name not in known]
        if unknown:
            raise ValueError(f"unknown ResNet outputs {unknown}; known: {known}")
        if "linear" not in out_features:
            names = names[: max(known.index(name) for name in out_features)]

        self._out_features = list(out_features)
        self._out_feature_strides = {"stem": stem.stride}
        self._out_feature_channels = {"stem": stem.out_channels}
        self.stage_names, self.stages = tuple(names), []
        stride, channels = stem.stride, stem.out_channels
        for name, blocks in zip(names, stages, strict=False):
            stage = nn.Sequential(*blocks)
            self.add_module(name, stage)
            self.stages.append(stage)
            for block in blocks:
                stride *= block.stride
            channels = blocks[-1].out_channels
            self._out_feature_strides[name], self._out_feature_channels[name] = stride, channels
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.linear = nn.Linear(channels, num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)  # section 5.1 of arXiv 1706.02677
        self.freeze(freeze_at)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) -> the maps named in `out_features`; "linear" is (N, num_classes) logits."""
        assert x.dim() == 4, f"images have shape (N, C, H, W), not {tuple(x.shape)}"
        x = self.stem(x)
        maps = {"stem": x}
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            x = maps[name] = stage(x)
        if "linear" in self._out_features:
            maps["linear"] = self.linear(torch.flatten(self.avgpool(x), 1))
        return {name: maps[name] for name in self._out_features}

    def freeze(self, freeze_at: int = 0) -> ResNet:
        """Stop training of the first parts, in place: 1 the stem, 2 also res2, 3 also res3, ..."""
        if freeze_at >= 1:
            self.stem.freeze()
        for stage in self.stages[: max(freeze_at - 1, 0)]:
            blocks: list[Any] = list(stage)
            for block in blocks:
                block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase], num_blocks: int, *, in_channels: int, out_channels: int, **kwargs: Any
    ) -> list[CNNBlockBase]:
        """Blocks in a row. An argument x of the block is given as x, or as x_per_block, a list of num_blocks values."""
        per_block = {key.removesuffix("_per_block"): kwargs[key] for key in kwargs if key.endswith("_per_block")}
        common = {key: value for key, value in kwargs.items() if not key.endswith("_per_block")}
        for key, values in per_block.items():
            if key in common:
                raise ValueError(f"make_stage got both {key} and {key}_per_block")
            if len(values) != num_blocks:
                raise ValueError(f"{key}_per_block has {len(values)} values for {num_blocks} blocks")
        blocks = []
        for number in range(num_blocks):
            own = {key: values[number] for key, values in per_block.items()}
            blocks.append(block_class(in_channels, out_channels, **common, **own))
            in_channels = out_channels
        return blocks

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[CNNBlockBase]]:
        """The four stages of ResNet-18, 34, 50, 101 or 152, for a stem of 64 channels; kwargs go to every block."""
        if depth not in _LAYOUTS:
            raise ValueError(f"there is no standard ResNet of depth {depth}; depths: {sorted(_LAYOUTS)}")
        bottleneck, counts = _LAYOUTS[depth]
        block_class = block_class or (BottleneckBlock if bottleneck else BasicBlock)
        stages, in_channels = [], 64
        for number, count in enumerate(counts):
            out_channels = (256 if bottleneck else 64) * 2**number
            options = {"stride_per_block": [1 if number == 0 else 2] + [1] * (count - 1)}
            if bottleneck:
                options["bottleneck_channels"] = out_channels // 4
            channels = {"in_channels": in_channels, "out_channels": out_channels}
            stages.append(ResNet.make_stage(block_class, count, **channels, **{**options, **kwargs}))
            in_channels = out_channels
        return stages


def stages_from_config(
    node: CfgNode, dilations: Sequence[int], last_grid: Sequence[int] | None = None
) -> list[list[CNNBlockBase]]:
    """The four stages of cfg.MODEL.RESNETS, each with its dilation; a stage with dilation above 1 has stride 1.

    `last_grid`: a factor for the dilation of each block of the last stage (DeepLab v3's multi-grid).
    """
    if node.DEPTH not in _LAYOUTS:
        raise ValueError(f"MODEL.RESNETS.DEPTH is {node.DEPTH}; depths: {sorted(_LAYOUTS)}")
    if any(node.DEFORM_ON_PER_STAGE):
        raise ImportError(left_out_message("MODEL.RESNETS.DEFORM_ON_PER_STAGE"))
    bottleneck, counts = _LAYOUTS[node.DEPTH]
    shallow = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}  # what ResNet-18 and -34 can be
    if not bottleneck and any(node[key] != value for key, value in shallow.items()):
        raise ValueError(f"MODEL.RESNETS: depth {node.DEPTH} needs {shallow}; got {dict(node)}")
    stages, in_channels, out_channels = [], node.STEM_OUT_CHANNELS, node.RES2_OUT_CHANNELS
    width = node.NUM_GROUPS * node.WIDTH_PER_GROUP
    for number, (count, dilation) in enumerate(zip(counts, dilations, strict=True)):
        first_stride = 1 if number == 0 or dilation > 1 else 2
        options: dict[str, Any] = {"stride_per_block": [first_stride] + [1] * (count - 1), "norm": node.NORM}
        if bottleneck:
            grid = last_grid if last_grid is not None and number == 3 else [1] * count
            options |= {
                "bottleneck_channels": width * 2**number,
                "num_groups": node.NUM_GROUPS,
                "stride_in_1x1": node.STRIDE_IN_1X1,
                "dilation_per_block": [dilation * factor for factor in grid],
            }
        block_class = BottleneckBlock if bottleneck else BasicBlock
        stages.append(
            ResNet.make_stage(block_class, count, in_channels=in_channels, out_channels=out_channels, **options)
        )
        in_channels, out_channels = out_channels, out_channels * 2
    return stages


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """The ResNet that cfg.MODEL.RESNETS and cfg.MODEL.BACKBONE.FREEZE_AT describe, with the 7x7 stem."""
    node = cfg.MODEL.RESNETS
    if node.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION is {node.RES5_DILATION}; it is 1 or 2")
    stem = BasicStem(in_channels=input_shape.channels, out_channels=node.STEM_OUT_CHANNELS, norm=node.NORM)
    stages = stages_from_config(node, (1, 1, 1, node.RES5_DILATION))
    return ResNet(stem, stages, out_features=node.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
