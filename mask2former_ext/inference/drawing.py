"""Draw segmentations over images: outlined translucent masks with names and scores that can be read.

Shapes: H, W pixels of the image; K classes; N segments. Images are RGB uint8 (H, W, 3). A picture whose short side is
below `READABLE_SIDE` pixels is enlarged by a whole factor first, so that text fits into it, though not beyond
`LONGEST_SIDE`; `enlarge` does the same to the plain image.

Masks are painted by way of one map of what lies on top at each pixel: the time does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import supervision as sv
import torch
from detectron2.structures import Instances
from numpy.typing import NDArray
from PIL import Image as PillowImage

from mask2former_ext.classes import ClassTable
from mask2former_ext.data.image_io import read_panoptic
from mask2former_ext.data.targets.masks import panoptic_ids
from mask2former_ext.inference.label_places import label_centers
from mask2former_ext.inference.segmentation import (
    UNLABELED,
    Segment,
    Segmentation,
    class_map_segmentation,
    instance_segmentation,
    panoptic_segmentation,
)

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

# Okabe and Ito's colors (jfly.uni-koeln.de/color), then Paul Tol's muted scheme (sronpersonalpages.nl/~pault). People
# with any kind of color vision distinguish them. A picture of more than 16 classes repeats some; the names differ.
_PALETTE = sv.ColorPalette.from_hex(
    "#E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7 #332288"
    " #88CCEE #117733 #DDCC77 #882255 #44AA99 #CC6677 #999933 #AA4499".split()
)
_RGB = np.array([color.as_rgb() for color in _PALETTE.colors], dtype=np.uint8)
_DARK, _LIGHT = sv.Color(r=0, g=0, b=0), sv.Color(r=255, g=255, b=255)
_TEXT_COLORS = sv.ColorPalette(
    [_DARK if 299 * c.r + 587 * c.g + 114 * c.b > 128_000 else _LIGHT for c in _PALETTE.colors]
)
_GROUNDS = sv.ColorPalette([*_PALETTE.colors, _LIGHT])
_TITLE = len(_PALETTE.colors)  # place of white, behind the palette's own: the ground of what names no segment
_LABEL_PADDING = 3

Image = NDArray[np.uint8]
ColorBy = Literal["class", "instance"]
Legend = Literal["below", "inside"]


class Colors:
    """Which color of the palette each class or each track has, kept over the frames of a video.

    A newcomer gets its own place (number modulo 16), or the next that nobody has had, else the next that nobody has in
    the picture. The last `REMEMBERED` are remembered.
    """

    REMEMBERED = 1024

    def __init__(self) -> None:
        self._slot_of: dict[Any, int] = {}

    def slots(self, keys: Sequence[int]) -> NDArray[np.int64]:
        """Places in the palette (N) of the classes or tracks `keys` (N) of one picture."""
        size = len(_RGB)
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
    legend: Legend = "below",
    keep_size: bool = False,
) -> Image:
    """The image with its segments drawn over it: a new picture, enlarged if the image is small, unless `keep_size`.

    alpha: opacity of the masks, from 0 (outlines alone) to 1. color_by: "class", or "instance" (which is the track in
    a video); None: instances by instance, all else by class. colors: those of the frames before. legend: a semantic
    picture names its classes in a strip below it, with each one's share of the pixels, or in its corner, which leaves
    its size as it is.
    Raises ValueError if `segmentation` is of another size than the image.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, but must lie in [0, 1]")
    if segmentation.size != image.shape[:2]:
        raise ValueError(f"a mask of {segmentation.size} pixels cannot be drawn on an image of {image.shape[:2]}")
    slots = (colors or Colors()).slots(_color_keys(segmentation, color_by))
    picture = np.array(image) if keep_size else enlarge(image)
    if not segmentation.has_masks:
        return _draw_boxes(picture, segmentation, slots)
    picture = _paint(picture, segmentation.index_map, slots, alpha)
    if segmentation.task == "semantic":
        return _add_legend(picture, segmentation, slots, legend)
    return _name_segments(picture, segmentation, slots)


def segment_colors(segmentation: Segmentation, color_by: ColorBy | None = None) -> list[str]:
    """The color of each segment as `draw` paints it, as "#rrggbb"."""
    slots = Colors().slots(_color_keys(segmentation, color_by))
    return [_PALETTE.by_idx(int(slot)).as_hex() for slot in slots]


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
        titled = _write(picture.copy(), [name], [(0.0, 0.0)], [_TITLE])
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


