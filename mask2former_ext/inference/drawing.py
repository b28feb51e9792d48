"""Draw segmentations over images: outlined translucent masks with names and scores that can be read.

Shapes: H, W pixels of the image; K classes; N segments. Images are RGB uint8 (H, W, 3). The picture has the size of the
image. Where it is asked for, one whose short side is below `READABLE_SIDE` pixels is enlarged by a whole factor first,
so that more text fits into it, though not beyond `LONGEST_SIDE`; `enlarge` does the same to the plain image.

Masks are painted by way of one map of what lies on top at each pixel: the time does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Literal, get_args

import cv2
import numpy as np
import supervision as sv
import torch
from detectron2.structures import Instances
from numpy.typing import NDArray

from mask2former_ext.classes import ClassTable, Color
from mask2former_ext.data.image_io import read_panoptic
from mask2former_ext.data.targets.masks import panoptic_ids
from mask2former_ext.inference.colors import color_of
from mask2former_ext.inference.label_places import Box, apart, label_centers, worth_naming
from mask2former_ext.inference.regions import without_specks
from mask2former_ext.inference.segmentation import (
    UNLABELED,
    Segment,
    Segmentation,
    class_map_segmentation,
    instance_segmentation,
    panoptic_segmentation,
)
from mask2former_ext.inference.texts import PADDING, font_size, text_sizes
from mask2former_ext.inference.texts import write as _write

__all__ = [
    "UNLABELED",
    "Colors",
    "draw",
    "draw_instances",
    "draw_panoptic",
    "draw_semantic",
    "enlarge",
    "panoptic_truth",
    "segment_colors",
    "side_by_side",
]

READABLE_SIDE = 400
LONGEST_SIDE = 4000  # of a thin image, whose short side alone would need more
DEFAULT_ALPHA = 0.5
SMALL = 0.01  # of a picture: names do not hide what is smaller
COVERED_WHERE_TOLD = 0.25  # of a segment: what its name may cover where its color says the same

NUM_INSTANCE_COLORS = 16  # beyond them colors repeat; names differ

Image = NDArray[np.uint8]
ColorBy = Literal["class", "instance"]
Legend = Literal["names", "below", "inside"]


class Colors:
    """Which color each track has, kept over the frames of a video.

    A newcomer gets its own of `NUM_INSTANCE_COLORS` (number modulo 16), or the next that nobody has had, else the next
    that nobody has in the picture. The last `REMEMBERED` are remembered.
    """

    REMEMBERED = 1024

    def __init__(self) -> None:
        self._slot_of: dict[Any, int] = {}

    def slots(self, keys: Sequence[int]) -> NDArray[np.int64]:
        """Places (N) among the colors of the tracks `keys` (N) of one picture."""
        size = NUM_INSTANCE_COLORS
        shown = {self._slot_of[key] for key in keys if key in self._slot_of}
        for key in sorted(set(keys)):
            if key not in self._slot_of:
                turns = [(key + step) % size for step in range(size)]
                ever = set(self._slot_of.values())
                free = [t for t in turns if t not in ever] or [t for t in turns if t not in shown] or turns
                self._slot_of[key] = free[0]
                shown.add(free[0])
            self._slot_of[key] = self._slot_of.pop(key)  # now the one used last
        while len(self._slot_of) > max(self.REMEMBERED, len(set(keys))):
            del self._slot_of[next(iter(self._slot_of))]
        return np.array([self._slot_of[key] for key in keys], dtype=np.int64)


def draw(
    image: Image,
    segmentation: Segmentation,
    *,
    alpha: float = DEFAULT_ALPHA,
    color_by: ColorBy | None = None,
    colors: Colors | None = None,
    legend: Legend = "names",
    keep_size: bool = True,
) -> Image:
    """The image with its segments drawn over it: a new picture of the same size, unless that is given up below.

    alpha: opacity of the masks, from 0 (outlines alone) to 1. color_by: "class", or "instance" (which is the track in
    a video), for things; None: instances by instance, all else by class. colors: those of the frames before.
    legend: of a semantic picture: "names" stand in their regions; "inside", in its corner; "below", in a strip that
    is added, each with its share of the pixels. keep_size: False makes a small image larger (see `enlarge`).
    Raises ValueError if `segmentation` is of another size than the image.
    """
    if not (isinstance(alpha, Real) and 0 <= alpha <= 1):
        raise ValueError(f"alpha is {alpha!r}, but must lie in [0, 1]")
    if legend not in get_args(Legend):
        raise ValueError(f"legend is {legend!r}, but must be one of {', '.join(get_args(Legend))}")
    if segmentation.size != image.shape[:2]:
        raise ValueError(f"a mask of {segmentation.size} pixels cannot be drawn on an image of {image.shape[:2]}")
    drawn_in = _colors(segmentation, color_by, colors or Colors())
    picture = np.array(image) if keep_size else enlarge(image)
    if not segmentation.has_masks:
        return _draw_boxes(picture, segmentation, drawn_in)
    boxes = [segment.box for segment in segmentation.segments]
    least = (5 * _line_width(picture) / _scale(picture, segmentation)) ** 2
    solid, largest = without_specks(segmentation.index_map, boxes, least)
    picture = _paint(picture, segmentation.index_map, solid, drawn_in, alpha)
    if segmentation.task == "semantic" and legend != "names":
        return _add_legend(picture, segmentation, drawn_in, legend)
    return _name_segments(picture, segmentation, largest, drawn_in)


def segment_colors(segmentation: Segmentation, color_by: ColorBy | None = None) -> list[str]:
    """The color of each segment as `draw` paints it, as "#rrggbb"."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in _colors(segmentation, color_by, Colors())]


