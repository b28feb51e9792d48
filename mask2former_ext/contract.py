"""What the meta-architecture that a configuration names promises, asked of its class: no model is known by name here.

A meta-architecture's class may say:
  task_conditioned = True     it reads the `task` of its inputs (OneFormer)
  separates_classes = True    it numbers things and stuff apart and learns boxes (Mask R-CNN, Panoptic FPN; see
                              `data.separated`)
  asked(task, threshold)      a context in which a model answers this task alone, or by this threshold instead of its
                              own; it may answer other tasks as well
  answered_tasks(cfg)         the tasks that it answers, a classmethod; without it MODEL.MASK_CLASSIFIER's keys ask
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# Task -> the key of a model's result that answers it.
ANSWERS = {"semantic": "sem_seg", "instance": "instances", "panoptic": "panoptic_seg"}


def is_task_conditioned(cfg: CfgNode) -> bool:
    """Whether the model reads the `task` of its inputs."""
    return getattr(_class_of(cfg), "task_conditioned", False)


def separates_classes(cfg: CfgNode) -> bool:
    """Whether the model knows things as 0..T-1 and stuff as 1..S beside 0 for any thing, and learns boxes."""
    return getattr(_class_of(cfg), "separates_classes", False)


def answered_tasks(cfg: CfgNode) -> list[str]:
    """The tasks that the model answers: its class says so, or MODEL.MASK_CLASSIFIER.{SEMANTIC,INSTANCE,PANOPTIC}_ON."""
    asked = getattr(_class_of(cfg), "answered_tasks", None)
    if asked is not None:
        return list(asked(cfg))
    return [task for task in ANSWERS if cfg.MODEL.MASK_CLASSIFIER[f"{task.upper()}_ON"]]


def _class_of(cfg: CfgNode) -> Any:
    """The registered class, or None: which names are known is checked by `config.checks`."""
    name = cfg.MODEL.META_ARCHITECTURE
    return META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None


class TaskByTask(nn.Module):
    """Detectron2's list[dict] in, each of `tasks` answered under its own sentence, one result dict per image out.

    `model`, distributed or not, has `answer_each(batched_inputs, tasks)` (see `models.oneformer`), and each of `tasks`
    is switched on in its options.
    """

    def __init__(self, model: nn.Module, tasks: Iterable[str]):
        super().__init__()
        self.model: Any = model.module if isinstance(model, DistributedDataParallel) else model
        self.tasks = tuple(tasks)
        self.train(model.training)  # what Detectron2 puts back after an evaluation

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        return self.model.answer_each(batched_inputs, self.tasks)
