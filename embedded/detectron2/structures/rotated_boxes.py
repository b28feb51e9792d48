"""Rotated boxes come with the real Detectron2 only."""
from __future__ import annotations

from detectron2._left_out import left_out

__all__ = ["RotatedBoxes", "pairwise_iou"]

RotatedBoxes, pairwise_iou = left_out(__name__, *__all__)
