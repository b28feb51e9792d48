"""What is the same thing in one frame of a video and the next: by overlap of masks, moved as the thing has moved.

    tracker = Tracker()
    for found in ...:                 # a `results.Segmentation` of each frame
        found = tracker.update(found) # the same with a track_id for each segment

Things are matched three times over, each time by the best assignment of what is still free: masks of one class that
overlap; a thing that comes out from behind another, or has jumped, near the place where it should be by now; masks of
two classes that overlap well, for models that waver between classes. Stuff of one class is one track.

No tracking library is used: supervision has handed its tracker over to `trackers`, which matches boxes and brings an
OpenCV with a display, which cannot stand beside the one without.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mask2former_ext.results import Segmentation

# A thing that was not seen for this many frames is forgotten: when it comes back it is a new one.
MAX_MISSED = 30
_MIN_OVERLAP = 0.1  # intersection over union of a moved mask and one of the same class
_MIN_OVERLAP_OF_CLASSES = 0.5  # ... of another class
_MIN_NEARNESS = 0.4
# Share of the whole that must be seen for the outline to tell how the thing moves, rather than what covers it.
_WHOLE = 0.85
_SHRINKING = 0.98  # per frame: what is seen smaller for long is smaller
_INERTIA = 0.6  # share of the old velocity in the new one


@dataclass
class _Shape:
    """A mask without the nothing around it: bool (h, w), its top left pixel at x, y."""

    x: float
    y: float
    mask: NDArray[np.bool_]

    @property
    def area(self) -> int:
        return cv2.countNonZero(self.mask.view(np.uint8))

    @property
    def centre(self) -> NDArray[np.float64]:
        height, width = self.mask.shape
        return np.array([self.x + width / 2, self.y + height / 2])

    def moved(self, by: NDArray[np.float64]) -> _Shape:
        return _Shape(self.x + by[0], self.y + by[1], self.mask)

    def common(self, other: _Shape) -> int:
        """Pixels that both have."""
        ax, ay, bx, by = round(self.x), round(self.y), round(other.x), round(other.y)
        left, top = max(ax, bx), max(ay, by)
        right = min(ax + self.mask.shape[1], bx + other.mask.shape[1])
        bottom = min(ay + self.mask.shape[0], by + other.mask.shape[0])
        if left >= right or top >= bottom:
            return 0
        mine = self.mask[top - ay : bottom - ay, left - ax : right - ax]
        theirs = other.mask[top - by : bottom - by, left - bx : right - bx]
        return cv2.countNonZero((mine & theirs).view(np.uint8))


@dataclass
class _Track:
    id: int
    key: int  # class
    seen: _Shape  # as it was seen last, moved on since
    seen_area: int
    whole: _Shape  # as it was when it was last seen whole, moved on since
    whole_area: float
    velocity: NDArray[np.float64]  # px per frame
    is_new: bool = True
    missed: int = 0

    def move_on(self) -> None:
        """Where it should be in the next frame."""
        self.seen, self.whole = self.seen.moved(self.velocity), self.whole.moved(self.velocity)
        self.whole_area *= _SHRINKING
        self.missed += 1

    def found(self, shape: _Shape, area: int, key: int) -> None:
        """It is `shape` in this frame, where `move_on` said `whole`."""
        if area >= _WHOLE * self.whole_area:
            error = (shape.centre - self.whole.centre) / self.missed
            self.velocity = self.velocity + (1.0 if self.is_new else 1 - _INERTIA) * error
            self.whole, self.whole_area, self.is_new = shape, area, False
        self.seen, self.seen_area, self.key, self.missed = shape, area, key, 0


class Tracker:
    """Gives each segment of a video's frames a number, the same in all of them. Memory does not grow with their number.

    max_missed: frames after which a thing that was not seen is forgotten.
    """

    def __init__(self, max_missed: int = MAX_MISSED):
        self.max_missed = max_missed
        self._tracks: list[_Track] = []
        self._stuff: dict[int, int] = {}
        self._ids = itertools.count(1)

    def update(self, found: Segmentation) -> Segmentation:
        """The next frame's segments, with their track ids (from 1). A semantic answer, which knows no things, stays."""
        if found.task == "semantic":
            return found
        track_ids: list[int | None] = [None] * len(found.segments)
        things = []
        for place, segment in enumerate(found.segments):
            if not segment.is_thing:
                if segment.color_key not in self._stuff:
                    self._stuff[segment.color_key] = next(self._ids)
                track_ids[place] = self._stuff[segment.color_key]
            elif (shape := _shape(found, place)) is not None:
                things.append((place, shape, segment.color_key))
        of_thing = self._match([shape for _, shape, _ in things], [key for _, _, key in things])
        for (place, _, _), track_id in zip(things, of_thing, strict=True):
            track_ids[place] = track_id
        return found.tracked(track_ids)

    def _match(self, shapes: list[_Shape], keys: list[int]) -> list[int]:
        """Shapes of this frame and their classes -> track ids; the tracks go on."""
        areas = [shape.area for shape in shapes]
        for track in self._tracks:
            track.move_on()
        track_of: dict[int, _Track] = {}

        def overlap(track: _Track, i: int) -> float:
            common = track.seen.common(shapes[i])
            return common / (track.seen_area + areas[i] - common)

        rounds: list[tuple[Callable[[_Track, int], float], bool, float]] = [
            (overlap, True, _MIN_OVERLAP),
            (lambda track, i: _nearness(track, shapes[i], areas[i]), True, _MIN_NEARNESS),
            (overlap, False, _MIN_OVERLAP_OF_CLASSES),
        ]
        for likeness, same_class, least in rounds:
            taken = {id(track) for track in track_of.values()}
            free_tracks = [track for track in self._tracks if id(track) not in taken]
            free = [i for i in range(len(shapes)) if i not in track_of]
            if not free_tracks or not free:
                break
            table = np.zeros((len(free_tracks), len(free)))
            for (row, track), (column, i) in itertools.product(enumerate(free_tracks), enumerate(free)):
                if (track.key == keys[i]) == same_class:
                    table[row, column] = likeness(track, i)
            table[table < least] = 0
            for row, column in zip(*linear_sum_assignment(table, maximize=True), strict=True):
                if table[row, column] > 0:
                    track_of[free[column]] = free_tracks[row]
        for i, track in track_of.items():
            track.found(shapes[i], areas[i], keys[i])
        self._tracks = [track for track in self._tracks if track.missed <= self.max_missed]
        for i, shape in enumerate(shapes):
            if i not in track_of:
                track_of[i] = _Track(next(self._ids), keys[i], shape, areas[i], shape, areas[i], np.zeros(2))
                self._tracks.append(track_of[i])
        return [track_of[i].id for i in range(len(shapes))]


def _shape(found: Segmentation, place: int) -> _Shape | None:
    """A thing's pixels, all of its box where only that is known; None if it has none."""
    segment = found.segments[place]
    x0, y0, x1, y1 = (round(side) for side in segment.box)
    x0, y0 = max(0, x0), max(0, y0)
    if x1 <= x0 or y1 <= y0:
        return None
    if not found.has_masks:
        return _Shape(x0, y0, np.ones((y1 - y0, x1 - x0), dtype=bool))
    part = (slice(y0, y1), slice(x0, x1))
    mask = found.index_map[part] == place + 1 if found.masks is None else np.ascontiguousarray(found.masks[place][part])
    return _Shape(x0, y0, mask) if mask.any() else None


def _nearness(track: _Track, shape: _Shape, area: int) -> float:
    """In [0, 1]: how much of `shape` lies where the whole thing should be by now, or how near to it one as large is."""
    inside = track.whole.common(shape) / area
    if not 0.5 < area / track.whole_area < 2:
        return inside
    distance = float(np.linalg.norm(shape.centre - track.whole.centre))
    return max(inside, 1 - distance / (2 * np.sqrt(area)))
