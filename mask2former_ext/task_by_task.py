"""Ask a model that is told its task (OneFormer) for each task under that task's own sentence, and merge the answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel


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
