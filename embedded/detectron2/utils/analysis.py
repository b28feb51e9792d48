"""Parameters and operations of a model, by fvcore."""
from __future__ import annotations

from detectron2._left_out import left_out
from fvcore.nn import FlopCountAnalysis, parameter_count, parameter_count_table

__all__ = [
    "FlopCountAnalysis",
    "activation_count_operators",
    "flop_count_operators",
    "parameter_count",
    "parameter_count_table",
]

activation_count_operators, flop_count_operators = left_out(
    __name__, "activation_count_operators", "flop_count_operators"
)
