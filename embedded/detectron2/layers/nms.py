"""Non-maximum suppression, by torchvision's operators."""
# ruff: noqa: F401

from __future__ import annotations

from torch import Tensor
from torchvision.ops import boxes as box_ops
from torchvision.ops import nms


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Indices of what stays, by falling score, when boxes (N, 4) of equal `idxs` (class or level) suppress each other.

    Coordinates are taken in float32 whatever their type: half precision would merge neighbors.
    """
    assert boxes.shape[-1] == 4, f"boxes have shape (N, 4), not {boxes.shape}"
    return box_ops.batched_nms(boxes.float(), scores, idxs, iou_threshold)
