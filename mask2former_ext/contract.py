"""What a model says of itself, and how it enters a registry: no room knows a model by name.

Every model here derives from `Contract` and overrides what differs. Of a model from elsewhere, which does not, the
defaults hold. A class attribute or a classmethod of a configuration is read before a model is built.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeVar

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mask2former_ext.classes import APART, ClassTable, from_metadata

logger = logging.getLogger(__name__)

# Task -> the key of a model's result that answers it.
ANSWERS = {"semantic": "sem_seg", "instance": "instances", "panoptic": "panoptic_seg"}
TASKS = tuple(ANSWERS)
UNIFIED = "unified"  # the target kind of a model that reads a task: one of TASKS, drawn for each image

Registered = TypeVar("Registered", bound=Callable[..., Any])


def color_places(image_format: str) -> range:
    """Places of red, green and blue among the channels that INPUT.FORMAT names, in the order in which they stand there.

    "BGRT" -> 0, 1, 2; empty where an image has no colors.
    """
    first = max(image_format.find(colors) for colors in ("RGB", "BGR"))
    return range(first, first + 3) if first >= 0 else range(0)


@dataclass(frozen=True)
class Request:
    """What one call wants of a model; the model itself does not change, so that threads can share it.

    tasks: of those that the model answers, these alone (a model may answer others along with them); None: all. A model
    that reads a task answers each of `tasks` under its own; for None it reads the `task` of its inputs.
    threshold, in [0, 1]: the least score of what is answered. It is the score of an instance, the class probability of
    a panoptic segment (of a model that numbers things and stuff apart: the score of a thing), and of a pixel the score
    of its best class: below it the pixel is unlabeled where the answer is drawn or saved. None: `default_threshold`.
    """

    tasks: tuple[str, ...] | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)


def check_threshold(threshold: Any) -> None:
    """Raise ValueError unless it is None or a number in [0, 1]."""
    if threshold is not None and not (isinstance(threshold, Real) and 0 <= float(threshold) <= 1):
        raise ValueError(f"threshold is {threshold!r}, but must be a number in [0, 1]")


class Contract(nn.Module):
    """A model's declarations, with their defaults. `cfg` is the configuration of the model that is meant."""

    # Whether it reads the `task` of its inputs, and is thus trained on targets of kind "unified".
    reads_task: bool = False
    # Whether classes are 0..K-1 together, or apart: things 0..T-1, and 0 for any thing, then stuff 1..S.
    numbering: Literal["together", "apart"] = "together"
    # Whether a step of training follows the gradient of its losses; else a step only shows it the batch.
    trained_by_gradient: bool = True

    @classmethod
    def target_kinds(cls, cfg: CfgNode) -> tuple[str, ...]:
        """The values of INPUT.TARGETS that it can learn from."""
        return (UNIFIED,) if cls.reads_task else TASKS

    @classmethod
    def answered_tasks(cls, cfg: CfgNode) -> tuple[str, ...]:
        """Of TASKS, those that it answers, in that order; may be none: then nothing is evaluated.

        Default: those that MODEL.MASK_CLASSIFIER.{SEMANTIC,INSTANCE,PANOPTIC}_ON switch on.
        """
        return tuple(task for task in TASKS if cfg.MODEL.MASK_CLASSIFIER[f"{task.upper()}_ON"])

    @classmethod
    def choose_tasks(cls, cfg: CfgNode, tasks: Sequence[str]) -> None:
        """Set `cfg`, in place, so that these tasks are answered, as far as the model leaves the choice."""
        for task in TASKS:
            cfg.MODEL.MASK_CLASSIFIER[f"{task.upper()}_ON"] = task in tasks

    @classmethod
    def default_threshold(cls, task: str, cfg: CfgNode) -> float:
        """The threshold, in [0, 1], by which it answers `task` where a request names none."""
        return 0.0

    @classmethod
    def class_heads(cls, cfg: CfgNode) -> dict[str, Literal["all", "things", "labels"]]:
        """Section of MODEL that holds a NUM_CLASSES -> the classes that it counts.

        "all" classes; the "things" among them; or "labels": one for any thing, then the stuff.
        """
        return {"MASK_CLASSIFIER": "all"}

    @classmethod
    def texts_per_image(cls, cfg: CfgNode) -> int:
        """How many strings a training input holds under `text`; 0: none."""
        return 0

    @classmethod
    def config_for_weights(cls, cfg: CfgNode, names: Callable[[], Iterable[str]]) -> CfgNode:
        """`cfg`, or a copy that builds what the weights hold beyond it; `names` reads their tensors' names."""
        return cfg

    @classmethod
    def learning_rate_factor(cls, name: str, cfg: CfgNode) -> float:
        """What SOLVER.BASE_LR is multiplied by for the parameter `name`, "module.module.parameter"."""
        return cfg.SOLVER.BACKBONE_MULTIPLIER if "backbone" in name.split(".") else 1.0

    def answer(self, batched_inputs: list[dict], request: Request) -> list[dict]:
        """One result dict per image, in which what the request names is answered. Default: a call of the model."""
        return self(batched_inputs)

    def finish_training(self) -> None:
        """Called once, after the last step and before the last checkpoint and evaluation."""

    def resume_state(self) -> dict[str, Any]:
        """What a resumed training needs beside parameters and buffers: plain data, stored in checkpoints."""
        return {}

    def load_resume_state(self, state: dict[str, Any]) -> None:
        """Take back what `resume_state` gave."""


