"""Losses between boxes of equal index, by torchvision."""
# ruff: noqa: F401

from __future__ import annotations

from torchvision.ops import complete_box_iou_loss as ciou_loss
from torchvision.ops import distance_box_iou_loss as diou_loss
