"""Parameters and operations of a model, by fvcore."""
# ruff: noqa: F401

from __future__ import annotations

from detectron2._left_out import stand_ins
from fvcore.nn import FlopCountAnalysis, parameter_count, parameter_count_table

__getattr__ = stand_ins(__name__)
