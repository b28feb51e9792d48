"""Every form in which files hold masks, and the masks themselves: pure functions on NumPy arrays.

Shapes: N masks; H, W pixels of the picture. Classes are contiguous ids 0..K-1.
A panoptic PNG holds the segment id R + 256 G + 65536 B; id 0 is void (https://cocodataset.org/#format-data).
Run-length encoding (RLE) is COCO's; of the house only this file and `evaluation` know pycocotools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

VOID_ID = 0  # of a pixel that belongs to no segment
_MAX_ID = 256**3 - 1
_IDS_SHOWN = 5

Polygons = Sequence[Sequence[float] | np.ndarray]
Segmentation = Polygons | Mapping[str, Any] | np.ndarray


def panoptic_ids(png: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) in RGB order -> int32 (H, W) segment ids, 0 where nothing is labeled."""
    red, green, blue = (png[..., channel].astype(np.int32) for channel in range(3))
    return red + 256 * green + 65536 * blue


def panoptic_png(ids: np.ndarray) -> np.ndarray:
    """Segment ids (H, W) -> uint8 (H, W, 3) in RGB order: the inverse of `panoptic_ids`.

    Raises ValueError for an id outside of 0..16777215, which three bytes cannot hold.
    """
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    if low < 0 or high > _MAX_ID:
        raise ValueError(f"segment ids from {low} to {high} do not fit a panoptic PNG, which holds 0 to {_MAX_ID}")
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)


def check_segment_ids(ids: np.ndarray, listed: Iterable[int], where: str) -> None:
    """ValueError, beginning with `where`, unless the ids of a map other than 0 are exactly the ids `listed`."""
    present, known = set(np.unique(ids).tolist()) - {VOID_ID}, set(listed)
    without_entry, without_pixel = sorted(present - known), sorted(known - present)
    if without_entry:
        raise ValueError(f"{where}: segment ids {_first(without_entry)} have pixels but no entry in segments_info")
    if without_pixel:
        raise ValueError(f"{where}: segment ids {_first(without_pixel)} are in segments_info but have no pixel")


def _first(ids: Sequence[int]) -> str:
    more = len(ids) - _IDS_SHOWN
    return f"{list(ids[:_IDS_SHOWN])}" + (f" and {more} more" if more > 0 else "")


def panoptic_masks(ids: np.ndarray, segments: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Segment ids (H, W) -> bool masks (N, H, W) and int64 classes (N), in the order of `segments`.

    Crowd segments have no mask. A segment without a pixel (cropped away) leaves together with its class.
    """
    wanted = [segment for segment in segments if not segment.get("iscrowd", 0)]
    masks = [ids == segment["id"] for segment in wanted]
    return stack_masks(masks, [segment["category_id"] for segment in wanted], ids.shape[0], ids.shape[1])


def panoptic_to_semantic(ids: np.ndarray, segments: Iterable[Mapping[str, Any]], ignore_label: int) -> np.ndarray:
    """Segment ids (H, W) -> int32 class of each pixel (H, W), crowds included, `ignore_label` where none is known."""
    labels = np.full(ids.shape, ignore_label, dtype=np.int32)
    for segment in segments:
        labels[ids == segment["id"]] = segment["category_id"]
    return labels


def semantic_masks(labels: np.ndarray, ignore_label: int) -> tuple[np.ndarray, np.ndarray]:
    """Class of each pixel (H, W) -> bool masks (N, H, W), one per class present, and int64 classes (N), ascending."""
    classes = [int(value) for value in np.unique(labels) if value != ignore_label]
    return stack_masks([labels == value for value in classes], classes, labels.shape[0], labels.shape[1])


def stack_masks(
    masks: Sequence[np.ndarray], classes: Sequence[int], height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks of (H, W) and their classes -> bool (N, H, W), int64 (N), without the empty masks and their classes."""
    assert len(masks) == len(classes), f"{len(masks)} masks have {len(classes)} classes"
    kept = [index for index, mask in enumerate(masks) if mask.any()]
    stacked = np.zeros((len(kept), height, width), dtype=bool)
    for row, index in enumerate(kept):
        stacked[row] = masks[index]
    return stacked, np.array([classes[index] for index in kept], dtype=np.int64)


def polygon_mask(polygons: Polygons, height: int, width: int) -> np.ndarray:
    """Polygons, each x1, y1, x2, y2, ... in pixels -> bool (H, W): the union of their insides.

    Points may lie outside of the picture. Raises ValueError for a polygon of fewer than three points, or whose
    coordinates are not all finite.
    """
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon needs an even number of coordinates, at least 6, but has {len(polygon)}")
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    points = [np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in polygons]
    if not all(np.isfinite(polygon).all() for polygon in points):
        raise ValueError("a polygon's coordinates must be finite")
    # pycocotools rounds a negative coordinate the other way, so the picture is grown to where none is, and cut again.
    left, top = np.ceil(np.maximum(-np.concatenate(points).min(axis=0), 0)).astype(int).tolist()
    flat = [(polygon + (left, top)).ravel().tolist() for polygon in points]
    rle = coco_mask.merge(coco_mask.frPyObjects(flat, height + top, width + left))
    return coco_mask.decode(rle)[top:, left:].astype(bool)


def segmentation_mask(segmentation: Segmentation, height: int, width: int) -> np.ndarray:
    """Any form of an object's outline -> bool (H, W).

    Forms: a list of polygons; COCO RLE, compressed (`counts` a string) or not (`counts` a list of run lengths);
    a bitmap (H, W). Raises ValueError where the size that an RLE or bitmap has is not (height, width).
    """
    if isinstance(segmentation, Mapping):
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"an RLE of size {list(segmentation['size'])} belongs to a picture of {[height, width]}")
        return coco_mask.decode(compressed_rle(segmentation)).astype(bool)
    if isinstance(segmentation, np.ndarray):
        if segmentation.shape != (height, width):
            raise ValueError(f"a bitmap of size {list(segmentation.shape)} belongs to a picture of {[height, width]}")
        return segmentation.astype(bool)
    return polygon_mask(segmentation, height, width)


def compressed_rle(rle: Mapping[str, Any]) -> dict[str, Any]:
    """Either form of COCO RLE -> the compressed one, as pycocotools takes it."""
    counts, (height, width) = rle["counts"], rle["size"]
    if isinstance(counts, (list, tuple)):
        if sum(counts) != height * width:
            raise ValueError(f"the runs of an RLE sum to {sum(counts)}, its size is {height} x {width}")
        return coco_mask.frPyObjects({"counts": list(counts), "size": [height, width]}, height, width)
    return {"counts": counts.encode() if isinstance(counts, str) else counts, "size": [height, width]}


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """bool (H, W) -> COCO's compressed RLE, `counts` as a string that json can hold."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def box_of_mask(mask: np.ndarray) -> np.ndarray:
    """bool (H, W) -> float64 (4): the mask's first pixel and one past its last; zeros for an empty mask."""
    x, y, width, height = coco_mask.toBbox(encode_mask(mask))
    return np.array([x, y, x + width, y + height])


def run_lengths(mask: np.ndarray) -> list[int]:
    """bool (H, W) -> the lengths of its runs, column by column, the first one counting zeros: uncompressed RLE."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *runs] if flat.size and flat[0] else runs
