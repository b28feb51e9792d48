"""What is the same thing in one frame of a video and the next: by masks, moved as the thing has moved, and colour.

    tracker = Tracker()
    for image, found in ...:          # each frame and its `results.Segmentation`
        found = tracker.update(found, image)  # the same with a track_id for each segment

Things are matched four times over, each time by the best assignment of what is still free: masks of one class that
overlap; a thing that comes out from behind another, or has jumped, near the place where it should be by now; one of
the same colour farther from there; masks of two classes that overlap well, for models that waver between classes.
Without images colour is left out. Stuff of one class is one track.

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

from mask2former_ext.inference.segmentation import Segmentation

# A thing that was not seen for this many frames is forgotten: when it comes back it is a new one.
MAX_MISSED = 30
_MIN_OVERLAP = 0.1  # intersection over union of a moved mask and one of the same class
_MIN_OVERLAP_OF_CLASSES = 0.5  # ... of another class
_MIN_NEARNESS = 0.4
# Share of the whole that must be seen for the outline to tell how the thing moves, rather than what covers it.
_WHOLE = 0.85
_SHRINKING = 0.98  # per frame: what is seen smaller for long is smaller
_MAX_PIXELS = 2048  # of a thing, whose colour is looked at
_NEW_COLOR = 0.1  # share of a frame's colour in the one that is known
_COLOR_SPREAD = 60.0  # levels of 255, between two colours that still may be of one thing
_UNALIKE = 0.4  # weight of a match by place of two of quite different colours
_MIN_SAME_COLOR = 0.25  # what tells, without a mask in its place, that one comes out from behind another ...
_REACH = 2.0  # ... up to this many of its lengths from where it was or should be
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
class _Thing:
    """What is seen of a thing in a frame."""

    key: int  # class
    shape: _Shape
    area: int  # px
    color: NDArray[np.float64] | None  # mean red, green and blue, 0 to 255; None without the image


@dataclass
class _Track:
    id: int
    key: int  # class
    color: NDArray[np.float64] | None  # of late
    seen: _Shape  # as it was seen last, moved on since
    seen_area: int
    whole: _Shape  # as it was when it was last seen whole, moved on since
    whole_area: float
    length: float  # px, the longest side of its box of late
    velocity: NDArray[np.float64]  # px per frame
    is_new: bool = True
    missed: int = 0

    @classmethod
    def of(cls, thing: _Thing, number: int) -> _Track:
        shape, area = thing.shape, thing.area
        return cls(number, thing.key, thing.color, shape, area, shape, area, max(shape.mask.shape), np.zeros(2))

    def move_on(self) -> None:
        """Where it should be in the next frame."""
        self.seen, self.whole = self.seen.moved(self.velocity), self.whole.moved(self.velocity)
        self.whole_area *= _SHRINKING
        self.length *= _SHRINKING
        self.missed += 1

    def found(self, thing: _Thing) -> None:
        """It is `thing` in this frame, where `move_on` said `whole`."""
        shape, area = thing.shape, thing.area
        if area >= _WHOLE * self.whole_area:
            error = (shape.centre - self.whole.centre) / self.missed
            self.velocity = self.velocity + (1.0 if self.is_new else 1 - _INERTIA) * error
            self.whole, self.whole_area, self.is_new = shape, area, False
        self.seen, self.seen_area, self.key, self.missed = shape, area, thing.key, 0
        self.length = max(self.length, *shape.mask.shape)
        if self.color is not None and thing.color is not None:
            self.color = (1 - _NEW_COLOR) * self.color + _NEW_COLOR * thing.color


class Tracker:
    """Gives each segment of a video's frames a number, the same in all of them. Memory does not grow with their number.

    max_missed: frames after which a thing that was not seen is forgotten.
    """

    def __init__(self, max_missed: int = MAX_MISSED):
        self.max_missed = max_missed
        self._tracks: list[_Track] = []
        self._stuff: dict[int, int] = {}
        self._ids = itertools.count(1)

    def update(self, found: Segmentation, image: NDArray[np.uint8] | None = None) -> Segmentation:
        """The next frame's segments, with their track ids (from 1). A semantic answer, which knows no things, stays.

        image: the frame, RGB (H, W, 3); without it things are told apart by place and class alone.
        """
        if found.task == "semantic":
            return found
        track_ids: list[int | None] = [None] * len(found.segments)
        things: dict[int, _Thing] = {}  # by place in `segments`
        for place, segment in enumerate(found.segments):
            if not segment.is_thing:
                if segment.color_key not in self._stuff:
                    self._stuff[segment.color_key] = next(self._ids)
                track_ids[place] = self._stuff[segment.color_key]
            elif (shape := _shape(found, place)) is not None:
                color = None if image is None else _mean_color(image, shape)
                things[place] = _Thing(segment.color_key, shape, shape.area, color)
        for place, track in zip(things, self._follow(list(things.values())), strict=True):
            track_ids[place] = track.id
        return found.tracked(track_ids)

    def _follow(self, things: list[_Thing]) -> list[_Track]:
        """The track of each thing of this frame; the tracks go on."""
        for track in self._tracks:
            track.move_on()
        track_of: dict[int, _Track] = {}
        for likeness, same_class, least in _ROUNDS:
            taken = {track.id for track in track_of.values()}
            tracks = [track for track in self._tracks if track.id not in taken]
            free = [i for i in range(len(things)) if i not in track_of]
            if not tracks or not free:
                break
            table = np.zeros((len(tracks), len(free)))
            for (row, track), (column, i) in itertools.product(enumerate(tracks), enumerate(free)):
                if (track.key == things[i].key) == same_class:
                    table[row, column] = likeness(track, things[i]) * _weight(track, things[i])
            table[table < least] = 0
            for row, column in zip(*linear_sum_assignment(table, maximize=True), strict=True):
                if table[row, column] > 0:
                    track_of[free[column]] = tracks[row]
        for i, track in track_of.items():
            track.found(things[i])
        self._tracks = [track for track in self._tracks if track.missed <= self.max_missed]
        for i, thing in enumerate(things):
            if i not in track_of:
                track_of[i] = _Track.of(thing, next(self._ids))
                self._tracks.append(track_of[i])
        return [track_of[i] for i in range(len(things))]


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


def _mean_color(image: NDArray[np.uint8], shape: _Shape) -> NDArray[np.float64]:
    """Mean red, green and blue, of a large shape at some of its pixels."""
    x, y = round(shape.x), round(shape.y)
    height, width = shape.mask.shape
    step = max(1, int(np.sqrt(shape.mask.size / _MAX_PIXELS)))
    mask = shape.mask[::step, ::step]
    if not mask.any():
        step, mask = 1, shape.mask
    return np.asarray(image[y : y + height : step, x : x + width : step][mask].mean(axis=0))


def _same_color(track: _Track, thing: _Thing) -> float | None:
    """In [0, 1], 1 for the same colour; None if one is not known."""
    if track.color is None or thing.color is None:
        return None
    return float(np.exp(-((track.color - thing.color) ** 2).sum() / _COLOR_SPREAD**2))


def _weight(track: _Track, thing: _Thing) -> float:
    """In [_UNALIKE, 1]: what their colours leave of a match by place."""
    same = _same_color(track, thing)
    return 1.0 if same is None else _UNALIKE + (1 - _UNALIKE) * same


def _overlap(track: _Track, thing: _Thing) -> float:
    """Intersection over union, the track's mask moved."""
    common = track.seen.common(thing.shape)
    return common / (track.seen_area + thing.area - common)


