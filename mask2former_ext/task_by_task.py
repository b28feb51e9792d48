"""Ask a model that is told its task (OneFormer) for each task under that task's own sentence, and merge the answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel


class TaskByTask(nn.Module):
    """Detectron2's list[dict] in, each of `tasks` answered under its own sentence, one result dict per image out.

    `model` is a MaskClassifier, distributed or not, in whose options each of `tasks` is switched on.
    """

    def __init__(self, model: nn.Module, tasks: Iterable[str]):
        super().__init__()
        self.model: Any = model.module if isinstance(model, DistributedDataParallel) else model
        self.tasks = tuple(tasks)
        self.train(model.training)  # what Detectron2 puts back after an evaluation

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        results: list[dict] = [{} for _ in batched_inputs]
        options = self.model.inference
        try:
            for task in self.tasks:
                self.model.inference = options.only(task)
                answers = self.model([{**x, "task": task} for x in batched_inputs])
                for result, answer in zip(results, answers, strict=True):
                    result.update(answer)
        finally:
            self.model.inference = options
        return results
