"""Import path that Detectron2's users know for the Cityscapes evaluators."""
# ruff: noqa: F401

from __future__ import annotations

from mask2former_ext.evaluation.cityscapes import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
