"""Scores of segmentation: PQ, AP, mIoU. The arithmetic stands in files of its own; trainers need `build_evaluator`."""

from __future__ import annotations

from mask2former_ext.evaluation.build import build_evaluator

__all__ = ["build_evaluator"]
