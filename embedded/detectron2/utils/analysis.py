"""Parameters and operations of a model, by fvcore."""
# ruff: noqa: F401

from __future__ import annotations

from fvcore.nn import FlopCountAnalysis, parameter_count, parameter_count_table
