"""Polynomial decay of the learning rate after a warm-up."""

from __future__ import annotations

from detectron2.solver.lr_scheduler import _WarmupDecay
from torch.optim import Optimizer


class WarmupPolyLR(_WarmupDecay):
    """base * (1 - t / max_iters) ** power, times the warm-up factor.

    With `constant_ending` > 0, once warmed up it does not fall below base * constant_ending.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
        power: float = 0.9,
        constant_ending: float = 0.0,
    ) -> None:
        self.max_iters = max_iters
        self.power = power
        self.constant_ending = constant_ending
        super().__init__(optimizer, warmup_factor, warmup_iters, warmup_method, last_epoch)

    def _decay(self, t: int) -> float:
        factor = (1 - t / self.max_iters) ** self.power
        return max(factor, self.constant_ending) if t >= self.warmup_iters else factor
