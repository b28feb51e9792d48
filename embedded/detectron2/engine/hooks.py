"""The usual hooks: time, learning rate, evaluation, checkpoints, writers, BN statistics."""

from __future__ import annotations

import datetime
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.solver import LRMultiplier
from detectron2.solver import LRScheduler as _TorchScheduler
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from fvcore.common.checkpoint import Checkpointer
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn
from torch.optim import Optimizer

_logger = logging.getLogger(__name__)


def _is_due(period: int, trainer: TrainerBase) -> bool:
    """Whether the iteration that ends now is a multiple of `period` (0: never)."""
    return period > 0 and (trainer.iter + 1) % period == 0


def _is_last(trainer: TrainerBase) -> bool:
    return trainer.iter + 1 == trainer.max_iter


def _is_finished(trainer: TrainerBase) -> bool:
    """For after_train: the last iteration was reached. (A loop of a user's own may leave `iter` at the last one.)"""
    return trainer.iter + 1 >= trainer.max_iter


class IterationTimer(HookBase):
    """Puts the seconds of each step into the storage as "time" and logs a summary. Belongs first in the list of hooks.

    Timing begins with iteration number `warmup_iter` (from 1): those before it build workers, caches and kernels.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._all = Timer()
        self._steps: list[float] = []  # seconds

    def before_train(self) -> None:
        self._all.reset()
        self._steps.clear()

    def before_step(self) -> None:
        if self.trainer.iter - self.trainer.start_iter + 1 <= self._warmup_iter:
            self._all.reset()
        self._step = Timer()

    def after_step(self) -> None:
        if self.trainer.iter - self.trainer.start_iter + 1 >= self._warmup_iter:
            self._steps.append(self._step.seconds())
            self.trainer.storage.put_scalars(time=self._steps[-1])

    def after_train(self) -> None:
        total, in_steps = (datetime.timedelta(seconds=int(s)) for s in (self._all.seconds(), sum(self._steps)))
        _logger.info(f"{len(self._steps)} timed iterations took {total}, {in_steps} of it in steps, the rest on hooks")


class PeriodicWriter(HookBase):
    """Lets the writers write every `period` iterations, after the last one, and once more when training has ended."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        if _is_due(self._period, self.trainer) or _is_last(self.trainer):
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()  # what other hooks have put there in after_train
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's PeriodicCheckpointer as a hook: saves every `period` iterations and after the last one."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class BestCheckpointer(HookBase):
    """Saves `file_prefix` whenever metric `val_metric` of the storage (e.g. "bbox/AP50") is better than ever before.

    Comes after the hook that computes the metric and looks at the same iterations as EvalHook does. A metric that is
    nan or infinite is never best. `mode` says whether "max" or "min" is good.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ) -> None:
        assert mode in ("max", "min"), f"BestCheckpointer: mode is 'max' or 'min', got {mode!r}"
        self._period = eval_period
        self._checkpointer = checkpointer
        self._val_metric = val_metric
        self._sign = 1 if mode == "max" else -1
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _check(self) -> None:
        if self._val_metric not in self.trainer.storage.latest():
            _logger.warning(f"Metric {self._val_metric} was not computed, so no best checkpoint is kept by it")
            return
        metric, iteration = self.trainer.storage.latest()[self._val_metric]
        best = self.best_metric
        if math.isfinite(metric) and (best is None or self._sign * metric > self._sign * best):
            self.best_metric, self.best_iter = metric, iteration
            self._checkpointer.save(self._file_prefix, iteration=iteration)
        _logger.info(f"{self._val_metric}: {metric:.5f}, best {self.best_metric} at iteration {self.best_iter}")

    def after_step(self) -> None:
        if _is_due(self._period, self.trainer) and not _is_last(self.trainer):
            self._check()

    def after_train(self) -> None:
        if _is_finished(self.trainer):
            self._check()


class LRScheduler(HookBase):
    """Steps the scheduler after every iteration and puts "lr" into the storage.

    `scheduler` is a torch scheduler, or a fvcore ParamScheduler that multiplies the optimizer's rates. What is not
    given is the trainer's `optimizer` or `scheduler`. "lr" is that of the group with the most parameters or, where
    every group has one parameter, the rate that most groups begin with.
    """

    def __init__(
        self, optimizer: Optimizer | None = None, scheduler: _TorchScheduler | ParamScheduler | None = None
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler

    @property
    def scheduler(self) -> Any:
        return self._scheduler or self.trainer.scheduler  # type: ignore[attr-defined]

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer  # type: ignore[attr-defined]
        if isinstance(self.scheduler, ParamScheduler):
            self._scheduler = LRMultiplier(
                self._optimizer, self.scheduler, self.trainer.max_iter, last_iter=self.trainer.iter - 1
            )
        self._shown_group = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: Optimizer) -> int:
        """Index of the group whose learning rate stands for all of them in logs."""
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in optimizer.param_groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        assert self._optimizer is not None, "before_train sets it"
        lr = self._optimizer.param_groups[self._shown_group]["lr"]
        self.trainer.storage.put_scalar("lr", lr, smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict() if isinstance(self.scheduler, _TorchScheduler) else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if isinstance(self.scheduler, _TorchScheduler):
            self.scheduler.load_state_dict(dict(state_dict))


class EvalHook(HookBase):
    """Puts the results of `eval_function` (a nested dict of numbers, or nothing) into the storage as "task/metric".

    Runs every `eval_period` iterations (0: not during training) and, with `eval_after_train`, at the end of a training
    that did not fail. Every process needs this hook; one that has nothing to do gets a function that returns None.
    """

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Mapping[str, Any] | None], eval_after_train: bool = True
    ) -> None:
        self._period = eval_period
        self._evaluate: Callable[[], Mapping[str, Any] | None] | None = eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        assert self._evaluate is not None, "EvalHook was used again after training has ended"
        results = self._evaluate() or {}
        assert isinstance(results, Mapping), f"an evaluation has to give a dict, got {results!r}"
        metrics = flatten_results_dict(results)
        for name, value in metrics.items():
            try:
                float(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"evaluation results have to be numbers, got {name}: {value!r}") from error
        self.trainer.storage.put_scalars(smoothing_hint=False, **metrics)
        comm.synchronize()  # the next step begins when the slowest process has finished

    def after_step(self) -> None:
        if _is_due(self._period, self.trainer) and not _is_last(self.trainer):
            self._do_eval()

    def after_train(self) -> None:
        if self._eval_after_train and _is_finished(self.trainer):
            self._do_eval()
        self._evaluate = None  # it may hold the trainer, which holds this hook


class PreciseBN(HookBase):
    """Replaces the running statistics of BN layers in training mode by true averages over `num_iter` batches.

    Runs every `period` iterations (0: not during training) and after the last one.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int) -> None:
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._batches: Any = None
        self._num_iter = num_iter

    def after_step(self) -> None:
        if _is_due(self._period, self.trainer) or _is_last(self.trainer):
            self.update_stats()

    def update_stats(self) -> None:
        """Compute and set the statistics now."""
        if not get_bn_modules(self._model):
            return
        if self._batches is None:
            self._batches = iter(self._data_loader)
        _logger.info(f"Averaging BN statistics over {self._num_iter} batches")
        with EventStorage():  # what the model puts into a storage meanwhile is not training's
            update_bn_stats(self._model, self._batches, self._num_iter)
