"""Truth for models that number things and stuff apart (Mask R-CNN, Panoptic FPN): things with boxes, labels of pixels.

Shapes: N things. `data.targets.separated` explains how classes are numbered apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances

from mask2former_ext.data.targets.annotations import annotated_boxes, has_outline
from mask2former_ext.data.targets.boxes import without_faulty_boxes
from mask2former_ext.data.targets.instance import things_of_panoptic
from mask2former_ext.data.targets.kind import (
    ANNOTATIONS,
    PANOPTIC_FILE,
    SEMANTIC_FILE,
    Augmented,
    Record,
    Source,
    TargetKind,
)
from mask2former_ext.data.targets.masks import box_of_mask
from mask2former_ext.data.targets.separated import Separation, separate


class ThingTarget(TargetKind):
    """`instances`: things 0..T-1 with `gt_boxes` (Boxes) and, if MODEL.MASK_ON, `gt_masks` as BitMasks."""

    name = "instance"
    needs: tuple[tuple[str, ...], ...] = ((ANNOTATIONS, PANOPTIC_FILE),)
    needs_things = True
    numberings = ("apart",)

    def __init__(self, separation: Separation, *, with_masks: bool = True, ignore_label: int = 255) -> None:
        self.separation = separation
        self.with_masks = with_masks
        self.ignore_label = ignore_label

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TargetKind:
        separation = separate(cfg.DATASETS.TRAIN[0])
        return cls(separation, with_masks=cfg.MODEL.MASK_ON, ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)

    def check_sets(self, names: Sequence[str]) -> None:
        for other in names[1:]:
            if separate(other).thing_of != self.separation.thing_of:
                raise ValueError(
                    f"DATASETS.TRAIN: the records of '{names[0]}' and '{other}' number their things differently"
                )

    def cleaned(self, records: Iterable[Record]) -> list[dict[str, Any]]:
        """Without boxes that have no area, lie outside of the image or are no number."""
        return without_faulty_boxes(records)

    def teaches_nothing(self, record: Record) -> bool:
        """An image without an object, crowds aside; without masks a box is one."""
        return ANNOTATIONS in record and all(
            a.get("iscrowd", 0) or (self.with_masks and not has_outline(a)) for a in record[ANNOTATIONS]
        )

    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:
        if ANNOTATIONS in source.record:
            sizes = source.size, augmented.size
            things = annotated_boxes(source.record, augmented.transforms, *sizes, with_masks=self.with_masks)
            return {"instances": self._instances(augmented, *things)}
        masks, classes = things_of_panoptic(source, augmented)
        boxes = np.array([box_of_mask(mask) for mask in masks]).reshape(-1, 4)
        return {"instances": self._instances(augmented, masks, classes, boxes)}

    def labeled_segments(self, record: Record) -> Iterable[Record]:
        return self.separation.segments(record["segments_info"])

    def labels_of_file(self, source: Source) -> np.ndarray:
        return self.separation.labels(source.semantic_labels, self.ignore_label, source.record[SEMANTIC_FILE])

    def _instances(self, augmented: Augmented, masks: np.ndarray, classes: np.ndarray, boxes: np.ndarray) -> Instances:
        """`classes` (N) as the records number them, `boxes` (N, 4); `masks` may be without entries if not needed."""
        padded = augmented.padded(torch.from_numpy(masks), 0)
        instances = Instances(tuple(padded.shape[-2:]))
        instances.gt_classes = torch.tensor([self.separation.thing_of[k] for k in classes.tolist()], dtype=torch.int64)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes).float())
        if self.with_masks:
            instances.gt_masks = BitMasks(padded)
        return instances


class ThingsAndStuffTarget(ThingTarget):
    """As `ThingTarget`, and `sem_seg` int64 (H, W): 0 for any thing, 1..S for stuff."""

    name = "things and stuff"
    needs = ((ANNOTATIONS, PANOPTIC_FILE), (SEMANTIC_FILE, PANOPTIC_FILE))
    carries_labels = True

    def teaches_nothing(self, record: Record) -> bool:
        """An image without a thing may still have stuff."""
        return False

    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:
        assert augmented.labels is not None, "carries_labels"
        sem_seg = augmented.padded(torch.from_numpy(augmented.labels), self.ignore_label)
        return {**super().build(source, augmented), "sem_seg": sem_seg}
