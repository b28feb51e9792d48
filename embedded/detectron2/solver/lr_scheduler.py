"""Learning-rate schedules: fvcore's curves over training progress, with a warm-up, driven by a torch scheduler.

t is the index of the iteration that the learning rate is for, 0 for the first one.
"""

from __future__ import annotations

from typing import Any

from fvcore.common import param_scheduler as curves
from fvcore.common.param_scheduler import ParamScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_WARMUP_METHODS = ("constant", "linear")


def _check_warmup_method(method: str) -> None:
    if method not in _WARMUP_METHODS:
        raise ValueError(f"warm-up method {method!r} is unknown; it is one of {_WARMUP_METHODS}")


def _get_warmup_factor_at_iter(method: str, iter: int, warmup_iters: int, warmup_factor: float) -> float:
    """1 from iteration `warmup_iters` on; before it `warmup_factor` ("constant") or on the line from there to 1."""
    _check_warmup_method(method)
    if iter >= warmup_iters:
        return 1.0
    risen = 0.0 if method == "constant" else iter / warmup_iters
    return warmup_factor + (1 - warmup_factor) * risen


class WarmupParamScheduler(curves.CompositeParamScheduler):
    """`scheduler` with its first `warmup_length` (a fraction of the whole training) replaced by a warm-up.

    The warm-up begins at `warmup_factor * scheduler(0)`. "linear" ends where `scheduler` takes over, "constant" stays.
    With `rescale_interval` the whole curve of `scheduler` is squeezed into what the warm-up leaves; otherwise the part
    of it that the warm-up covers is lost.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        _check_warmup_method(warmup_method)
        first = warmup_factor * scheduler(0.0)
        if warmup_method == "constant":
            warmup: ParamScheduler = curves.ConstantParamScheduler(first)
        else:
            warmup = curves.LinearParamScheduler(first, scheduler(0.0 if rescale_interval else warmup_length))
        scaling = "rescaled" if rescale_interval else "fixed"
        super().__init__([warmup, scheduler], [warmup_length, 1 - warmup_length], ["rescaled", scaling])


class LRMultiplier(LRScheduler):
    """Every parameter group's learning rate is its initial one times `multiplier(t / max_iter)`.

    `step` is called once per iteration, at most `max_iter` times.
    """

    def __init__(self, optimizer: Optimizer, multiplier: ParamScheduler, max_iter: int, last_iter: int = -1) -> None:
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Progress and initial rates; the curve comes from the configuration, so that it may change on resuming."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[Any]:
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * factor for base_lr in self.base_lrs]