def _color_keys(segmentation: Segmentation, color_by: ColorBy | None) -> list[int]:
    if color_by not in (None, "class", "instance"):
        raise ValueError(f"color_by is '{color_by}', but must be 'class' or 'instance'")
    if color_by is None:
        color_by = "instance" if segmentation.task == "instance" else "class"
    if color_by == "class" or segmentation.task == "semantic":
        return [segment.color_key for segment in segmentation.segments]
    return [place if s.track_id is None else s.track_id - 1 for place, s in enumerate(segmentation.segments)]


def _paint(picture: Image, index_map: NDArray[Any], slots: NDArray[np.integer], alpha: float) -> Image:
    """A copy with each place of the map, enlarged to the picture, filled with its color, its outline unmixed."""
    drawn = picture.copy()
    if len(slots) == 0:
        return drawn
    if picture.shape[:2] != index_map.shape:
        size = (picture.shape[1], picture.shape[0])
        index_map = np.asarray(cv2.resize(index_map, size, interpolation=cv2.INTER_NEAREST))
    table = np.zeros((max(256, len(slots) + 1), 3), dtype=np.uint8)
    table[1 : len(slots) + 1] = _RGB[slots]
    paint = cv2.applyColorMap(index_map, table[:, None]) if index_map.dtype == np.uint8 else table[index_map]
    cv2.copyTo(cv2.addWeighted(paint, alpha, picture, 1 - alpha, 0), (index_map > 0).view(np.uint8), drawn)
    cv2.copyTo(paint, _rim(index_map, _line_width(picture)), drawn)
    return drawn


def _rim(index_map: NDArray[Any], width: int) -> NDArray[np.uint8]:
    """1 at the pixels (H, W) of every place that lie within `width` of another place or of nothing, else 0."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    differs = cv2.dilate(index_map, kernel) != cv2.erode(index_map, kernel)
    return np.asarray(differs & (index_map > 0)).view(np.uint8)


def _draw_boxes(picture: Image, segmentation: Segmentation, slots: NDArray[np.integer]) -> Image:
    """A copy with each segment's box outlined and its name over it."""
    segments = segmentation.segments
    if len(segments) == 0:
        return picture.copy()
    xyxy = np.array([segment.box for segment in segments]) * float(_scale(picture, segmentation))
    boxes = sv.Detections(xyxy=xyxy, class_id=slots)
    bgr = np.ascontiguousarray(picture[..., ::-1])  # supervision draws in OpenCV's order
    outlined = sv.BoxAnnotator(_PALETTE, thickness=_line_width(picture)).annotate(bgr, boxes)
    texts = [_text(segment) for segment in segments]
    sizes = _text_sizes(texts, _font_size(picture))
    corners = [(x, max(0.0, y - height)) for (x, y), (_, height) in zip(xyxy[:, :2].tolist(), sizes, strict=True)]
    return _write(np.ascontiguousarray(outlined[..., ::-1]), texts, corners, slots)


def _text(segment: Segment) -> str:
    score = "" if segment.score is None else f" {segment.score:.2f}"
    number = f" #{segment.track_id}" if segment.is_thing and segment.track_id is not None else ""
    return f"{segment.name}{number}{score}"


def _name_segments(picture: Image, segmentation: Segmentation, slots: NDArray[np.integer]) -> Image:
    """Write each segment's name and score where they can be read."""
    shown = [place for place, segment in enumerate(segmentation.segments) if segment.area]
    if not shown:
        return picture
    factor = _scale(picture, segmentation)
    texts = [_text(segmentation.segments[place]) for place in shown]
    sizes = _text_sizes(texts, _font_size(picture))
    index_map = segmentation.index_map
    if len(shown) < len(segmentation.segments):
        table = np.zeros(len(segmentation.segments) + 1, dtype=index_map.dtype)
        table[[place + 1 for place in shown]] = np.arange(1, len(shown) + 1)
        index_map = table[index_map]
    boxes = [segmentation.segments[place].box for place in shown]
    centers = factor * label_centers(index_map, boxes, [(w / factor, h / factor) for w, h in sizes])
    corners = [(x - w / 2, y - h / 2) for (x, y), (w, h) in zip(centers.tolist(), sizes, strict=True)]
    return _write(picture, texts, corners, slots[shown])


