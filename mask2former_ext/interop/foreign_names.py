"""Other projects' names of the same networks, and where they order channels otherwise.

Shapes: K classes of objects. torchvision counts the background as class 0, Detectron2 as class K.
"""

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


# -------------------------------------------------------------------------------------------- torchvision's Mask R-CNN

_RPN, _HEADS = "proposal_generator.rpn_head.", "roi_heads."
_FPN = "backbone.fpn"
# The beginnings of its names -> of Detectron2's; some have a .0 more since torchvision's layers can hold a norm.
_MASK_RCNN = {
    **{f"{_FPN}.inner_blocks.{n}{more}.": f"{_FPN}_lateral{n + 2}." for n in range(4) for more in ("", ".0")},
    **{f"{_FPN}.layer_blocks.{n}{more}.": f"{_FPN}_output{n + 2}." for n in range(4) for more in ("", ".0")},
    "rpn.head.conv.": _RPN + "conv.",
    "rpn.head.conv.0.0.": _RPN + "conv.",
    "rpn.head.cls_logits.": _RPN + "objectness_logits.",
    "rpn.head.bbox_pred.": _RPN + "anchor_deltas.",
    "roi_heads.box_head.fc6.": _HEADS + "box_head.fc1.",
    "roi_heads.box_head.fc7.": _HEADS + "box_head.fc2.",
    **{f"roi_heads.mask_head.{n}.0.": f"{_HEADS}mask_head.mask_fcn{n + 1}." for n in range(4)},
    "roi_heads.mask_predictor.conv5_mask.": _HEADS + "mask_head.deconv.",
    "roi_heads.mask_predictor.mask_fcn_logits.": _HEADS + "mask_head.predictor.",
}


def is_torchvision_rcnn(state: dict[str, Tensor]) -> bool:
    return "rpn.head.cls_logits.weight" in state


def from_torchvision_rcnn(state: dict[str, Tensor], batch_norm_eps: float = BATCH_NORM_EPS) -> dict[str, Tensor]:
    """Weights of torchvision's `maskrcnn_resnet50_fpn` or `fasterrcnn_resnet50_fpn` under Detectron2's names.

    `batch_norm_eps`: what their batch norms add to the variance; 0 in the models that torchvision gives with its first
    published weights (COCO_V1).
    """
    converted = {}
    for name, value in state.items():
        ours = _mask_rcnn_name(name)
        if name.startswith("roi_heads.box_predictor.cls_score."):
            value = value.roll(-1, dims=0)  # the background from the first place to the last
        elif name.startswith("roi_heads.box_predictor.bbox_pred."):
            value = value[4:]  # no box of the background
        elif name.startswith("roi_heads.mask_predictor.mask_fcn_logits."):
            value = value[1:]  # and no mask
        elif ours.endswith("norm.running_var"):
            value = value + (batch_norm_eps - BATCH_NORM_EPS)
        converted[ours] = value
    return converted


def _mask_rcnn_name(name: str) -> str:
    if name.startswith("backbone.body."):
        return "backbone.bottom_up." + detectron2_resnet_name(name.removeprefix("backbone.body."))
    beginning = max((start for start in _MASK_RCNN if name.startswith(start)), key=len, default="")
    return _MASK_RCNN.get(beginning, "") + name.removeprefix(beginning)
