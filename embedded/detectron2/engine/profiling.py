"""Hooks that look inside: traces of chosen iterations and CUDA memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

import torch
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch.profiler import ProfilerActivity

_MIB = 1024 * 1024


class TorchProfiler(HookBase):
    """Runs torch.profiler in the iterations that `enable_predicate(trainer)` chooses.

    Writes for TensorBoard under `output_dir`/log, or with `save_tensorboard` off one chrome trace per iteration to
    `output_dir`/profiler-trace-iter<i>.json.
    """

    def __init__(
        self,
        enable_predicate: Callable[[TrainerBase], bool],
        output_dir: str,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        self._enable_predicate = enable_predicate
        self._output_dir = output_dir
        self._activities = activities
        self._save_tensorboard = save_tensorboard
        self._profiler: torch.profiler.profile | None = None

    def before_step(self) -> None:
        if not self._enable_predicate(self.trainer):
            return
        handler = None
        if self._save_tensorboard:
            folder = os.path.join(self._output_dir, "log", f"profiler-tensorboard-iter{self.trainer.iter}")
            handler = torch.profiler.tensorboard_trace_handler(folder, f"worker{comm.get_rank()}")
        self._profiler = torch.profiler.profile(
            activities=self._activities,
            on_trace_ready=handler,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
            with_flops=True,
        )
        self._profiler.start()

    def after_step(self) -> None:
        if self._profiler is None:
            return
        self._profiler.stop()
        if not self._save_tensorboard:
            PathManager.mkdirs(self._output_dir)
            path = os.path.join(self._output_dir, f"profiler-trace-iter{self.trainer.iter}.json")
            self._profiler.export_chrome_trace(path)
        self._profiler = None


class AutogradProfiler(TorchProfiler):
    """The older name of TorchProfiler with chrome traces."""

    def __init__(
        self, enable_predicate: Callable[[TrainerBase], bool], output_dir: str, *, use_cuda: bool = True
    ) -> None:
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if use_cuda else [])
        super().__init__(enable_predicate, output_dir, activities=activities, save_tensorboard=False)


class TorchMemoryStats(HookBase):
    """Logs CUDA memory (MiB) every `period` iterations, `max_runs` times; the last one with torch's full table."""

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        self._logger = logging.getLogger(__name__)
        self._period = period
        self._runs_left = max_runs

    def after_step(self) -> None:
        iteration = self.trainer.iter
        is_due = (iteration + 1) % self._period == 0 or iteration + 1 == self.trainer.max_iter
        if not is_due or self._runs_left == 0 or not torch.cuda.is_available():
            return
        self._runs_left -= 1
        self._logger.info(
            f"iter: {iteration}"
            f"  max_reserved_mem: {torch.cuda.max_memory_reserved() / _MIB:.0f}MB"
            f"  reserved_mem: {torch.cuda.memory_reserved() / _MIB:.0f}MB"
            f"  max_allocated_mem: {torch.cuda.max_memory_allocated() / _MIB:.0f}MB"
            f"  allocated_mem: {torch.cuda.memory_allocated() / _MIB:.0f}MB"
        )
        if self._runs_left == 0:
            self._logger.info(torch.cuda.memory_summary())
        torch.cuda.reset_peak_memory_stats()