def _nearness(track: _Track, thing: _Thing) -> float:
    """In [0, 1]: how much of `thing` lies where the whole should be by now, or how near to it one as large is."""
    inside = track.whole.common(thing.shape) / thing.area
    if not 0.5 < thing.area / track.whole_area < 2:
        return inside
    distance = float(np.linalg.norm(thing.shape.centre - track.whole.centre))
    return max(inside, 1 - distance / (2 * np.sqrt(thing.area)))


def _nearness_by_color(track: _Track, thing: _Thing) -> float:
    """In [0, 1]: how near one of the same colour is to where the thing was or should be by now."""
    same = _same_color(track, thing)
    if same is None or same < _MIN_SAME_COLOR:
        return 0.0
    distance = min(np.linalg.norm(thing.shape.centre - old.centre) for old in (track.seen, track.whole))
    return max(0.0, 1 - float(distance) / (_REACH * track.length))


# How alike a track and a thing are in [0, 1], whether they must be of one class (or of two), the least that counts.
_ROUNDS: list[tuple[Callable[[_Track, _Thing], float], bool, float]] = [
    (_overlap, True, _MIN_OVERLAP),
    (_nearness, True, _MIN_NEARNESS),
    (_nearness_by_color, True, 0.0),
    (_overlap, False, _MIN_OVERLAP_OF_CLASSES),
]
