"""Launching processes, the training loop, its hooks, and the default trainer and predictor."""

from __future__ import annotations

# fmt: off
# isort: skip_file
from detectron2.engine.defaults import (
    DefaultPredictor, DefaultTrainer, create_ddp_model, default_argument_parser, default_setup, default_writers
)
from detectron2.engine.hooks import (
    BestCheckpointer, EvalHook, IterationTimer, LRScheduler, PeriodicCheckpointer, PeriodicWriter, PreciseBN
)
from detectron2.engine.launch import DEFAULT_TIMEOUT, launch
from detectron2.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
