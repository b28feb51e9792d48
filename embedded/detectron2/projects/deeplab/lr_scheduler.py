"""Polynomial decay of the learning rate after a warm-up."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler as _build_lr_scheduler
from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupPolyLR(LRScheduler):
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
        self.max_iters, self.power, self.constant_ending = max_iters, power, constant_ending
        self.warmup_factor, self.warmup_iters, self.warmup_method = warmup_factor, warmup_iters, warmup_method
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        t = self.last_epoch
        factor = (1 - t / self.max_iters) ** self.power
        if t >= self.warmup_iters:
            factor = max(factor, self.constant_ending)
        factor *= _get_warmup_factor_at_iter(self.warmup_method, t, self.warmup_iters, self.warmup_factor)
        return [base_lr * factor for base_lr in self.base_lrs]


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """The schedule cfg.SOLVER.LR_SCHEDULER_NAME: WarmupPolyLR, or one of detectron2.solver's."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return _build_lr_scheduler(cfg, optimizer)
    return WarmupPolyLR(
        optimizer,
        solver.MAX_ITER,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_method=solver.WARMUP_METHOD,
        power=solver.POLY_LR_POWER,
        constant_ending=solver.POLY_LR_CONSTANT_ENDING,
    )
