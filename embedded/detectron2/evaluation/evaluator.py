"""The evaluator's interface, and the loop that runs a model over a data set for it."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.logger import log_every_n_seconds
from torch import nn

_logger = logging.getLogger(__name__)

_WARMUP_BATCHES = 5  # left out of the reported speed
_SECONDS_BETWEEN_LINES = 5


class DatasetEvaluator:
    """Collects from pairs of input and output what a score needs: `reset`, `process` per batch, `evaluate`."""

    def reset(self) -> None:
        """Forget everything; called before a data set."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Take a batch: the model's input and what it gave, one entry per image in both."""

    def evaluate(self) -> dict[str, Any] | None:
        """Task -> metric -> value, from all processes together; None or {} in those that do not know it."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one. No two may report the same task."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]) -> None:
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for evaluator in self._evaluators:
            own = evaluator.evaluate()
            if not own or not comm.is_main_process():
                continue
            twice = results.keys() & own.keys()
            assert not twice, f"two evaluators report {sorted(twice)}"
            results.update(own)
        return results


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Any,
    evaluator: DatasetEvaluator | MutableSequence[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], None]] | None = None,
) -> dict[str, Any]:
    """What `evaluator` (one, a list, or None for none) says about `model` on all batches of `data_loader`.

    The model runs without gradients, a module in eval mode, which is undone afterwards. `callbacks` are called at
    "on_start", "before_inference", "after_inference" and "on_end".
    """
    if evaluator is None or isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator or [])
    evaluator.reset()
    total = len(data_loader)
    _logger.info(f"Start inference on {total} batches")

    def call(moment: str) -> None:
        (callbacks or {}).get(moment, lambda: None)()

    seconds = dict.fromkeys(("data", "compute", "eval"), 0.0)
    timed, last = 0, time.perf_counter()

    def stop(phase: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[phase] += now - last
        last = now

    with inference_context(model) if isinstance(model, nn.Module) else nullcontext(), torch.no_grad():
        call("on_start")
        for index, inputs in enumerate(data_loader):
            stop("data")
            if index == min(_WARMUP_BATCHES, total - 1):
                seconds, timed = dict.fromkeys(seconds, 0.0), 0
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            stop("compute")
            evaluator.process(inputs, outputs)
            stop("eval")
            timed += 1
            spent = ", ".join(f"{phase} {value / timed:.4f}" for phase, value in seconds.items())
            left = datetime.timedelta(seconds=int(sum(seconds.values()) / timed * (total - index - 1)))
            line = f"Inference done {index + 1}/{total}. Seconds per batch: {spent}. ETA={left}"
            log_every_n_seconds(logging.INFO, line, n=_SECONDS_BETWEEN_LINES, name=__name__)
        call("on_end")
    whole = datetime.timedelta(seconds=int(sum(seconds.values())))
    _logger.info(f"Total inference time: {whole}, of which {seconds['compute']:.1f} s in the model")
    return evaluator.evaluate() or {}


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """`model` in eval mode inside, in its former mode afterwards, also after an exception."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
