"""Things one by one: from the record's annotations, else from the panoptic PNG."""

from __future__ import annotations

from typing import Any

import numpy as np

from mask2former_ext.data.targets.annotations import annotated_masks, has_outline
from mask2former_ext.data.targets.kind import ANNOTATIONS, PANOPTIC_FILE, Augmented, Record, Source, TargetKind
from mask2former_ext.data.targets.masks import panoptic_ids, panoptic_masks


class InstanceTarget(TargetKind):
    """`instances`: a mask for each thing."""

    name = "instance"
    needs = ((ANNOTATIONS, PANOPTIC_FILE),)
    needs_things = True
    numberings = ("together",)

    def teaches_nothing(self, record: Record) -> bool:
        """An image without an outlined object, crowds aside."""
        return ANNOTATIONS in record and not any(map(has_outlined_object, record[ANNOTATIONS]))

    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:
        if ANNOTATIONS in source.record:
            masks_and_classes = annotated_masks(source.record, augmented.transforms, source.size, augmented.size)
        else:
            masks_and_classes = things_of_panoptic(source, augmented)
        return {"instances": augmented.instances(*masks_and_classes)}


def has_outlined_object(annotation: Record) -> bool:
    """Whether it is an object with a mask, no crowd."""
    return not annotation.get("iscrowd", 0) and has_outline(annotation)


def things_of_panoptic(source: Source, augmented: Augmented) -> tuple[np.ndarray, np.ndarray]:
    """Masks bool (N, H, W) and classes int64 (N) of the things in the panoptic PNG, moved, not padded."""
    things = [segment for segment in source.record["segments_info"] if segment["isthing"]]
    return panoptic_masks(panoptic_ids(augmented.moved(source.panoptic_png)), things)
