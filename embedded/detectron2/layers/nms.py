"""Non-maximum suppression, by torchvision's operators."""
# ruff: noqa: F401

from __future__ import annotations

from detectron2._left_out import stand_ins
from torch import Tensor
from torchvision.ops import boxes as box_ops
from torchvision.ops import nms

__getattr__ = stand_ins(__name__)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Indices of what stays, by falling score, when boxes (N, 4) of equal `idxs` (class or level) suppress each other.

    Coordinates are taken in float32 whatever their type: half precision would merge neighbours.
    """
    assert boxes.shape[-1] == 4, f"boxes have shape (N, 4), not {boxes.shape}"
    return box_ops.batched_nms(boxes.float(), scores, idxs, iou_threshold)
