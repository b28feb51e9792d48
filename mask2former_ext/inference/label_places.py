"""Which segments are named in a picture, and where: in the segment if there is room, not on each other, not on things.

Shapes: H, W pixels of the map; N segments. Points are (x, y), sizes (width, height), in pixels of the map.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Places are looked for on a map of about this many pixels a side: a finer one costs time and hardly moves a text.
_SHORT_SIDE = 160
Point = tuple[float, float]
Box = tuple[float, float, float, float]

# Names that stand in the picture already are written again as long as they cover this share of it at most.
_SHARE_REPEATED = 0.04
# Of a name's ground, the shares that may lie on what shall not be hidden: gladly, and where no better place is free.
_HIDES_LITTLE, _HIDES_MOST = 0.25, 0.6
# A text that is this much wider than its segment lies beside it.
_WIDER = 1.5


def worth_naming(
    classes: Sequence[Hashable],
    areas: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    num_pixels: int,
    most: float,
) -> list[int]:
    """The places of the segments to be named, in their order: of each of the `classes` the largest segment, then
    further ones, large before small, as long as their names leave most of the segment and of the picture to be seen.

    areas: pixels of each that are seen; one of none is not named. num_pixels: of the picture. most: share of a further
    segment that its name may cover.
    """
    kept, known, left = [], set(), _SHARE_REPEATED * num_pixels
    for place in sorted(range(len(classes)), key=lambda place: -areas[place]):
        covered = sizes[place][0] * sizes[place][1]
        if areas[place] <= 0:
            continue
        if classes[place] in known:
            if covered > min(left, most * areas[place]):
                continue
            left -= covered
        known.add(classes[place])
        kept.append(place)
    return sorted(kept)


def label_centers(
    index_map: NDArray[Any],
    boxes: Sequence[Box],
    sizes: Sequence[tuple[float, float]],
    keep: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Centers (N, 2) of texts of `sizes` for the segments 1..N of a map (H, W) that lie in `boxes` (x0, y0, x1, y1).

    A text lies around the pixel of its segment that is farthest from the segment's edge. That pixel lies inside a bent
    mask, as the center of mass may not. Where another text lies there, it is the farthest free one, else a place near
    it. A segment that the text would hide gets it above, below or beside itself. Where no place is free, texts overlap.
    `keep` (H, W) are pixels that texts should leave to be seen. With it a segment of such pixels that is much narrower
    than its text has it beside itself, too; and a text that would lie on another or hide too much has no place: NaN.
    """
    step = max(1, min(index_map.shape) // _SHORT_SIDE)
    coarse = np.ascontiguousarray(index_map[::step, ::step])
    kept = None if keep is None else keep[::step, ::step]
    room = _distance_to_edge(coarse)
    height, width = index_map.shape
    centers = np.full((len(boxes), 2), np.nan)
    taken: list[tuple[Point, tuple[float, float]]] = []
    for i in sorted(range(len(boxes)), key=lambda i: _area(boxes[i])):  # the larger, the more places it has
        size, box = sizes[i], boxes[i]
        hidden = _would_hide(box, size)
        inside = None if hidden else _free_inside(coarse, room, i, box, size, taken, step)
        is_narrow = size[0] > _WIDER * (box[2] - box[0])
        beside = hidden or (is_narrow and kept is not None and bool(kept[coarse == i + 1].any()))
        share = 0.0 if inside is None or kept is None else _hidden_share(kept & (coarse != i + 1), inside, size, step)
        place = inside if share <= _HIDES_LITTLE and not beside else None
        if place is None:
            near, far = _around(box if beside else _middle(coarse, room, i, box, step), size)
            around = [_in_frame(point, size, width, height) for point in (near + far if kept is None else near)]
            free = [point for point in around if not any(_overlap(point, size, *other) for other in taken)]
            if kept is None:
                place = next(iter(free), around[0])
            else:
                options = [(_hidden_share(kept, point, size, step), point) for point in free]
                place = _hiding_least(options if inside is None else [*options, (share, inside)])
        if place is not None:
            centers[i] = place
            taken.append((place, size))
    return centers


def _hiding_least(options: Sequence[tuple[float, Point]]) -> Point | None:
    """Of (share hidden, place) the first place that hides little, else that which hides least; None: all hide much."""
    share, place = min(options, key=lambda option: max(option[0], _HIDES_LITTLE), default=(1.0, None))
    return None if share > _HIDES_MOST else place


def _hidden_share(kept: NDArray[np.bool_], point: Point, size: tuple[float, float], step: int) -> float:
    """Of a text's ground, the share that lies on a map's pixels (h, w); it has one for each `step` of the picture's."""
    left, top = int((point[0] - size[0] / 2) // step), int((point[1] - size[1] / 2) // step)
    right, bottom = int(-(-(point[0] + size[0] / 2) // step)), int(-(-(point[1] + size[1] / 2) // step))
    under = kept[max(0, top) : bottom, max(0, left) : right]
    return float(under.mean()) if under.size else 0.0


def _distance_to_edge(index_map: NDArray[Any]) -> NDArray[np.float32]:
    """Distance of each pixel (H, W) to the nearest one of another place, the frame being one."""
    framed = np.pad(index_map, 1)
    kernel = np.ones((3, 3), dtype=np.uint8)
    within = (cv2.dilate(framed, kernel) == cv2.erode(framed, kernel)) & (framed > 0)
    return np.asarray(cv2.distanceTransform(within.view(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1] + within[1:-1, 1:-1])


def _free_inside(
    coarse: NDArray[Any],
    room: NDArray[np.float32],
    i: int,
    box: Box,
    size: tuple[float, float],
    taken: Sequence[tuple[Point, tuple[float, float]]],
    step: int,
) -> Point | None:
    """The point of segment i with most room around it at which the text lies in the frame and on no other text."""
    rows, columns = coarse.shape
    left = max(box[0], size[0] / 2)
    top = max(box[1], size[1] / 2)
    right = min(box[2], columns * step - size[0] / 2)
    bottom = min(box[3], rows * step - size[1] / 2)
    x0, y0 = int(np.ceil(left / step)), int(np.ceil(top / step))
    part = (slice(y0, int(bottom // step) + 1), slice(x0, int(right // step) + 1))
    here = np.where(coarse[part] == i + 1, room[part], 0)
    for (x, y), (other_width, other_height) in taken:
        reach_x, reach_y = (size[0] + other_width) / 2 / step, (size[1] + other_height) / 2 / step
        columns_near = slice(max(0, int(x / step - reach_x) - x0), max(0, int(np.ceil(x / step + reach_x)) - x0 + 1))
        rows_near = slice(max(0, int(y / step - reach_y) - y0), max(0, int(np.ceil(y / step + reach_y)) - y0 + 1))
        here[rows_near, columns_near] = 0
    if here.size == 0 or here.max() <= 0:
        return None
    row, column = np.unravel_index(int(here.argmax()), here.shape)
    return float((column + x0) * step), float((row + y0) * step)


def _middle(coarse: NDArray[Any], room: NDArray[np.float32], i: int, box: Box, step: int) -> Box:
    """The pixel of segment i farthest from its edge, as a box; the middle of its box if the map has no pixel of it."""
    x0, y0, x1, y1 = (int(side // step) for side in box)
    here = np.where(coarse[y0 : y1 + 1, x0 : x1 + 1] == i + 1, room[y0 : y1 + 1, x0 : x1 + 1], 0)
    row, column = np.unravel_index(int(here.argmax()), here.shape)
    x, y = float((column + x0) * step), float((row + y0) * step)
    if here.max() <= 0:
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return x, y, x, y


def _would_hide(box: Box, size: tuple[float, float]) -> bool:
    """Whether a text of this size would cover most of what lies in the box."""
    return min(box[2] - box[0], size[0]) * min(box[3] - box[1], size[1]) > 0.5 * _area(box)


def _around(box: Box, size: tuple[float, float]) -> tuple[list[Point], list[Point]]:
    """Above, below, right and left of the box; then on it, and in rows farther and farther from it."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = size
    near = [
        (x, box[1] - height / 2),
        (x, box[3] + height / 2),
        (box[2] + width / 2, y),
        (box[0] - width / 2, y),
    ]
    far = [(x, y)] + [(x, y + sign * rows * height) for rows in range(1, 6) for sign in (1, -1)]
    return near, far


def apart(centers: Sequence[Point], sizes: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the texts that lie on none of those kept before."""
    kept: list[int] = []
    for place, (center, size) in enumerate(zip(centers, sizes, strict=True)):
        if not any(_overlap(center, size, centers[other], sizes[other]) for other in kept):
            kept.append(place)
    return kept


def _in_frame(point: Point, size: tuple[float, float], width: int, height: int) -> Point:
    """The point, moved so far that the text lies in the frame."""
    x = max(size[0] / 2, min(point[0], width - size[0] / 2))
    return x, max(size[1] / 2, min(point[1], height - size[1] / 2))


def _overlap(a: Point, size_a: tuple[float, float], b: Point, size_b: tuple[float, float]) -> bool:
    return (
        abs(a[0] - b[0]) < (size_a[0] + size_b[0]) / 2 - 1e-6 and abs(a[1] - b[1]) < (size_a[1] + size_b[1]) / 2 - 1e-6
    )


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
