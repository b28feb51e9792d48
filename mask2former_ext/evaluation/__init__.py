"""Scores of segmentation: PQ, AP, mIoU. The arithmetic stands in files of its own; trainers need `build_evaluator`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mask2former_ext.on_demand import names_on_demand

if TYPE_CHECKING:
    from mask2former_ext.evaluation.build import build_evaluator

__all__ = ["build_evaluator"]

__getattr__, __dir__ = names_on_demand(__name__, {"build_evaluator": "build"})
