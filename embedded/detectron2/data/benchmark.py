"""Detectron2's loader benchmark is left out: the names exist, using them says how to install the real one."""

from __future__ import annotations

from detectron2._left_out import left_out

DataLoaderBenchmark, iter_benchmark = left_out(__name__, "DataLoaderBenchmark", "iter_benchmark")
