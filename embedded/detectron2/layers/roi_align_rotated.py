"""RoIAlign of rotated boxes: with the real Detectron2 only."""
from __future__ import annotations

from detectron2._left_out import left_out

__all__ = ["ROIAlignRotated", "roi_align_rotated"]

ROIAlignRotated, roi_align_rotated = left_out(__name__, *__all__)
