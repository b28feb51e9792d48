"""Things and stuff numbered apart: the classes of a data set as Mask R-CNN and Panoptic FPN know them.

Shapes: H, W pixels. Those models know T things as classes 0..T-1, and of pixels the labels 1..S of stuff beside 0,
which means "any thing" (arXiv 1901.02446, section 3; Detectron2 calls this "separated"). The records of most data sets
number all classes jointly, 0..K-1; those of Detectron2's sets named *_separated hold the two numberings already. The
order within each kind is that of the joint numbering.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mask2former_ext.classes import ANY_THING, ClassTable
from mask2former_ext.data.sets.published import require_class_table

_UNKNOWN = -1


@dataclass(frozen=True)
class Separation:
    """How the classes that a data set's records hold are numbered apart."""

    classes: ClassTable  # numbered apart
    thing_of: Mapping[int, int]  # class of an object in the records -> 0..T-1; without those that are no thing
    label_of: Mapping[int, int]  # class of a pixel in the records -> 0 for any thing, 1..S for stuff

    def labels(self, labels: np.ndarray, void: int, name: str) -> np.ndarray:
        """Class of each pixel (H, W) in a label file -> int32 label (H, W), `void` for the data set's ignore label.

        Raises ValueError, naming the file `name`, for a pixel that has neither a class nor that label.
        """
        known = {self.classes.ignore_label: void, **self.label_of}
        table = np.full(max(*known, int(labels.max(initial=0))) + 1, _UNKNOWN, dtype=np.int32)
        table[list(known)] = list(known.values())
        separated = table[labels]
        if (separated == _UNKNOWN).any():
            unknown = int(labels[separated == _UNKNOWN][0])
            raise ValueError(f"{name}: label {unknown} is neither one of the {len(self.label_of)} classes nor ignored")
        return separated

    def segments(self, segments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Segments of a record, each with the label of its pixels as category_id."""
        return [{**s, "category_id": ANY_THING if s["isthing"] else self.label_of[s["category_id"]]} for s in segments]


def separate(dataset_name: str) -> Separation:
    """The separation of a registered data set's classes. Raises ValueError if it names none."""
    records = require_class_table(dataset_name)
    return Separation(records.apart(), *records.numbers_apart())
