"""The interface of a target kind: what a record must hold, how it is checked, and what a model takes of it.

Shapes: H, W pixels of an image. A record is Detectron2's dict of one image ("Use Custom Datasets" in its tutorials).
`data.targets.table` lists the kinds; INPUT.TARGETS names one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.structures import Instances
from torch.nn import functional as F

from mask2former_ext.classes import ClassTable
from mask2former_ext.contract import classes_of
from mask2former_ext.data.image_io import check_size, read_labels, read_panoptic
from mask2former_ext.data.sets.published import class_table
from mask2former_ext.data.targets.masks import panoptic_ids, panoptic_to_semantic

SEMANTIC_FILE = "sem_seg_file_name"
ANNOTATIONS = "annotations"
PANOPTIC_FILE = "pan_seg_file_name"  # the key of a record whose file holds every task's masks
_PIXEL_CLASSES = (SEMANTIC_FILE, PANOPTIC_FILE)

Record = Mapping[str, Any]
Size = tuple[int, int]


class Source:
    """One record, its image as it was read, and its truth files, each read once and only if it is looked at."""

    def __init__(self, record: Record, image: np.ndarray) -> None:
        """`image`: uint8 (H, W, C)."""
        self.record = record
        self.image = image

    @property
    def size(self) -> Size:
        return self.image.shape[0], self.image.shape[1]

    @cached_property
    def panoptic_png(self) -> np.ndarray:
        """uint8 (H, W, 3): ids as `masks.panoptic_ids` reads them. Raises BrokenImageError for another size."""
        path = self.record[PANOPTIC_FILE]
        png = read_panoptic(path)
        check_size(path, png.shape[:2], self.size, self.record["file_name"])
        return png

    @cached_property
    def semantic_labels(self) -> np.ndarray:
        """(H, W) as in the semantic label file. Raises BrokenImageError for another size."""
        path = self.record[SEMANTIC_FILE]
        labels = read_labels(path)
        check_size(path, labels.shape, self.size, self.record["file_name"])
        return labels


@dataclass(frozen=True)
class Augmented:
    """An image after its augmentations, and the way to move and pad its truth alike."""

    image: np.ndarray  # uint8 (H, W, C), not padded
    labels: np.ndarray | None  # int64 (H, W), not padded: what `TargetKind.pixel_classes` gave, if it was needed
    transforms: T.TransformList
    padded_side: int  # px to which a smaller image is padded at the right and bottom; 0: none

    @property
    def size(self) -> Size:
        return self.image.shape[0], self.image.shape[1]

    def moved(self, labels: np.ndarray) -> np.ndarray:
        """A picture of labels or ids, (H, W) or (H, W, 3) of the image as it was read -> of the augmented image."""
        return self.transforms.apply_segmentation(labels)

    def padded(self, tensor: torch.Tensor, value: float) -> torch.Tensor:
        """(..., H, W) -> the size that the model gets, with `value` in what is added."""
        height, width = tensor.shape[-2:]
        right, bottom = max(self.padded_side - width, 0), max(self.padded_side - height, 0)
        return F.pad(tensor, (0, right, 0, bottom), value=value) if right or bottom else tensor

    def instances(self, masks: np.ndarray, classes: np.ndarray) -> Instances:
        """bool (N, H, W) not padded, int64 (N) -> Instances with `gt_masks` bool (N, padded H, W) and `gt_classes`."""
        padded = self.padded(torch.from_numpy(masks), 0)
        instances = Instances(tuple(padded.shape[-2:]))
        instances.gt_classes, instances.gt_masks = torch.from_numpy(classes), padded
        return instances


class TargetKind(ABC):
    """One kind of truth. What is drawn at random is drawn from `numpy.random` in `chosen`, which the mapper seeds."""

    name: str  # in messages
    # For each part of its truth the keys of a record of which one will do, the best first.
    needs: tuple[tuple[str, ...], ...] = ()
    # Keys of a record that name files of this kind alone: that these exist is checked before training.
    file_keys: tuple[str, ...] = ()
    # Whether the augmentations carry along the class of each pixel: then `build` gets `augmented.labels`.
    carries_labels: bool = False
    # Whether a data set must have a class that is a thing.
    needs_things: bool = False
    # Of the ways in which models number their classes (see `contract`), those that it is for.
    numberings: tuple[str, ...] = ("together", "apart")

    def __init__(self, ignore_label: int = 255) -> None:
        """`ignore_label`: of a pixel that has no class."""
        self.ignore_label = ignore_label

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TargetKind:
        """The kind as `cfg` wants it; the data sets of cfg.DATASETS.TRAIN are registered."""
        return cls(ignore_label_of(cfg))

    @classmethod  # noqa: B027  # most kinds have no key of their own
    def check_config(cls, cfg: CfgNode) -> None:
        """Raise ValueError of key, value and rule for a key of this kind that cannot work."""

    @abstractmethod
    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:
        """What the model's training input holds beside `image`, moved and padded as the image is."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it may teach, in words."""
        return (self.name,)

    def fault(self, record: Record) -> str | None:
        """What the record lacks, in words; None if it can be learned from."""
        lacking = missing_keys(record, self.needs)
        return self.lack(lacking) if lacking else None

    def lack(self, keys: Iterable[str]) -> str:
        """The words for a record without these keys."""
        return (
            f"INPUT.TARGETS asks for {' or '.join(self.tasks)} truth, but its data set holds nothing to make it from: "
            f"its record has no {' and no '.join(keys)}"
        )

    def check(self, record: Record) -> None:
        """Raise ValueError naming the image if it cannot be learned from. Every record is checked before training."""
        fault = self.fault(record)
        if fault is not None:
            raise ValueError(f"{record['file_name']}: {fault}")

    def check_sets(self, names: Sequence[str]) -> None:  # noqa: B027  # whose classes are the same already
        """Raise ValueError naming two registered data sets that cannot be learned together."""

    def cleaned(self, records: Iterable[Record]) -> list[dict[str, Any]]:
        """The records without what is in them and cannot be learned, of which a warning is logged."""
        return [dict(record) for record in records]

    def teaches_nothing(self, record: Record) -> bool:
        """Whether the record's truth is there but empty, so that DATALOADER.FILTER_EMPTY_ANNOTATIONS leaves it out."""
        return False

    def shares(self, dataset_name: str, records: Sequence[Record]) -> dict[str, float]:
        """How often each of `tasks` is learned from a registered data set, sum 1. Raises ValueError if none can be."""
        known = not self.needs_things or has_things(dataset_name)
        if not known or all(self.fault(record) is not None for record in records):
            raise self.none_taught(dataset_name)
        return {self.name: 1.0}

    def none_taught(self, dataset_name: str) -> ValueError:
        return ValueError(
            f"data set '{dataset_name}' can teach none of the tasks that INPUT.TARGETS and INPUT.TASK_PROBABILITIES "
            f"ask for: {', '.join(self.tasks)}"
        )

    def chosen(self, record: Record) -> TargetKind:
        """The kind as which this image is learned this time. Raises ValueError as `check` does."""
        self.check(record)
        return self

    def pixel_classes(self, source: Source) -> np.ndarray:
        """Class of each pixel (H, W), `ignore_label` where none is known: for `augmented.labels` and for the crop.

        Raises ValueError if the record does not say it.
        """
        require_pixel_classes(source.record)
        if self.reads_panoptic(source.record):
            ids = panoptic_ids(source.panoptic_png)
            return panoptic_to_semantic(ids, self.labeled_segments(source.record), self.ignore_label)
        return self.labels_of_file(source)

    def reads_panoptic(self, record: Record) -> bool:
        """Whether any part of the truth comes from the panoptic PNG: then the classes of pixels are, too."""
        return any(first_key(record, keys) == PANOPTIC_FILE for keys in (*self.needs, _PIXEL_CLASSES))

    def labeled_segments(self, record: Record) -> Iterable[Record]:
        """The record's segments, each with the label of its pixels as `category_id`."""
        return record["segments_info"]

    def labels_of_file(self, source: Source) -> np.ndarray:
        """Class of each pixel (H, W) by the semantic label file."""
        return source.semantic_labels


