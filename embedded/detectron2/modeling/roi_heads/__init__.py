"""Registries of the heads on regions, for projects that bring their own; Detectron2's come with the real one only."""

from __future__ import annotations

from detectron2.utils.registry import Registry

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
