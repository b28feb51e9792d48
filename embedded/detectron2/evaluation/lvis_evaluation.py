"""LVIS scores: left out, see `detectron2._left_out`."""

from __future__ import annotations

from detectron2._left_out import left_out

__all__ = ["LVISEvaluator"]

(LVISEvaluator,) = left_out(__name__, *__all__)
