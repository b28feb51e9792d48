"""What a person sees while a model trains and is evaluated."""

from __future__ import annotations

import logging
import time

import torch
from detectron2.utils.events import EventWriter, get_event_storage
from tqdm import tqdm

logger = logging.getLogger(__name__)


class ProgressWriter(EventWriter):
    """One line per period: bar, remaining time, total loss and the last layer's terms, images per second, memory."""

    def __init__(self, max_iter: int, images_per_step: int, window: int = 20):
        self.max_iter = max_iter
        self.images_per_step = images_per_step
        self.window = window
        self.start: tuple[int, float] | None = None

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter >= self.max_iter:  # called once more after training: the last step has had its line
            return
        done = storage.iter + 1
        if self.start is None:
            self.start = (done, time.perf_counter())
        first, since = self.start
        elapsed = time.perf_counter() - since
        latest = storage.latest_with_smoothing_hint(self.window)
        losses = [f"{name.removeprefix('loss_')} {latest[name][0]:.3f}" for name in _shown_losses(latest)]
        parts = ["loss " + f"{latest['total_loss'][0]:.2f}" if "total_loss" in latest else "", *losses]
        if done > first:
            parts.append(f"{(done - first) * self.images_per_step / elapsed:.2f} img/s")
        if "lr" in latest:
            parts.append(f"lr {latest['lr'][0]:.1e}")
        if torch.cuda.is_available():
            parts.append(f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MB")
        bar = tqdm.format_meter(done - first, self.max_iter - first, elapsed, ncols=60, prefix="train", unit="step")
        logger.info("%s iter %d/%d  %s", bar, done, self.max_iter, ", ".join(filter(None, parts)))


def _shown_losses(latest: dict) -> list[str]:
    """Names of the loss terms without those of the earlier layers (loss_ce_0, ...)."""
    return [name for name in latest if name.startswith("loss_") and not name.rsplit("_", 1)[-1].isdigit()]
