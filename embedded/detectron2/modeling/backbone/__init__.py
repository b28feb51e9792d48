"""Backbones."""

from __future__ import annotations

from detectron2._left_out import stand_ins
from detectron2.modeling.backbone.backbone import Backbone
from detectron2.modeling.backbone.build import BACKBONE_REGISTRY, build_backbone
from detectron2.modeling.backbone.fpn import FPN
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet, build_resnet_backbone

__getattr__ = stand_ins(__name__)
