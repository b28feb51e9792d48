"""One training step: mixed precision, full-model clipping, and the rule for numbers that are not finite."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable
from functools import reduce

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import get_event_storage
from torch import nn

from mask2former_ext.distributed import in_all_processes

logger = logging.getLogger(__name__)


class TrainingStep(SimpleTrainer):
    """Detectron2's SimpleTrainer whose step is skipped, in all processes together, if a loss or gradient is not finite.

    A skipped step is logged with its terms and images and counted as `nonfinite_steps`; `max_nonfinite_steps` of them
    in a row stop training with FloatingPointError. `precision` is the autocast type, float32 for none; float16 scales
    the loss, and a gradient that is not finite counts once the scale has fallen to 1: before that the scale may be why.
    Without `by_gradient` a step only shows the model the batch.
    All gradients together are scaled down to the norm `max_norm` (None: any); `norm_type` is p of the p-norm.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype = torch.float32,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        max_nonfinite_steps: int = 10,
        by_gradient: bool = True,
    ):
        super().__init__(model, data_loader, optimizer)
        self.precision = precision
        self.max_norm = float("inf") if max_norm is None else max_norm
        self.norm_type = norm_type
        self.max_nonfinite_steps = max_nonfinite_steps
        self.by_gradient = by_gradient
        self.skipped_in_a_row = 0
        self.device_type = next(itertools.chain(model.parameters(), model.buffers())).device.type
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=precision == torch.float16)

    def run_step(self) -> None:
        assert self.model.training, "the model must be in training mode"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        losses, problem = self._losses(batch)
        if not in_all_processes(problem is None, self.device_type):
            self._skip(problem or "another process's loss is not finite", batch)
            return
        if not self.by_gradient:
            self.skipped_in_a_row = 0
            self._write_metrics(losses, data_time)
            return
        self.optimizer.zero_grad()
        self.scaler.scale(reduce(torch.add, losses.values())).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm, self.norm_type)
        if not torch.isfinite(norm) and self.scaler.get_scale() <= 1:  # it is 1 where nothing is scaled
            self._skip(f"the gradient's norm is {norm.item()}", batch)
            self.scaler.update()
            return
        self.skipped_in_a_row = 0
        self._write_metrics(losses, data_time)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _losses(self, batch: list[dict]) -> tuple[dict[str, torch.Tensor], str | None]:
        """The named losses, and what is wrong with them, or None."""
        try:
            with torch.autocast(self.device_type, self.precision, enabled=self.precision != torch.float32):
                losses = self.model(batch)
        except FloatingPointError as error:
            return {}, str(error)
        finite = torch.stack([loss.detach() for loss in losses.values()]).isfinite().tolist()  # one wait for the GPU
        broken = [name for name, good in zip(losses, finite, strict=True) if not good]
        return losses, f"losses {broken} are not finite" if broken else None

    def _skip(self, problem: str, batch: list[dict]) -> None:
        self.skipped_in_a_row += 1
        get_event_storage().put_scalar("nonfinite_steps", self.skipped_in_a_row)
        images = [str(x.get("file_name", "?")) for x in batch]
        message = f"step {self.iter} skipped, {self.skipped_in_a_row} in a row: {problem}; images {images}"
        logger.warning(message)
        if self.skipped_in_a_row >= self.max_nonfinite_steps:
            raise FloatingPointError(f"{message}; SOLVER.MAX_NONFINITE_STEPS is {self.max_nonfinite_steps}")

    def state_dict(self) -> dict:
        return {**super().state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.scaler.load_state_dict(state_dict["scaler"])
