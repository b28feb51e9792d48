"""An older place of two functions."""
# ruff: noqa: F401

from __future__ import annotations

from .coco import register_coco_instances
from .coco_panoptic import register_coco_panoptic_separated