def contract_of(cfg: CfgNode) -> type[Contract]:
    """What the model of `cfg` says of itself: its registered class, or for one from elsewhere `Contract`, the defaults.

    Whether the name is known is checked by `config.checks`.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    registered = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else None
    return registered if isinstance(registered, type) and issubclass(registered, Contract) else Contract


def classes_of(cfg: CfgNode) -> ClassTable | None:
    """The classes of the model of `cfg`, numbered as it numbers them: MODEL.CLASSES, which `data.prepare_data` writes.

    Where that is empty, those of the first training (else test) set that Detectron2's MetadataCatalog names classes of,
    so that a script of one's own needs no `prepare_data`; else None. Raises ValueError if MODEL.CLASSES break a rule.
    """
    if cfg.MODEL.CLASSES:
        try:
            return ClassTable.from_dict(cfg.MODEL.CLASSES)
        except ValueError as error:
            raise ValueError(f"MODEL.CLASSES: {error}") from error
    for name in [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]:
        table = from_metadata(MetadataCatalog.get(name), unnumbered="stuff")
        if table is not None:
            return numbered_for(cfg, table)
    return None


def numbered_for(cfg: CfgNode, table: ClassTable) -> ClassTable:
    """The classes of a data set as the model of `cfg` numbers them."""
    return table.apart() if contract_of(cfg).numbering == APART else table


def register(registry: Any, ours: Registered) -> Registered:
    """Put a class or function into one of Detectron2's registries under its own name, and return it.

    Where another one has that name already, it stays, and one line says so: a script may bring its own.
    """
    name = ours.__name__
    if name not in registry:
        registry.register(ours)
    elif (other := registry.get(name)) is not ours:
        logger.warning("%s of %s is registered already: that one is used, not ours", name, other.__module__)
    return ours


def bare_model(model: nn.Module) -> nn.Module:
    """The model itself, which several processes see through a wrapper that knows no `Contract`."""
    return model.module if isinstance(model, DistributedDataParallel) else model


class TaskByTask(nn.Module):
    """Detectron2's list[dict] in, each of `tasks` answered under its own sentence, one result dict per image out.

    `model`, distributed or not, is a `Contract` that reads a task.
    """

    def __init__(self, model: nn.Module, tasks: Iterable[str]):
        super().__init__()
        self.model: Any = bare_model(model)
        self.tasks = tuple(tasks)
        self.train(model.training)  # what Detectron2 puts back after an evaluation

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        return self.model.answer(batched_inputs, Request(tasks=self.tasks))
