"""Backbones."""

from __future__ import annotations

from detectron2.modeling.backbone.backbone import BACKBONE_REGISTRY, Backbone, build_backbone
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet, build_resnet_backbone
