"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from detectron2.solver.build import build_lr_scheduler, build_optimizer, get_default_optimizer_params
from detectron2.solver.lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler
