"""Registry of anchor generators; Detectron2's own come with the real one only."""
from __future__ import annotations

from detectron2._left_out import left_out
from detectron2.utils.registry import Registry

__all__ = ["ANCHOR_GENERATOR_REGISTRY", "DefaultAnchorGenerator", "build_anchor_generator"]

ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")

DefaultAnchorGenerator, build_anchor_generator = left_out(__name__, "DefaultAnchorGenerator", "build_anchor_generator")
