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
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from mask2former_ext.contract import separates_classes
from mask2former_ext.data.sets.published import thing_names

ANY_THING = 0  # label of a pixel
_UNKNOWN = -1


@dataclass(frozen=True)
class Separation:
    """How the classes that a data set's records hold are numbered apart."""

    metadata: Metadata  # the data set's own, except that names and id maps are those of the separated classes
    thing_of: Mapping[int, int]  # class of an object in the records -> 0..T-1; without those that are no thing
    label_of: Mapping[int, int]  # class of a pixel in the records -> 0 for any thing, 1..S for stuff

    def labels(self, labels: np.ndarray, void: int, name: str) -> np.ndarray:
        """Class of each pixel (H, W) in a label file -> int32 label (H, W), `void` for the data set's ignore label.

        Raises ValueError, naming the file `name`, for a pixel that has neither a class nor that label.
        """
        known = {self.metadata.get("ignore_label", 255): void, **self.label_of}
        table = np.full(max(*known, int(labels.max(initial=0))) + 1, _UNKNOWN, dtype=np.int32)
        table[list(known)] = list(known.values())
        separated = table[labels]
        if (separated == _UNKNOWN).any():
            found = int(labels[separated == _UNKNOWN][0])
            raise ValueError(f"{name}: label {found} is neither one of the {len(self.label_of)} classes nor ignored")
        return separated

    def segments(self, segments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Segments of a record, each with the label of its pixels as category_id."""
        return [{**s, "category_id": ANY_THING if s["isthing"] else self.label_of[s["category_id"]]} for s in segments]


def is_separated(metadata: Metadata) -> bool:
    """Whether a data set's records number things and stuff apart: then a thing and a stuff class share a number."""
    things = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    stuff = metadata.get("stuff_dataset_id_to_contiguous_id") or {}
    return bool({k for i, k in stuff.items() if i not in things} & set(things.values()))


def separate(dataset_name: str) -> Separation:
    """The separation of a registered data set's classes."""
    metadata = MetadataCatalog.get(dataset_name)
    things, stuff = metadata.get("thing_classes") or [], metadata.get("stuff_classes")
    if is_separated(metadata) or stuff is None:
        return Separation(metadata, _counted(range(len(things))), _counted(range(len(stuff or [])), start=0))
    name_of_thing = thing_names(metadata)
    thing_of = _counted(sorted(name_of_thing))
    stuff_of = _counted((k for k in range(len(stuff)) if k not in thing_of), start=1)
    changed = {
        "thing_classes": [name_of_thing[k] for k in thing_of],
        "stuff_classes": ["things", *(stuff[k] for k in stuff_of)],
        **_renumbered(metadata, "thing", thing_of),
        **_renumbered(metadata, "stuff", stuff_of),
    }
    # Colours go by the joint numbering.
    kept = {key: value for key, value in metadata.as_dict().items() if key not in ("thing_colors", "stuff_colors")}
    return Separation(Metadata(**{**kept, **changed}), thing_of, {**dict.fromkeys(thing_of, ANY_THING), **stuff_of})


def metadata_for(cfg: CfgNode, dataset_name: str) -> Metadata:
    """The metadata by which the model of `cfg` numbers the classes of a data set."""
    return separate(dataset_name).metadata if separates_classes(cfg) else MetadataCatalog.get(dataset_name)


def _counted(classes: Iterable[int], start: int = 0) -> dict[int, int]:
    return {k: number for number, k in enumerate(classes, start)}


def _renumbered(metadata: Metadata, kind: str, number_of: Mapping[int, int]) -> dict[str, dict[int, int]]:
    key = f"{kind}_dataset_id_to_contiguous_id"
    ids = metadata.get(key)
    return {} if ids is None else {key: {i: number_of[k] for i, k in ids.items() if k in number_of}}
