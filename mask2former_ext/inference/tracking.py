"""Tell which things of a video's frame are those of the frame before: by masks, by how they move, and by color.

    tracker = Tracker()
    for image, segmentation in ...:                      # each frame and its `inference.segmentation.Segmentation`
        segmentation = tracker.update(segmentation, image)  # the same with a track_id for each segment

Four rounds match things to tracks. Each takes the best assignment of what the rounds before have left:
1. masks of one class that overlap;
2. a thing that comes out from behind another, or has jumped, near the place where it should be by now;
3. a thing of the same color, farther from that place;
4. masks of two classes that overlap well, for models that waver between classes.
Without images the color does not count. Stuff of one class is one track.

No tracking library is used. supervision has moved its tracker to `trackers`, which matches boxes and depends on the
OpenCV with a display, and that cannot be installed beside the one without.
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

# A track without a thing for this many frames is dropped: a thing that comes back later gets a new one.
MAX_MISSED = 30
_MIN_OVERLAP = 0.1  # intersection over union of a moved mask and one of the same class
_MIN_OVERLAP_OF_CLASSES = 0.5  # ... of another class
_MIN_NEARNESS = 0.4
# Share of the whole that must be seen for the outline to tell how the thing moves, rather than what covers it.
_WHOLE = 0.85
_SHRINKING = 0.98  # per frame, of the whole's size: a thing that stays smaller is smaller
_MAX_PIXELS = 2048  # of a thing, that its color is taken from
_NEW_COLOR = 0.1  # share of a frame's color in the track's
_COLOR_SPREAD = 60.0  # levels of 255, between two colors that may still be of one thing
_UNALIKE = 0.4  # weight of a match by place where the colors differ
_MIN_SAME_COLOR = 0.25  # least likeness of color for a match without a mask in its place ...
_REACH = 2.0  # ... up to this many of its lengths from where it was or should be
_INERTIA = 0.6  # share of the old velocity in the new one


@dataclass
class _Shape:
    """A mask cut to its box: bool (h, w), its top left pixel at x, y."""

    x: float
    y: float
    mask: NDArray[np.bool_]

    @property
    def area(self) -> int:
        return cv2.countNonZero(self.mask.view(np.uint8))

    @property
    def center(self) -> NDArray[np.float64]:
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
    color: NDArray[np.float64] | None  # a running mean
    seen: _Shape  # as it was seen last, moved on since
    seen_area: int
    whole: _Shape  # as it was when it was last seen whole, moved on since
    whole_area: float
    length: float  # px, the longest side of its box, shrinking slowly
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

    def take(self, thing: _Thing) -> None:
        """`thing` is the track's in this frame, where `move_on` expected `whole`."""
        shape, area = thing.shape, thing.area
        if area >= _WHOLE * self.whole_area:
            error = (shape.center - self.whole.center) / self.missed
            self.velocity = self.velocity + (1.0 if self.is_new else 1 - _INERTIA) * error
            self.whole, self.whole_area, self.is_new = shape, area, False
        self.seen, self.seen_area, self.key, self.missed = shape, area, thing.key, 0
        self.length = max(self.length, *shape.mask.shape)
        if self.color is not None and thing.color is not None:
            self.color = (1 - _NEW_COLOR) * self.color + _NEW_COLOR * thing.color


class Tracker:
    """Gives each segment of a video's frames a number, the same in all of them. Memory does not grow with their number.

    max_missed: frames without its thing after which a track is dropped.
    """

    def __init__(self, max_missed: int = MAX_MISSED):
        self.max_missed = max_missed
        self._tracks: list[_Track] = []
        self._stuff: dict[int, int] = {}
        self._ids = itertools.count(1)

    def update(self, segmentation: Segmentation, image: NDArray[np.uint8] | None = None) -> Segmentation:
        """The next frame's segments with their track ids, from 1. A semantic segmentation, which has no things, stays.

        image: the frame, RGB (H, W, 3). Without it place and class alone tell things apart.
        """
        if segmentation.task == "semantic":
            return segmentation
        track_ids: list[int | None] = [None] * len(segmentation.segments)
        things: dict[int, _Thing] = {}  # by place in `segments`
        for place, segment in enumerate(segmentation.segments):
            if not segment.is_thing:
                if segment.color_key not in self._stuff:
                    self._stuff[segment.color_key] = next(self._ids)
                track_ids[place] = self._stuff[segment.color_key]
            elif (shape := _shape(segmentation, place)) is not None:
                color = None if image is None else _mean_color(image, shape)
                things[place] = _Thing(segment.color_key, shape, shape.area, color)
        for place, track in zip(things, self._follow(list(things.values())), strict=True):
            track_ids[place] = track.id
        return segmentation.tracked(track_ids)

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
            track.take(things[i])
        self._tracks = [track for track in self._tracks if track.missed <= self.max_missed]
        for i, thing in enumerate(things):
            if i not in track_of:
                track_of[i] = _Track.of(thing, next(self._ids))
                self._tracks.append(track_of[i])
        return [track_of[i] for i in range(len(things))]


def _shape(segmentation: Segmentation, place: int) -> _Shape | None:
    """A thing's pixels, all of its box where only that is known; None if it has none."""
    segment = segmentation.segments[place]
    x0, y0, x1, y1 = (round(side) for side in segment.box)
    x0, y0 = max(0, x0), max(0, y0)
    if x1 <= x0 or y1 <= y0:
        return None
    if not segmentation.has_masks:
        return _Shape(x0, y0, np.ones((y1 - y0, x1 - x0), dtype=bool))
    part = (slice(y0, y1), slice(x0, x1))
    if segmentation.masks is None:
        mask = segmentation.index_map[part] == place + 1
    else:
        mask = np.ascontiguousarray(segmentation.masks[place][part])
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
    """In [0, 1], 1 for the same color; None if one is not known."""
    if track.color is None or thing.color is None:
        return None
    return float(np.exp(-((track.color - thing.color) ** 2).sum() / _COLOR_SPREAD**2))


def _weight(track: _Track, thing: _Thing) -> float:
    """In [_UNALIKE, 1]: the weight that the colors leave to a match by place."""
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
    distance = float(np.linalg.norm(thing.shape.center - track.whole.center))
    return max(inside, 1 - distance / (2 * np.sqrt(thing.area)))


def _nearness_by_color(track: _Track, thing: _Thing) -> float:
    """In [0, 1]: how near a thing of the same color is to where the track's was or should be by now."""
    same = _same_color(track, thing)
    if same is None or same < _MIN_SAME_COLOR:
        return 0.0
    distance = min(np.linalg.norm(thing.shape.center - old.center) for old in (track.seen, track.whole))
    return max(0.0, 1 - float(distance) / (_REACH * track.length))


# How alike a track and a thing are in [0, 1], whether they must be of one class (or of two), the least that counts.
_ROUNDS: list[tuple[Callable[[_Track, _Thing], float], bool, float]] = [
    (_overlap, True, _MIN_OVERLAP),
    (_nearness, True, _MIN_NEARNESS),
    (_nearness_by_color, True, 0.0),
    (_overlap, False, _MIN_OVERLAP_OF_CLASSES),
]
