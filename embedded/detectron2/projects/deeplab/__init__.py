"""DeepLab: configuration, backbone and schedule. Its heads come with the real Detectron2 only."""

from __future__ import annotations

from detectron2.projects.deeplab.build_solver import build_lr_scheduler
from detectron2.projects.deeplab.config import add_deeplab_config
from detectron2.projects.deeplab.resnet import build_resnet_deeplab_backbone
