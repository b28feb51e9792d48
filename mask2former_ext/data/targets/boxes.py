"""Truth boxes of things: moved with their picture, or drawn around a mask, and which of a file's say nothing.

A box is x0, y0, x1, y1 in pixels; H, W pixels of the picture.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

_NAMED = 10  # left-out boxes that the log names

Record = Mapping[str, Any]


def moved_box(annotation: Record, transforms: T.TransformList, height: int, width: int) -> np.ndarray:
    """The annotation's `bbox` after `transforms`, float64 (4), cut to the new picture of `height` x `width`."""
    x0, y0, x1, y1 = transforms.apply_box(np.array([_corners(annotation)]))[0]
    return np.array([max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)])


def has_area(box: np.ndarray | Sequence[float]) -> bool:
    """Whether the box is wider and higher than nothing; one of NaN is not."""
    return bool(box[2] - box[0] > 1e-5 and box[3] - box[1] > 1e-5)


def box_fault(annotation: Record, height: float, width: float) -> str | None:
    """Why the `bbox` of an annotation in a picture of `height` x `width` cannot be learned; None if it can."""
    if not _is_four_numbers(annotation["bbox"]):
        return "is not four numbers"
    x0, y0, x1, y1 = _corners(annotation)
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        return "is not finite"
    if not has_area((x0, y0, x1, y1)):
        return "has no area"
    return "lies outside of the image" if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0 else None


def without_faulty_boxes(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The records without the annotations whose `bbox` cannot be learned. These are counted, and the first named."""
    kept, faults = [], []
    for record in records:
        all_faults = [_named_fault(record, annotation) for annotation in record.get("annotations", ())]
        if any(all_faults):
            good = [a for a, fault in zip(record["annotations"], all_faults, strict=True) if fault is None]
            record = {**record, "annotations": good}
            faults += [fault for fault in all_faults if fault is not None]
        kept.append(dict(record))
    if faults:
        named = "; ".join(faults[:_NAMED]) + ("; ..." if len(faults) > _NAMED else "")
        logging.getLogger(__name__).warning("Left out %d truth boxes: %s", len(faults), named)
    return kept


def _named_fault(record: Record, annotation: Record) -> str | None:
    if "bbox" not in annotation or annotation.get("iscrowd", 0):
        return None
    fault = box_fault(annotation, record.get("height", np.inf), record.get("width", np.inf))
    name = f"{record['file_name']}: annotation {annotation.get('id', '')}".rstrip()
    return fault and f"{name}: bbox {annotation['bbox']} {fault}"


def _is_four_numbers(box: Any) -> bool:
    return isinstance(box, (Sequence, np.ndarray)) and len(box) == 4 and all(isinstance(x, Real) for x in box)


def _corners(annotation: Record) -> Sequence[float]:
    box, mode = annotation["bbox"], annotation["bbox_mode"]
    if mode == BoxMode.XYWH_ABS:  # nearly always; of a million boxes Detectron2's conversion takes half a minute
        return box[0], box[1], box[0] + box[2], box[1] + box[3]
    return BoxMode.convert(list(box), mode, BoxMode.XYXY_ABS)
