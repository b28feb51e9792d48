"""The connected regions of segments: which are too small to be outlined, and which is the largest.

Shapes: H, W pixels of the map; N segments, whose numbers in it are 1..N; 0 is nothing. Boxes are x0, y0, x1, y1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Regions are looked for on a map of about this many pixels a side: on a finer one they take longer than all the rest.
_SHORT_SIDE = 320
Box = tuple[float, float, float, float]


def without_specks(index_map: NDArray[Any], boxes: Sequence[Box], least: float) -> tuple[NDArray[Any], list[Box]]:
    """(the map without regions of fewer than about `least` pixels, the box of the largest region of each segment).

    The pixels of such a region go to what lies around it; beside the edge of a larger one they may stay. `boxes` are
    where the segments lie. Pixels of a segment belong to one region if they touch, by a corner too.
    """
    step = max(1, min(index_map.shape) // _SHORT_SIDE)
    coarse = np.ascontiguousarray(index_map[::step, ::step])
    specks = np.zeros(coarse.shape, dtype=np.uint8)
    whole = (0.0, 0.0, float(index_map.shape[1]), float(index_map.shape[0]))
    largest = [
        _largest_region(coarse, number, box, least / step**2, step, specks)
        for number, box in enumerate([whole, *boxes])
    ][1:]
    if specks.all():
        return index_map, largest
    if specks.any():
        _, nearest = cv2.distanceTransformWithLabels(specks, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
        number_of = np.zeros(int(nearest.max()) + 1, dtype=coarse.dtype)
        number_of[nearest[specks == 0]] = coarse[specks == 0]
        coarse = number_of[nearest]
    kernel = np.ones((3, 3), dtype=np.uint8)
    inner = (cv2.dilate(coarse, kernel) == cv2.erode(coarse, kernel)).view(np.uint8)
    size = (coarse.shape[1] * step, coarse.shape[0] * step)
    height, width = index_map.shape
    coarse, inner = (cv2.resize(one, size, interpolation=cv2.INTER_NEAREST)[:height, :width] for one in (coarse, inner))
    return np.asarray(cv2.copyTo(coarse, inner, index_map.copy())), largest


def _largest_region(
    coarse: NDArray[Any], number: int, box: Box, least: float, step: int, specks: NDArray[np.uint8]
) -> Box:
    """The box of a segment's largest region (its own `box` where it has none); marks the small ones in `specks`."""
    x0, y0 = max(0, int(box[0]) // step), max(0, int(box[1]) // step)
    part = (slice(y0, -int(-box[3] // step)), slice(x0, -int(-box[2] // step)))
    own = (coarse[part] == number).view(np.uint8)
    if not own.any():
        return box
    _, regions, facts, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
    areas = facts[:, cv2.CC_STAT_AREA]
    areas[0] = 0  # all that is not of the segment
    is_speck = (areas < least).astype(np.uint8)
    is_speck[0] = 0
    if is_speck.any():
        specks[part] |= is_speck[regions]
    x, y, width, height = facts[int(areas.argmax()), :4].tolist()
    left, top, right, bottom = (float(step * side) for side in (x0 + x, y0 + y, x0 + x + width, y0 + y + height))
    return max(left, box[0]), max(top, box[1]), min(right, box[2]), min(bottom, box[3])
