"""The segments of one image, in one form for all tasks: for drawing, label files and json.

    result = predictor(image)
    by_task = segmentations(result, predictor.classes, threshold=0.5, classes=["car"])
    for task, segmentation in by_task.items():
        segmentation.segments            # name, score, area, box, ... of each
        segmentation.index_map           # (H, W): what lies at a pixel, as its place in `segments` plus 1; 0: nothing
        segmentation.labels()            # the array of the label file, for PIL.Image.fromarray; None for boxes alone
        segmentation.content()           # a list of dicts for json
        segmentation.mask(i)             # bool (H, W): all pixels of segment i, also those that another one covers
        drawing.draw(image, segmentation, alpha=0.5)    # the overlay

Label files: semantic, the class of each pixel (255, or 65535 beyond 255 classes: unlabeled); panoptic, segment ids as
R + 256 G + 65536 B; instance, the number (from 1) of the instance in `segments`, 0 for none, higher scores on top.

Shapes: H, W pixels of the image; K classes; N segments. Everything here lies on the CPU.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.structures import Instances
from numpy.typing import NDArray
from torch import Tensor

from mask2former_ext.classes import ClassTable, Color, name_of
from mask2former_ext.contract import ANSWERS, check_threshold
from mask2former_ext.data.targets.masks import encode_mask, panoptic_png
from mask2former_ext.inference.colors import color_of

DEFAULT_INSTANCE_SCORE = 0.5
UNLABELED = -1
# Ids up to this are looked up in a table, larger ones (those of panoptic truth) by search.
_LARGEST_TABLE = 1 << 16


@dataclass(frozen=True)
class Segment:
    """One thing or one region of stuff."""

    id: int  # its value in the label file
    category_id: int  # contiguous
    name: str
    is_thing: bool  # of a semantic region: False
    score: float | None  # in [0, 1]; of a semantic region: None
    area: int | None  # px, None where only the box is known
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 px; x1, y1 are one past the last pixel
    color_key: int  # a number for its class that no other class has, even where things and stuff are numbered apart
    color: Color  # RGB in 0..255, the same for all of its class
    track_id: int | None = None  # what it is over the frames of a video


@dataclass(frozen=True)
class Segmentation:
    """One image's segments for one task. See the head of this file."""

    task: str  # semantic, instance or panoptic
    segments: tuple[Segment, ...]  # instance: best first; semantic: by class; panoptic: in the model's order
    index_map: NDArray[Any]  # (H, W), uint8 or uint16; of instances that overlap the smaller one lies on top
    masks: NDArray[np.bool_] | None = None  # (N, H, W) of instances, which may overlap
    num_classes: int = 0  # K of a semantic answer

    @property
    def has_masks(self) -> bool:
        """False if only boxes are known (Faster R-CNN)."""
        return self.task != "instance" or self.masks is not None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.index_map.shape[0], self.index_map.shape[1]

    def mask(self, place: int) -> NDArray[np.bool_]:
        """Bool (H, W): the pixels of `segments[place]`."""
        if not self.has_masks:
            raise ValueError(f"segment {place} has no mask: this model finds boxes alone")
        return np.asarray(self.index_map == place + 1) if self.masks is None else self.masks[place]

    def labels(self) -> NDArray[Any] | None:
        """The label file's array: uint8 or uint16 (H, W), panoptic uint8 (H, W, 3); None if only boxes are known."""
        if not self.has_masks:
            return None
        if self.task == "instance":
            numbers = np.zeros(self.size, dtype=np.uint16)
            for place in reversed(range(len(self.segments))):
                numbers[self.mask(place)] = place + 1
            return numbers
        depth = np.uint8 if self.num_classes <= 255 else np.uint16
        nothing = np.iinfo(depth).max if self.task == "semantic" else 0
        values = np.array([nothing, *(segment.id for segment in self.segments)], dtype=np.int64)[self.index_map]
        if self.task == "semantic":
            return values.astype(depth)
        return panoptic_png(values)

    def content(self) -> list[dict[str, Any]]:
        """Each segment as json holds it: numbers, names, boxes as x, y, width, height, masks of instances as RLE."""
        return [self._content_of(place, segment) for place, segment in enumerate(self.segments)]

    def _content_of(self, place: int, segment: Segment) -> dict[str, Any]:
        content: dict[str, Any] = {"category_id": segment.category_id, "name": segment.name}
        if self.task == "panoptic":
            content = {"id": segment.id, "isthing": segment.is_thing, **content}
        if segment.track_id is not None:
            content["track_id"] = segment.track_id
        if segment.score is not None:
            content["score"] = segment.score
        if segment.area is not None:
            content["area"] = segment.area
        if self.task == "instance":
            x0, y0, x1, y1 = segment.box
            content["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            if self.masks is not None:
                content["segmentation"] = encode_mask(self.masks[place])
        return content

    def tracked(self, track_ids: Sequence[int | None]) -> Segmentation:
        """The same with what each segment is over the frames of a video."""
        named = (replace(s, track_id=track_id) for s, track_id in zip(self.segments, track_ids, strict=True))
        return replace(self, segments=tuple(named))


def segmentations(
    result: Mapping[str, Any],
    table: ClassTable | None,
    *,
    threshold: float | None = None,
    classes: Collection[str] | None = None,
    tasks: Collection[str] | None = None,
) -> dict[str, Segmentation]:
    """A model's result for one image -> its segmentation for each task ("semantic", ...) that it answers.

    `table` names the classes; without one numbers are shown.
    threshold: see `contract.Request`; None: 0.5 for instances, else all that the model has left.
    classes: names of those to keep (case does not matter); None: all. tasks: the ones wanted; None: all.
    Raises ValueError for a wrong threshold and a class that `table` does not know (see `check_classes`).
    """
    check_threshold(threshold)
    if classes is not None:
        classes = check_classes(classes, table)
    return {
        task: _CONVERTERS[task](result[key], table, threshold, classes)
        for task, key in ANSWERS.items()
        if key in result and (tasks is None or task in tasks)
    }


def check_classes(classes: Collection[str], table: ClassTable | None) -> frozenset[str]:
    """The names in lower case. Raises ValueError for one that is not known, with the nearest that is."""
    wanted = frozenset(name.strip().lower() for name in classes)
    names = [] if table is None else table.known_names
    known = {name.lower() for name in names}
    for name in sorted(wanted - known) if known else ():
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known are: {', '.join(names[:30])}"
        raise ValueError(f"class '{name}' is not one of the model's {len(known)} classes{hint}")
    return wanted


def semantic_segmentation(
    scores: Tensor, table: ClassTable | None, threshold: float | None = None, classes: Collection[str] | None = None
) -> Segmentation:
    """Scores (K, H, W) -> the regions of the classes that are best somewhere."""
    best, codes = _best_classes(scores)
    if threshold is not None:
        codes[best < threshold] = 0
    return _regions(codes, table, len(scores), classes)


def class_map_segmentation(
    class_map: NDArray[np.integer], table: ClassTable | None, num_classes: int, classes: Collection[str] | None = None
) -> Segmentation:
    """Classes (H, W), UNLABELED where none -> the regions of the classes present, by class."""
    return _regions(class_map + 1, table, num_classes, classes)


def _regions(
    codes: NDArray[np.integer], table: ClassTable | None, num_classes: int, classes: Collection[str] | None
) -> Segmentation:
    """`codes` (H, W) are classes plus 1, 0 where none."""
    counts = np.bincount(codes.ravel(), minlength=1)
    present = [int(code) - 1 for code in np.flatnonzero(counts) if code > 0]
    named = {k: name_of(table, k) for k in present}
    kept = [k for k in present if classes is None or named[k].lower() in classes]
    place_of = np.zeros(len(counts), dtype=_map_type(len(kept)))
    place_of[[k + 1 for k in kept]] = np.arange(1, len(kept) + 1)
    index_map = place_of[codes]
    segments = [
        Segment(k, k, named[k], False, None, int(counts[k + 1]), box, _color_key(table, k, False), color_of(table, k))
        for k, box in zip(kept, boxes_of_indices(index_map, len(kept)), strict=True)
    ]
    return Segmentation("semantic", tuple(segments), index_map, num_classes=num_classes)


def _best_classes(scores: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores (K, H, W) -> the best of each pixel, and its class plus 1.

    On a CPU plane by plane: PyTorch's max over the first dimension takes more than twice as long (K = 20, 150).
    """
    if scores.device.type != "cpu":
        best, classes = scores.max(dim=0)
        return best.cpu().numpy(), classes.cpu().numpy() + 1
    planes = scores.float().numpy()
    highest, codes = planes[0].copy(), np.ones(planes.shape[1:], dtype=np.uint16)
    for k, plane in enumerate(planes[1:], start=1):
        better = cv2.compare(plane, highest, cv2.CMP_GT)
        cv2.copyTo(plane, better, highest)
        np.copyto(codes, k + 1, where=better.view(bool))
    return highest, codes


def instance_segmentation(
    instances: Instances,
    table: ClassTable | None,
    threshold: float | None = None,
    classes: Collection[str] | None = None,
) -> Segmentation:
    """Instances -> the things that score at least `threshold` (None: 0.5), best first."""
    threshold = DEFAULT_INSTANCE_SCORE if threshold is None else threshold
    keep = instances.scores >= threshold
    if table is not None and table.things:
        keep = keep & torch.isin(instances.pred_classes, torch.tensor(table.things, device=keep.device))
    kept = instances[keep]
    kept = kept[kept.scores.argsort(descending=True, stable=True)].to(torch.device("cpu"))
    names = [name_of(table, k, is_thing=True) for k in kept.pred_classes.tolist()]
    if classes is not None:
        places = [place for place, name in enumerate(names) if name.lower() in classes]
        kept, names = kept[torch.tensor(places, dtype=torch.int64)], [names[place] for place in places]
    size = (int(kept.image_size[0]), int(kept.image_size[1]))
    if kept.has("pred_masks"):
        masks = np.asarray(kept.pred_masks).astype(bool, copy=False).reshape(len(kept), *_mask_size(kept, size))
        areas: list[int | None] = [cv2.countNonZero(mask.view(np.uint8)) for mask in masks]
        index_map = _on_top(masks, areas)
    else:
        masks, areas, index_map = None, [None] * len(kept), np.zeros(size, dtype=np.uint8)
    boxes = _boxes(kept, masks)
    segments = []
    for place, (k, score, box) in enumerate(zip(kept.pred_classes.tolist(), kept.scores.tolist(), boxes, strict=True)):
        color = color_of(table, k, is_thing=True)
        segments.append(Segment(place + 1, k, names[place], True, score, areas[place], box, k, color))
    return Segmentation("instance", tuple(segments), index_map, masks)


def panoptic_segmentation(
    panoptic_seg: tuple[Tensor | NDArray[np.integer], Sequence[Mapping[str, Any]]],
    table: ClassTable | None,
    threshold: float | None = None,
    classes: Collection[str] | None = None,
) -> Segmentation:
    """Ids (H, W), 0 where nothing, and segments with id, category_id, optionally isthing and score -> the segments.

    Segments that have no pixel are kept: of a truth they may be covered.
    """
    ids, listed = np.asarray(torch.as_tensor(panoptic_seg[0]).cpu()), panoptic_seg[1]
    named = [(s, name_of(table, s["category_id"], bool(s.get("isthing", False)))) for s in listed]
    kept = [
        (s, name)
        for s, name in named
        if (classes is None or name.lower() in classes) and (threshold is None or s.get("score", 1.0) >= threshold)
    ]
    index_map = _indices_of_ids(ids, [s["id"] for s, _ in kept])
    areas = np.bincount(index_map.ravel(), minlength=len(kept) + 1)[1:]
    segments = []
    for (s, name), area, box in zip(kept, areas.tolist(), boxes_of_indices(index_map, len(kept)), strict=True):
        category, is_thing = s["category_id"], bool(s.get("isthing", False))
        key, color = _color_key(table, category, is_thing), color_of(table, category, is_thing)
        segments.append(Segment(s["id"], category, name, is_thing, s.get("score"), area, box, key, color))
    return Segmentation("panoptic", tuple(segments), index_map)


_CONVERTERS: dict[str, Callable[..., Segmentation]] = {
    "semantic": semantic_segmentation,
    "instance": instance_segmentation,
    "panoptic": panoptic_segmentation,
}


def boxes_of_indices(index_map: NDArray[Any], count: int) -> list[tuple[float, float, float, float]]:
    """(x0, y0, x1, y1) of each of the places 1..count in a map (H, W); zeros for one that has no pixel."""
    boxes = []
    for place in range(1, count + 1):
        x, y, width, height = cv2.boundingRect((index_map == place).view(np.uint8))
        boxes.append((float(x), float(y), float(x + width), float(y + height)))
    return boxes


def _boxes(kept: Instances, masks: NDArray[np.bool_] | None) -> list[tuple[float, float, float, float]]:
    """The model's boxes, or those of the masks where it gives none."""
    if kept.has("pred_boxes"):
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in kept.pred_boxes.tensor.tolist()]
    assert masks is not None, "instances have masks or boxes"
    boxes = (cv2.boundingRect(mask.view(np.uint8)) for mask in masks)
    return [(float(x), float(y), float(x + width), float(y + height)) for x, y, width, height in boxes]


def _mask_size(kept: Instances, size: tuple[int, int]) -> tuple[int, int]:
    return (kept.pred_masks.shape[-2], kept.pred_masks.shape[-1]) if len(kept) else size


def _on_top(masks: NDArray[np.bool_], areas: Sequence[int | None]) -> NDArray[Any]:
    """Masks (N, H, W) and their areas -> what lies on top at each pixel: the place of the smallest plus 1, or 0."""
    index_map = np.zeros(masks.shape[1:], dtype=_map_type(len(masks)))
    for place in sorted(range(len(masks)), key=lambda place: -(areas[place] or 0)):
        x, y, width, height = cv2.boundingRect(masks[place].view(np.uint8))
        part = (slice(y, y + height), slice(x, x + width))
        index_map[part][masks[place][part]] = place + 1
    return index_map


def _indices_of_ids(ids: NDArray[np.integer], of_segments: Sequence[int]) -> NDArray[Any]:
    """Ids (H, W) -> the place of each in `of_segments` plus 1, 0 for any other."""
    kind, largest = _map_type(len(of_segments)), int(ids.max(initial=0))
    if largest < _LARGEST_TABLE:
        table = np.zeros(largest + 1, dtype=kind)
        for place, segment_id in enumerate(of_segments):
            if segment_id <= largest:
                table[segment_id] = place + 1
        return table[ids]
    if len(of_segments) == 0:
        return np.zeros(ids.shape, dtype=kind)
    order = np.argsort(of_segments)
    known = np.asarray(of_segments)[order]
    nearest = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[nearest] == ids, order[nearest] + 1, 0).astype(kind)


def _map_type(count: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if count <= 255 else np.uint16


def _color_key(table: ClassTable | None, k: int, is_thing: bool) -> int:
    return k if table is None else table.color_key(k, is_thing)
