"""Results of an evaluation (task -> metric -> value): print, check, flatten."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

_logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log, per task, a line of metric names and one of values, to be pasted into a table.

    Metrics of single classes ("AP-person") are left out.
    """
    assert isinstance(results, Mapping), f"results have to be a dict, got {results!r}"
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            _logger.info(f"copypaste: {task}={metrics}")
            continue
        shown = {name: value for name, value in metrics.items() if "-" not in name}
        _logger.info(f"copypaste: Task: {task}")
        _logger.info("copypaste: " + ",".join(shown))
        _logger.info("copypaste: " + ",".join(f"{value:.4f}" for value in shown.values()))


def verify_results(cfg: CfgNode, results: Mapping[str, Any]) -> bool:
    """True if every (task, metric, value, tolerance) of TEST.EXPECTED_RESULTS is met; else the process exits with 1."""
    unmet = []
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        actual = results[task].get(metric)
        if actual is None or not math.isfinite(actual) or abs(actual - expected) > tolerance:
            unmet.append(f"{task}/{metric}: expected {expected} within {tolerance}, got {actual}")
    if unmet:
        _logger.error("Result verification failed: " + "; ".join(unmet))
        sys.exit(1)
    if cfg.TEST.EXPECTED_RESULTS:
        _logger.info("Results verification passed.")
    return True


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """{"a": {"b": 1}, "c": 2} -> {"a/b": 1, "c": 2}, at any depth."""
    flat: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}/{rest}": inner for rest, inner in flatten_results_dict(value).items()})
        else:
            flat[name] = value
    return flat
