"""The objects that a record's annotations outline, moved with their picture.

Shapes: N objects; H, W pixels of the new picture. Crowds are no objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.data import transforms as T

from mask2former_ext.data.targets.boxes import has_area, moved_box
from mask2former_ext.data.targets.masks import box_of_mask, polygon_mask, segmentation_mask, stack_masks

Record = Mapping[str, Any]
Size = tuple[int, int]


def has_outline(annotation: Record) -> bool:
    """Whether more than a box is known of the object."""
    segmentation = annotation.get("segmentation")
    return segmentation is not None and len(segmentation) > 0


def annotated_masks(
    record: Record, transforms: T.TransformList, old_size: Size, new_size: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Masks bool (N, *new_size) and classes int64 (N) of the outlined objects.

    A polygon is moved point by point and filled at the new size; every other form is decoded, then moved as a picture.
    """
    wanted = [a for a in record["annotations"] if not a.get("iscrowd", 0) and has_outline(a)]
    masks = [_moved_mask(record, annotation, transforms, old_size, new_size) for annotation in wanted]
    return stack_masks(masks, [annotation["category_id"] for annotation in wanted], *new_size)


def annotated_boxes(
    record: Record, transforms: T.TransformList, old_size: Size, new_size: Size, *, with_masks: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `annotated_masks`, and boxes float64 (N, 4) x0 y0 x1 y1; without masks these are (0, *new_size).

    The box is the annotation's, moved and cut, unless there is none or a crop may have left less of the object than of
    it: then it is drawn around the mask. Without masks a box alone will do.
    """
    cropped = any(isinstance(transform, T.CropTransform) for transform in transforms.transforms)
    masks: list[np.ndarray] = []
    classes, boxes = [], []
    for annotation in record["annotations"]:
        box_will_do = "bbox" in annotation and not (with_masks or cropped and has_outline(annotation))
        if annotation.get("iscrowd", 0) or not (has_outline(annotation) or box_will_do):
            continue
        mask = None if box_will_do else _moved_mask(record, annotation, transforms, old_size, new_size)
        if mask is None or "bbox" in annotation and not cropped:
            box = moved_box(annotation, transforms, *new_size)
        else:
            box = box_of_mask(mask)
        if has_area(box) and (mask is None or mask.any()):
            if with_masks and mask is not None:
                masks.append(mask)
            classes.append(annotation["category_id"])
            boxes.append(box)
    stacked = np.stack(masks) if masks else np.zeros((0, *new_size), dtype=bool)
    return stacked, np.array(classes, dtype=np.int64), np.array(boxes).reshape(-1, 4)


def _moved_mask(
    record: Record, annotation: Record, transforms: T.TransformList, old_size: Size, new_size: Size
) -> np.ndarray:
    segmentation = annotation["segmentation"]
    try:
        if isinstance(segmentation, list):
            moved = [
                transforms.apply_coords(np.array(polygon, dtype=np.float64).reshape(-1, 2)).ravel()
                for polygon in segmentation
            ]
            return polygon_mask(moved, *new_size)
        mask = segmentation_mask(segmentation, *old_size).astype(np.uint8)
    except ValueError as error:
        raise ValueError(f"{record['file_name']}: annotation {annotation.get('id', '')}: {error}") from error
    return transforms.apply_segmentation(mask).astype(bool)
