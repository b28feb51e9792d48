"""Which tasks an image's truth can teach, and which of them it is to teach how often.

"Probabilities" are a dict task -> probability, sum 1. A single task is the case of one entry; several are OneFormer's
joint training (arXiv 2211.06220, section 3.1), which draws one task for each image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from mask2former_ext.contract import separates_classes
from mask2former_ext.data.sets.published import thing_names

PANOPTIC_FILE = "pan_seg_file_name"  # the key of a record from whose file every task's masks can be made
_OWN_TRUTH = {"semantic": "sem_seg_file_name", "instance": "annotations", "panoptic": PANOPTIC_FILE}
TASKS = tuple(_OWN_TRUTH)
UNIFIED = "unified"
TARGETS = (*TASKS, UNIFIED)
# What a model that separates its classes learns as "panoptic": things as instances and, of all pixels, their labels.
SEPARATED = "things and stuff"

Record = Mapping[str, Any]
Probabilities = Mapping[str, float]


def task_probabilities(cfg: CfgNode) -> dict[str, float]:
    """What INPUT.TARGETS asks for: one task, or for "unified" those of INPUT.TASK_PROBABILITIES that are not 0.

    Raises ValueError unless the target is known, and the probabilities are >= 0 and sum to 1.
    """
    targets = cfg.INPUT.TARGETS
    if targets not in TARGETS:
        raise ValueError(f"INPUT.TARGETS is '{targets}', but must be one of {', '.join(TARGETS)}")
    if targets == "panoptic" and separates_classes(cfg):
        return {SEPARATED: 1.0}
    if targets != UNIFIED:
        return {targets: 1.0}
    given = {task: cfg.INPUT.TASK_PROBABILITIES[task.upper()] for task in TASKS}
    total = sum(given.values())
    if not (min(given.values()) >= 0 and abs(total - 1) <= 1e-6):
        stated = ", ".join(f"{task.upper()} {value:g}" for task, value in given.items())
        raise ValueError(f"INPUT.TASK_PROBABILITIES {stated}: each must be >= 0 and their sum 1, but it is {total:g}")
    return {task: value for task, value in given.items() if value > 0}


def trained_tasks(cfg: CfgNode) -> dict[str, float]:
    """`task_probabilities`; beside another task without instances if DATASETS.TRAIN has no class that is a thing."""
    probabilities = task_probabilities(cfg)
    if len(probabilities) > 1 and not any(_has_things(name) for name in cfg.DATASETS.TRAIN):
        probabilities.pop("instance", None)
    return probabilities


def parts_of(task: str) -> tuple[str, ...]:
    """The tasks whose truths make up that of `task`, the objects' first."""
    return ("instance", "semantic") if task == SEPARATED else (task,)


def truth_of(record: Record, part: str) -> str | None:
    """The record's key from which the truth of a part is made: its own truth, else the panoptic PNG, else None."""
    return next((key for key in (_OWN_TRUTH[part], PANOPTIC_FILE) if key in record), None)


def has_truth(record: Record, task: str) -> bool:
    return all(truth_of(record, part) is not None for part in parts_of(task))


def teachable(record: Record, probabilities: Probabilities) -> dict[str, float]:
    """The part of `probabilities` whose tasks the record has truth for, brought to sum 1.

    Raises ValueError naming the image if there is none.
    """
    tasks = [task for task in probabilities if has_truth(record, task)]
    if not tasks:
        own = [_OWN_TRUTH[part] for task in probabilities for part in parts_of(task) if truth_of(record, part) is None]
        raise ValueError(
            f"{record['file_name']}: INPUT.TARGETS asks for {' or '.join(probabilities)} masks, but its data set holds "
            f"nothing to make them from: its record has no {' and no '.join(dict.fromkeys([*own, PANOPTIC_FILE]))}"
        )
    return _renormalised(probabilities, tasks)


def draw_task(record: Record, probabilities: Probabilities) -> str:
    """One of the tasks that the record can teach. Where there is a choice, `numpy.random` makes it."""
    possible = teachable(record, probabilities)
    if len(possible) == 1:
        return next(iter(possible))
    return str(np.random.choice(list(possible), p=list(possible.values())))


def require_pixel_classes(record: Record) -> None:
    """Raise ValueError unless the record says the class of each pixel, which the category-limited crop looks at."""
    if truth_of(record, "semantic") is None:
        raise ValueError(
            f"{record['file_name']}: INPUT.CROP.SINGLE_CATEGORY_MAX_AREA below 1 needs the class of each pixel, but "
            "this image has neither semantic nor panoptic truth"
        )


def taught_by(dataset_name: str, records: Iterable[Record], probabilities: Probabilities) -> dict[str, float]:
    """The part of `probabilities` that a registered data set can teach, brought to sum 1: instances need a thing.

    Raises ValueError naming the data set if there is none.
    """
    tasks = {task for record in records for task in probabilities if has_truth(record, task)}
    if not _has_things(dataset_name):
        tasks -= {"instance", SEPARATED}
    if not tasks:
        raise ValueError(
            f"data set '{dataset_name}' can teach none of the tasks that INPUT.TARGETS and INPUT.TASK_PROBABILITIES "
            f"ask for: {', '.join(probabilities)}"
        )
    return _renormalised(probabilities, tasks)


def _has_things(dataset_name: str) -> bool:
    return bool(thing_names(MetadataCatalog.get(dataset_name)))


def _renormalised(probabilities: Probabilities, tasks: Iterable[str]) -> dict[str, float]:
    kept = {task: value for task, value in probabilities.items() if task in tasks}
    return {task: value / sum(kept.values()) for task, value in kept.items()}
