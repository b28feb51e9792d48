"""PointRend: configuration, point sampling and color augmentation. Its heads come with the real Detectron2 only."""

from __future__ import annotations

from detectron2.config.node import CfgNode, add_keys
from detectron2.projects.point_rend.color_augmentation import ColorAugSSDTransform


def add_pointrend_config(cfg: CfgNode) -> None:
    """Add PointRend's keys, those of `keys.yaml`, in place."""
    add_keys(cfg, __name__)