def _write(
    picture: Image, texts: Sequence[str], corners: Sequence[tuple[float, float]], slots: Sequence[int] | NDArray[Any]
) -> Image:
    """Write each text, its top left corner given, on a ground of its color, in black or white, into the picture."""
    size, (height, width) = _font_size(picture), picture.shape[:2]
    for text, (left, top), slot in zip(texts, corners, slots, strict=True):
        label = _label(text, int(slot), size)
        x, y = max(0, min(round(left), width - label.shape[1])), max(0, min(round(top), height - label.shape[0]))
        label = label[:height, :width]
        picture[y : y + label.shape[0], x : x + label.shape[1]] = label
    return picture


@lru_cache(maxsize=4096)
def _label(text: str, slot: int, font_size: int) -> Image:
    """A text on its ground. It is cached: writing twenty texts takes longer than drawing all the rest of a frame."""
    ground = PillowImage.new("RGB", _text_size(text, font_size), _GROUNDS.by_idx(slot).as_rgb())
    # BOTTOM_LEFT puts a text below the box's bottom left corner.
    place = sv.Detections(xyxy=np.zeros((1, 4)), class_id=np.array([slot]))
    return np.array(_label_annotator(font_size).annotate(ground, place, labels=[text]))


@lru_cache(maxsize=8)
def _label_annotator(font_size: int) -> sv.RichLabelAnnotator:
    return sv.RichLabelAnnotator(
        _GROUNDS,
        text_color=sv.ColorPalette([*_TEXT_COLORS.colors, _DARK]),
        font_size=font_size,
        text_padding=_LABEL_PADDING,
        text_position=sv.Position.BOTTOM_LEFT,
    )


def _text_size(text: str, font_size: int) -> tuple[int, int]:
    """(width, height) px of a text on its ground; the height does not depend on the text."""
    font = _label_annotator(font_size).font
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Tg")
    return int(right - left) + 2 * _LABEL_PADDING, int(bottom - top) + 2 * _LABEL_PADDING


def _text_sizes(texts: Sequence[str], font_size: int) -> list[tuple[int, int]]:
    return [_text_size(text, font_size) for text in texts]


def _line_width(picture: Image) -> int:
    return max(1, round(min(picture.shape[:2]) / 300))


def _font_size(picture: Image) -> int:
    return max(12, round(picture.shape[1] / 70))


def _add_legend(picture: Image, segmentation: Segmentation, slots: NDArray[np.integer], legend: Legend) -> Image:
    """The names of the classes on grounds of their colors: in a white strip below, or in the corner of the picture."""
    if not segmentation.segments:
        return picture
    if legend == "inside":
        return _add_names(picture, segmentation, slots)
    order = sorted(range(len(segmentation.segments)), key=lambda place: -(segmentation.segments[place].area or 0))
    pixels = segmentation.size[0] * segmentation.size[1]
    ordered = [segmentation.segments[place] for place in order]
    entries = [f"{segment.name} {_share(segment.area or 0, pixels)}" for segment in ordered]
    size = _font_size(picture)
    row_height, column_width = size + 4 * _LABEL_PADDING, int(size * (0.62 * max(map(len, entries)) + 1.5))
    columns = max(1, picture.shape[1] // column_width)
    rows = -(-len(entries) // columns)
    strip = np.full((rows * row_height + 2 * _LABEL_PADDING, picture.shape[1], 3), 255, dtype=np.uint8)
    edge = 2 * _LABEL_PADDING
    corners = [(edge + i % columns * column_width, edge + i // columns * row_height) for i in range(len(entries))]
    return np.concatenate([picture, _write(strip, entries, corners, slots[order])])


def _share(area: int, pixels: int) -> str:
    share = 100 * area / pixels
    return f"{share:.0f}%" if share >= 1 else "<1%"


def _add_names(picture: Image, segmentation: Segmentation, slots: NDArray[np.integer]) -> Image:
    """The names, by class, from the lower left corner upward, as far as they fit."""
    names = [segment.name for segment in segmentation.segments]
    row_height = max(height for _, height in _text_sizes(names, _font_size(picture))) + _LABEL_PADDING
    fitting = names[: int(picture.shape[0] // row_height)]
    corners = [(0.0, picture.shape[0] - (len(fitting) - i) * row_height) for i in range(len(fitting))]
    return _write(picture, fitting, corners, slots[: len(fitting)])
