"""DeepLab: configuration, backbone and schedule. Its heads come with the real Detectron2 only."""

from __future__ import annotations

from detectron2.config.node import CfgNode, add_keys
from detectron2.projects.deeplab.lr_scheduler import build_lr_scheduler
from detectron2.projects.deeplab.resnet import build_resnet_deeplab_backbone


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add DeepLab's keys, those of `keys.yaml`, in place."""
    add_keys(cfg, __name__)
