"""The training loop and its hooks: a trainer runs steps, everything else that happens in training is a hook."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor, nn
from torch.optim import Optimizer

_logger = logging.getLogger(__name__)


class HookBase:
    """Something done at fixed points of training. Each method is optional; `self.trainer` is the trainer (weak).

    Order: before_train; for each iteration before_step, the step (in it after_backward), after_step; after_train, which
    also comes after a failure. What takes time belongs in after_step, so that timers see the step alone. A hook with
    `state_dict` and `load_state_dict` is stored in checkpoints.
    """

    trainer: TrainerBase = None  # type: ignore[assignment]

    def before_train(self) -> None:
        """Once, before the first iteration."""

    def after_train(self) -> None:
        """Once, after the last iteration or after an exception."""

    def before_step(self) -> None:
        """Before every iteration."""

    def after_backward(self) -> None:
        """Between the gradients of an iteration and the optimizer's step."""

    def after_step(self) -> None:
        """After every iteration."""

    def state_dict(self) -> dict[str, Any]:
        return {}


class TrainerBase:
    """A loop with hooks; subclasses say what a step is.

    `iter` is the current iteration, from `start_iter` to `max_iter` - 1; after_train sees `max_iter` if all went well.
    `storage` is the EventStorage of the running `train`.
    """

    max_iter: int
    storage: EventStorage

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter = 0
        self.start_iter = 0

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Append hooks, which run in this order. None is skipped."""
        self._hooks.extend(hook for hook in hooks if hook is not None)
        for hook in self._hooks:
            hook.trainer = weakref.proxy(self)  # weak, or trainer and hook would keep each other alive

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the iterations `start_iter`, ..., `max_iter` - 1."""
        _logger.info(f"Starting training from iteration {start_iter}")
        self.start_iter, self.max_iter = start_iter, max_iter
        self.iter = start_iter
        with EventStorage(start_iter) as storage:
            self.storage = storage
            try:
                self.before_train()
                while self.iter < max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1
            except Exception:
                _logger.exception(f"Training failed in iteration {self.iter}")
                raise
            finally:
                self.after_train()

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say what a training step is")

    def state_dict(self) -> dict[str, Any]:
        """{"iteration", "hooks": class name -> state}; of several hooks of one class the first is stored."""
        hook_states: dict[str, Any] = {}
        for hook in self._hooks:
            state = hook.state_dict()
            if state:
                hook_states.setdefault(type(hook).__qualname__, state)
        return {"iteration": self.iter, **({"hooks": hook_states} if hook_states else {})}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.iter = state_dict["iteration"]
        for name, state in state_dict.get("hooks", {}).items():
            hook = next((hook for hook in self._hooks if type(hook).__qualname__ == name), None)
            if hook is None:
                _logger.warning(f"The checkpoint holds the state of a hook {name}, which this trainer does not have")
            else:
                hook.load_state_dict(state)  # type: ignore[attr-defined]


class SimpleTrainer(TrainerBase):
    """One model, one loader, one optimizer: loss of a batch, gradients, step. The model is put in training mode."""

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        """`model(batch)` gives a scalar loss or a dict of them. Metrics are collected from all processes every
        `gather_metric_period` iterations; `async_write_metrics` does it in a thread beside the next step."""
        super().__init__()
        model.train()  # alone: a model's own train() may return nothing
        self.optimizer = optimizer
        self.model = model
        self.data_loader = data_loader
        self.zero_grad_before_forward = zero_grad_before_forward
        self.gather_metric_period = gather_metric_period
        self._data_loader_iter_obj: Iterator[Any] | None = None
        self._metric_thread = ThreadPoolExecutor(max_workers=1) if async_write_metrics else None
        self._written: Future[None] | None = None

    def run_step(self) -> None:
        batch, data_time = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        loss, loss_dict = self._forward(batch)
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self._backward(loss)
        self.after_backward()
        self._record(loss_dict, data_time)
        self._update()

    def _next_batch(self) -> tuple[Any, float]:
        """The next batch and the seconds spent waiting for it."""
        assert self.model.training, f"[{type(self).__name__}] the model was left in eval mode"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        return batch, time.perf_counter() - start

    def _forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self.model(batch)
        if isinstance(losses, Tensor):
            return losses, {"total_loss": losses}
        return sum(losses.values()), losses  # type: ignore[return-value]

    def _backward(self, loss: Tensor) -> None:
        loss.backward()

    def _update(self) -> None:
        self.optimizer.step()

    def _record(self, loss_dict: Mapping[str, Tensor], data_time: float) -> None:
        if self._metric_thread is None:
            self._write_metrics(loss_dict, data_time)
            return
        if self._written is not None:
            self._written.result()  # passes on what went wrong in the thread
        self._written = self._metric_thread.submit(self._write_metrics, loss_dict, data_time, iter=self.iter)

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Take a new loader; the old one and its workers are released before it is built."""
        self._data_loader_iter_obj = None
        del self.data_loader
        self.data_loader = data_loader_builder()

    def _write_metrics(
        self, loss_dict: Mapping[str, Tensor], data_time: float, prefix: str = "", iter: int | None = None
    ) -> None:
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period == 0:
            SimpleTrainer.write_metrics(loss_dict, data_time, iteration, prefix)

    @staticmethod
    def write_metrics(loss_dict: Mapping[str, Tensor], data_time: float, cur_iter: int, prefix: str = "") -> None:
        """Put losses (mean over processes), their sum as `prefix`total_loss and the data time (maximum) in the storage.

        Raises FloatingPointError, naming the losses, if their sum is not finite. All processes have to call it.
        """
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        own = {name: loss.detach().cpu().item() for name, loss in loss_dict.items()}
        gathered = comm.gather((own, data_time))
        if not comm.is_main_process():
            return
        storage.put_scalar("data_time", max(seconds for _, seconds in gathered), cur_iter=cur_iter)
        means = {name: float(np.mean([losses[name] for losses, _ in gathered])) for name in own}
        total = sum(means.values())
        if not np.isfinite(total):
            raise FloatingPointError(f"The loss is not finite in iteration {cur_iter}: {means}")
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(means) > 1:
            storage.put_scalars(cur_iter=cur_iter, **means)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])

    def after_train(self) -> None:
        super().after_train()
        if self._written is not None:
            self._written.result()


class AMPTrainer(SimpleTrainer):
    """SimpleTrainer with mixed precision on a CUDA device: autocast to `precision`, and a gradient scaler."""

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        super().__init__(
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics
        )
        self.grad_scaler = torch.amp.GradScaler("cuda") if grad_scaler is None else grad_scaler
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def _forward(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        assert torch.cuda.is_available(), "[AMPTrainer] mixed precision needs a CUDA device"
        with torch.autocast("cuda", dtype=self.precision):
            return super()._forward(batch)

    def _backward(self, loss: Tensor) -> None:
        self.grad_scaler.scale(loss).backward()
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())

    def _update(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
