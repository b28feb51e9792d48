"""One task drawn for each image, with its texts: OneFormer's joint training (arXiv 2211.06220, section 3.1)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from mask2former_ext.contract import TASKS, UNIFIED, contract_of
from mask2former_ext.data.sets.published import class_names
from mask2former_ext.data.targets.instance import InstanceTarget
from mask2former_ext.data.targets.kind import (
    Augmented,
    Record,
    Source,
    TargetKind,
    has_things,
    ignore_label_of,
    missing_keys,
)
from mask2former_ext.data.targets.panoptic import PanopticTarget
from mask2former_ext.data.targets.semantic import SemanticTarget
from mask2former_ext.data.targets.texts import object_texts

Probabilities = Mapping[str, float]


class UnifiedTarget(TargetKind):
    """What the drawn task is learned from, `task` and `text`, as many strings as the model takes."""

    name = UNIFIED
    numberings = ("together",)

    def __init__(
        self,
        probabilities: Probabilities,
        *,
        ignore_label: int = 255,
        num_texts: int = 0,
        class_names: Sequence[str] = (),
        left_out: Iterable[str] = (),
    ) -> None:
        """`probabilities`: task -> how often, > 0, sum 1. `left_out`: tasks that no data set can teach."""
        self.requested = dict(probabilities)
        kept = [task for task in probabilities if task not in left_out] or list(probabilities)
        self.probabilities = {task: probabilities[task] for task in kept}
        self.ignore_label = ignore_label
        kinds: list[TargetKind] = [kind(ignore_label) for kind in (SemanticTarget, InstanceTarget, PanopticTarget)]
        self.kinds = {kind.name: TaskWithTexts(kind, num_texts, class_names) for kind in kinds}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TargetKind:
        return cls(
            task_probabilities(cfg),
            ignore_label=ignore_label_of(cfg),
            num_texts=contract_of(cfg).texts_per_image(cfg),
            class_names=class_names(cfg.DATASETS.TRAIN[0]),
            left_out=() if any(map(has_things, cfg.DATASETS.TRAIN)) else ("instance",),
        )

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        task_probabilities(cfg)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.requested)

    def teachable(self, record: Record) -> list[str]:
        return [task for task in self.probabilities if self.kinds[task].fault(record) is None]

    def fault(self, record: Record) -> str | None:
        if self.teachable(record):
            return None
        return self.lack(missing_keys(record, [keys for task in self.tasks for keys in self.kinds[task].needs]))

    def teaches_nothing(self, record: Record) -> bool:
        """An image that has truth for one task alone, which finds nothing in it."""
        tasks = self.teachable(record)
        return len(tasks) == 1 and self.kinds[tasks[0]].teaches_nothing(record)

    def shares(self, dataset_name: str, records: Sequence[Record]) -> dict[str, float]:
        tasks = {task for record in records for task in self.teachable(record)}
        if not has_things(dataset_name):
            tasks.discard("instance")
        if not tasks:
            raise self.none_taught(dataset_name)
        return _brought_to_one(self.probabilities, tasks)

    def chosen(self, record: Record) -> TargetKind:
        """One of the tasks that the record can teach, as often as stated. A single one is not drawn."""
        self.check(record)
        possible = _brought_to_one(self.probabilities, self.teachable(record))
        if len(possible) == 1:
            return self.kinds[next(iter(possible))]
        return self.kinds[str(np.random.choice(list(possible), p=list(possible.values())))]

    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:
        raise AssertionError("an image is learned as one task: see `chosen`")


class TaskWithTexts(TargetKind):
    """The kind of one task, with `task` and `text`."""

    def __init__(self, kind: TargetKind, num_texts: int, class_names: Sequence[str]) -> None:
        self.kind = kind
        self.name, self.needs, self.carries_labels = kind.name, kind.needs, kind.carries_labels
        self.ignore_label = kind.ignore_label
        self.num_texts = num_texts
        self.class_names = class_names

    def teaches_nothing(self, record: Record) -> bool:
        return self.kind.teaches_nothing(record)

    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:
        built = self.kind.build(source, augmented)
        classes = built["instances"].gt_classes.tolist()
        return {**built, "task": self.name, "text": object_texts(self.name, classes, self.class_names, self.num_texts)}


def task_probabilities(cfg: CfgNode) -> dict[str, float]:
    """Those of INPUT.TASK_PROBABILITIES that are not 0. Raises ValueError unless all are >= 0 and sum to 1."""
    given = {task: cfg.INPUT.TASK_PROBABILITIES[task.upper()] for task in TASKS}
    total = sum(given.values())
    if not (min(given.values()) >= 0 and abs(total - 1) <= 1e-6):
        stated = ", ".join(f"{task.upper()} {value:g}" for task, value in given.items())
        raise ValueError(f"INPUT.TASK_PROBABILITIES {stated}: each must be >= 0 and their sum 1, but it is {total:g}")
    return {task: value for task, value in given.items() if value > 0}


def _brought_to_one(probabilities: Probabilities, tasks: Collection[str]) -> dict[str, float]:
    kept = {task: value for task, value in probabilities.items() if task in tasks}
    return {task: value / sum(kept.values()) for task, value in kept.items()}