def draw_semantic(image: Image, class_map: NDArray[np.integer], table: ClassTable | None, **options: Any) -> Image:
    """Color each pixel by its class and add, below the picture, a legend of the classes present.

    `table` names the classes, here and below; without one numbers are shown. `options`: those of `draw`.

    `class_map` (H, W) holds contiguous classes and UNLABELED, which stays uncolored. The legend gives each class's
    share of the pixels, largest first.
    """
    segmentation = class_map_segmentation(class_map, table, int(class_map.max(initial=0)) + 1)
    return draw(image, segmentation, **options)


def draw_instances(
    image: Image,
    instances: Instances,
    table: ClassTable | None,
    *,
    min_score: float = 0.5,
    color_by: ColorBy = "instance",
    **options: Any,
) -> Image:
    """Draw the instances that score at least `min_score`, each with its name and score.

    `instances` needs pred_classes, scores and pred_masks (N, H, W), or pred_boxes if it has no masks: then these are
    drawn. Where masks overlap the smaller one lies on top.
    """
    return draw(image, instance_segmentation(instances, table, min_score), color_by=color_by, **options)


def draw_panoptic(
    image: Image,
    panoptic_seg: tuple[torch.Tensor | NDArray[np.integer], Sequence[Mapping[str, Any]]],
    table: ClassTable | None,
    *,
    color_by: ColorBy = "class",
    **options: Any,
) -> Image:
    """Draw each segment with its name and, where it has one, its score.

    `panoptic_seg` is what a model returns under that name: ids (H, W), 0 where nothing, and segments with id,
    category_id (contiguous), optionally isthing and score.
    """
    return draw(image, panoptic_segmentation(panoptic_seg, table), color_by=color_by, **options)


def panoptic_truth(record: Mapping[str, Any]) -> tuple[NDArray[np.int32], list[dict[str, Any]]]:
    """The truth of a panoptic data set's record in the form that `draw_panoptic` takes."""
    return panoptic_ids(read_panoptic(record["pan_seg_file_name"])), record["segments_info"]


def side_by_side(pictures: Mapping[str, Image]) -> Image:
    """The pictures in a row, each with its name in its corner; shorter ones are filled up with white below."""
    height = max(picture.shape[0] for picture in pictures.values())
    columns = []
    for name, picture in pictures.items():
        titled = _write(picture.copy(), [name], [(0.0, 0.0)], [(255, 255, 255)])
        columns.append(np.pad(titled, ((0, height - len(titled)), (0, 0), (0, 0)), constant_values=255))
    return np.concatenate(columns, axis=1)


def enlarge(image: Image) -> Image:
    """The image at the size at which it is drawn on."""
    factor = _factor(image.shape)
    if factor == 1:
        return np.ascontiguousarray(image)
    size = (image.shape[1] * factor, image.shape[0] * factor)
    larger = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(larger, dtype=np.uint8)