def first_key(record: Record, keys: Iterable[str]) -> str | None:
    """The first of the keys that the record has."""
    return next((key for key in keys if key in record), None)


def missing_keys(record: Record, needs: Iterable[Sequence[str]]) -> list[str]:
    """The keys of the parts of which the record has none, each once; those that stand in for others last."""
    lacking = [keys for keys in needs if first_key(record, keys) is None]
    stand_ins = [key for keys in lacking for key in keys[1:]]
    return list(dict.fromkeys([*(keys[0] for keys in lacking if keys[0] not in stand_ins), *stand_ins]))


def require_pixel_classes(record: Record) -> None:
    """Raise ValueError unless the record says the class of each pixel, which the category-limited crop looks at."""
    if first_key(record, _PIXEL_CLASSES) is None:
        raise ValueError(
            f"{record['file_name']}: INPUT.CROP.SINGLE_CATEGORY_MAX_AREA below 1 needs the class of each pixel, but "
            "this image has neither semantic nor panoptic truth"
        )


def has_things(dataset_name: str) -> bool:
    """Whether a registered data set has a class that is a thing."""
    table = class_table(dataset_name)
    return table is not None and bool(table.things)


def ignore_label_of(cfg: CfgNode) -> int:
    """The label that means "no class" in the files of the first training set."""
    return (classes_of(cfg) or ClassTable).ignore_label
