"""Registries of the heads on regions; Detectron2's own heads come with the real one only."""
from __future__ import annotations

from detectron2._left_out import left_out
from detectron2.utils.registry import Registry

__all__ = [
    "BaseKeypointRCNNHead",
    "BaseMaskRCNNHead",
    "FastRCNNOutputLayers",
    "ROIHeads",
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "ROI_MASK_HEAD_REGISTRY",
    "StandardROIHeads",
    "build_box_head",
    "build_keypoint_head",
    "build_mask_head",
    "build_roi_heads",
]

ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")
ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD")
ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")

(
    BaseKeypointRCNNHead,
    BaseMaskRCNNHead,
    FastRCNNOutputLayers,
    ROIHeads,
    StandardROIHeads,
    build_box_head,
    build_keypoint_head,
    build_mask_head,
    build_roi_heads,
) = left_out(
    __name__,
    "BaseKeypointRCNNHead",
    "BaseMaskRCNNHead",
    "FastRCNNOutputLayers",
    "ROIHeads",
    "StandardROIHeads",
    "build_box_head",
    "build_keypoint_head",
    "build_mask_head",
    "build_roi_heads",
)