def _factor(shape: Sequence[int]) -> int:
    return max(1, min(-(-READABLE_SIDE // min(shape[:2])), LONGEST_SIDE // max(shape[:2])))


def _scale(picture: Image, segmentation: Segmentation) -> int:
    """How much larger the picture is than the segmentation."""
    return picture.shape[0] // segmentation.size[0]


def _colors(segmentation: Segmentation, color_by: ColorBy | None, colors: Colors) -> list[Color]:
    """The color of each segment."""
    if color_by not in (None, "class", "instance"):
        raise ValueError(f"color_by is '{color_by}', but must be 'class' or 'instance'")
    if color_by is None:
        color_by = "instance" if segmentation.task == "instance" else "class"
    chosen = [segment.color for segment in segmentation.segments]
    if color_by == "instance":
        things = [place for place, segment in enumerate(segmentation.segments) if segment.is_thing]
        tracks = [segmentation.segments[place].track_id for place in things]
        keys = [place if track is None else track - 1 for place, track in zip(things, tracks, strict=True)]
        for place, slot in zip(things, colors.slots(keys), strict=True):
            chosen[place] = color_of(None, int(slot))
    return chosen


def _paint(
    picture: Image, index_map: NDArray[Any], solid: NDArray[Any], colors: Sequence[Color], alpha: float
) -> Image:
    """A copy with each place of the map, enlarged to the picture, filled with its color, its outline unmixed.

    `solid` (H, W): the map whose places are outlined.
    """
    drawn = picture.copy()
    if len(colors) == 0:
        return drawn
    if picture.shape[:2] != index_map.shape:
        size = (picture.shape[1], picture.shape[0])
        index_map, solid = (
            np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_NEAREST)) for one in (index_map, solid)
        )
    table = np.zeros((max(256, len(colors) + 1), 3), dtype=np.uint8)
    table[1 : len(colors) + 1] = colors
    paint = cv2.applyColorMap(index_map, table[:, None]) if index_map.dtype == np.uint8 else table[index_map]
    filled = (index_map > 0).view(np.uint8)
    cv2.copyTo(cv2.addWeighted(paint, alpha, picture, 1 - alpha, 0), filled, drawn)
    cv2.copyTo(paint, _rim(solid, _line_width(picture)) & filled, drawn)
    return drawn


def _rim(index_map: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """1 at the pixels (H, W) of every place that lie within `width` of another place or of nothing, else 0."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    differs = cv2.dilate(index_map, kernel) != cv2.erode(index_map, kernel)
    return np.asarray(differs & (index_map > 0)).view(np.uint8)


def _draw_boxes(picture: Image, segmentation: Segmentation, colors: Sequence[Color]) -> Image:
    """A copy with each segment's box outlined and its name over it."""
    segments = segmentation.segments
    if len(segments) == 0:
        return picture.copy()
    xyxy = np.array([segment.box for segment in segments]) * float(_scale(picture, segmentation))
    palette = sv.ColorPalette([sv.Color(*color) for color in colors])
    boxes = sv.Detections(xyxy=xyxy, class_id=np.arange(len(segments)))
    bgr = np.ascontiguousarray(picture[..., ::-1])  # supervision draws in OpenCV's order
    outlined = sv.BoxAnnotator(palette, thickness=_line_width(picture)).annotate(bgr, boxes)
    texts = [_text(segment) for segment in segments]
    sizes = text_sizes(texts, font_size(picture))
    corners = [(x, max(0.0, y - height)) for (x, y), (_, height) in zip(xyxy[:, :2].tolist(), sizes, strict=True)]
    centers = [(x + width / 2, y + height / 2) for (x, y), (width, height) in zip(corners, sizes, strict=True)]
    kept = apart(centers, sizes)
    named = [texts[place] for place in kept], [corners[place] for place in kept], [colors[place] for place in kept]
    return _write(np.ascontiguousarray(outlined[..., ::-1]), *named)


def _text(segment: Segment) -> str:
    score = "" if segment.score is None else f" {segment.score:.2f}"
    number = f" #{segment.track_id}" if segment.is_thing and segment.track_id is not None else ""
    return f"{segment.name}{number}{score}"


def _name_segments(picture: Image, segmentation: Segmentation, boxes: Sequence[Box], colors: Sequence[Color]) -> Image:
    """Write segments' names and scores where they can be read and hide little (see `label_places`).

    `boxes`: that of each segment's largest region.
    """
    segments, index_map, factor = segmentation.segments, segmentation.index_map, _scale(picture, segmentation)
    if segmentation.masks is None:
        seen = [segment.area or 0 for segment in segments]
    else:
        seen = np.bincount(index_map.ravel(), minlength=len(segments) + 1)[1:].tolist()
    texts = [_text(segment) for segment in segments]
    sizes = [(width / factor, height / factor) for width, height in text_sizes(texts, font_size(picture))]
    is_told = all(s.color == color and s.track_id is None for s, color in zip(segments, colors, strict=True))
    most = COVERED_WHERE_TOLD if is_told else math.inf
    named = worth_naming([segment.name for segment in segments], seen, sizes, index_map.size, most)
    if not named:
        return picture
    is_small = [area < SMALL * index_map.size for area in seen]
    kept = np.array([0, *(s.is_thing or small for s, small in zip(segments, is_small, strict=True))], dtype=np.uint8)
    numbers = np.zeros(len(segments) + 1, dtype=index_map.dtype)
    numbers[[place + 1 for place in named]] = np.arange(1, len(named) + 1)
    centers = label_centers(
        _look_up(numbers, index_map),
        [boxes[place] for place in named],
        [sizes[place] for place in named],
        _look_up(kept, index_map) > 0,
    )
    written = [(place, x, y) for place, (x, y) in zip(named, centers.tolist(), strict=True) if x == x]
    corners = [(factor * (x - sizes[p][0] / 2), factor * (y - sizes[p][1] / 2)) for p, x, y in written]
    return _write(picture, [texts[p] for p, *_ in written], corners, [colors[p] for p, *_ in written])


def _look_up(table: NDArray[Any], index_map: NDArray[Any]) -> NDArray[Any]:
    """`table[index_map]`, which takes OpenCV a tenth of the time where both have 8 bits."""
    if index_map.dtype != np.uint8 or table.dtype != np.uint8:
        return table[index_map]
    return np.asarray(cv2.LUT(index_map, np.pad(table, (0, 256 - len(table)))))


def _line_width(picture: Image) -> int:
    return max(1, round(min(picture.shape[:2]) / 300))


def _add_legend(picture: Image, segmentation: Segmentation, colors: Sequence[Color], legend: Legend) -> Image:
    """The names of the classes on grounds of their colors: in a white strip below, or in the corner of the picture."""
    if not segmentation.segments:
        return picture
    if legend == "inside":
        return _add_names(picture, segmentation, colors)
    order = sorted(range(len(segmentation.segments)), key=lambda place: -(segmentation.segments[place].area or 0))
    pixels = segmentation.size[0] * segmentation.size[1]
    ordered = [segmentation.segments[place] for place in order]
    entries = [f"{segment.name} {_share(segment.area or 0, pixels)}" for segment in ordered]
    size = font_size(picture)
    row_height, column_width = size + 4 * PADDING, int(size * (0.62 * max(map(len, entries)) + 1.5))
    columns = max(1, picture.shape[1] // column_width)
    rows = -(-len(entries) // columns)
    strip = np.full((rows * row_height + 2 * PADDING, picture.shape[1], 3), 255, dtype=np.uint8)
    edge = 2 * PADDING
    corners = [(edge + i % columns * column_width, edge + i // columns * row_height) for i in range(len(entries))]
    return np.concatenate([picture, _write(strip, entries, corners, [colors[place] for place in order])])


def _share(area: int, pixels: int) -> str:
    share = 100 * area / pixels
    return f"{share:.0f}%" if share >= 1 else "<1%"


def _add_names(picture: Image, segmentation: Segmentation, colors: Sequence[Color]) -> Image:
    """The names, by class, from the lower left corner upward, as far as they fit."""
    names = [segment.name for segment in segmentation.segments]
    row_height = max(height for _, height in text_sizes(names, font_size(picture))) + PADDING
    fitting = names[: int(picture.shape[0] // row_height)]
    corners = [(0.0, picture.shape[0] - (len(fitting) - i) * row_height) for i in range(len(fitting))]
    return _write(picture, fitting, corners, colors[: len(fitting)])
