"""Draw segmentations over images: outlined translucent masks with names and scores that can be read.

Shapes: H, W pixels of the image; K classes; N instances. Images are RGB uint8 (H, W, 3). A picture whose short side is
below `READABLE_SIDE` pixels is enlarged by a whole factor first, so that text fits into it; `enlarge` does the same
to the plain image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np
import supervision as sv
import torch
from detectron2.structures import Instances
from numpy.typing import NDArray

from mask2former_ext.data.datasets import thing_names
from mask2former_ext.data.image_io import read_panoptic
from mask2former_ext.data.separated import is_separated
from mask2former_ext.data.targets import panoptic_ids

READABLE_SIDE = 400
UNLABELLED = -1

# Okabe and Ito's colours (jfly.uni-koeln.de/color), then Paul Tol's muted scheme (sronpersonalpages.nl/~pault): made to
# be told apart with any kind of colour vision. A picture of more than 16 classes repeats some; names tell those apart.
_PALETTE = sv.ColorPalette.from_hex(
    "#E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7 #332288"
    " #88CCEE #117733 #DDCC77 #882255 #44AA99 #CC6677 #999933 #AA4499".split()
)
_DARK, _LIGHT = sv.Color(r=0, g=0, b=0), sv.Color(r=255, g=255, b=255)
_TEXT_COLOURS = sv.ColorPalette(
    [_DARK if 299 * c.r + 587 * c.g + 114 * c.b > 128_000 else _LIGHT for c in _PALETTE.colors]
)
_OPACITY = 0.5
_LABEL_PADDING = 3

Image = NDArray[np.uint8]
ColorBy = Literal["class", "instance"]


def draw_semantic(image: Image, class_map: NDArray[np.integer], metadata: Any) -> Image:
    """Colour each pixel by its class and add, below the picture, a legend of the classes present.

    `class_map` (H, W) holds contiguous classes and UNLABELLED, which stays uncoloured. The legend gives each class's
    share of the pixels, largest first.
    """
    classes, areas = np.unique(class_map[class_map != UNLABELLED], return_counts=True)
    order = np.argsort(-areas, kind="stable")
    classes, areas = classes[order], areas[order]
    masks = _stack([class_map == k for k in classes], image)
    colours = _colour_slots(classes)
    picture = _draw_masks(image, masks, colours)
    shares = [f"{share:.0f}%" if share >= 1 else "<1%" for share in 100 * areas / class_map.size]
    entries = [f"{class_name(metadata, k)} {share}" for k, share in zip(classes.tolist(), shares, strict=True)]
    return _add_legend(picture, entries, colours)


def draw_instances(
    image: Image, instances: Instances, metadata: Any, *, min_score: float = 0.5, color_by: ColorBy = "instance"
) -> Image:
    """Draw the instances that score at least `min_score`, each with its name and score.

    `instances` needs pred_classes, scores and pred_masks (N, H, W), or pred_boxes if it has no masks: then these are
    drawn. Where masks overlap the smaller one lies on top.
    """
    instances = instances.to(torch.device("cpu"))
    kept = instances[instances.scores >= min_score]
    classes = np.asarray(kept.pred_classes, dtype=int)
    texts = [
        f"{class_name(metadata, k, is_thing=True)} {score:.2f}"
        for k, score in zip(classes.tolist(), kept.scores.tolist(), strict=True)
    ]
    if not kept.has("pred_masks"):
        return _draw_boxes(image, kept.pred_boxes.tensor.numpy(), _colours(classes, color_by), texts)
    masks = _stack(list(np.asarray(kept.pred_masks).astype(bool)), image)
    return _draw_labelled(image, masks, _colours(classes, color_by), texts)


def draw_panoptic(
    image: Image,
    panoptic_seg: tuple[torch.Tensor | NDArray[np.integer], Sequence[Mapping[str, Any]]],
    metadata: Any,
    *,
    color_by: ColorBy = "class",
) -> Image:
    """Draw each segment with its name and, where it has one, its score.

    `panoptic_seg` is what a model returns under that name: ids (H, W), 0 where nothing, and segments with id,
    category_id (contiguous), optionally isthing and score.
    """
    ids, segments = panoptic_seg
    ids = np.asarray(torch.as_tensor(ids).cpu())
    # Where things and stuff are numbered apart, stuff takes the colours after those of the things.
    stuff_shift = len(thing_names(metadata)) if metadata is not None and is_separated(metadata) else 0
    classes = [s["category_id"] + (0 if s.get("isthing", False) else stuff_shift) for s in segments]
    masks = _stack([ids == segment["id"] for segment in segments], image)
    texts = []
    for segment in segments:
        score = f" {segment['score']:.2f}" if "score" in segment else ""
        texts.append(class_name(metadata, segment["category_id"], segment.get("isthing", False)) + score)
    return _draw_labelled(image, masks, _colours(np.array(classes, dtype=int), color_by), texts)


def panoptic_truth(record: Mapping[str, Any]) -> tuple[NDArray[np.int32], list[dict[str, Any]]]:
    """The truth of a panoptic data set's record in the form that `draw_panoptic` takes."""
    return panoptic_ids(read_panoptic(record["pan_seg_file_name"])), record["segments_info"]


def enlarge(image: Image) -> Image:
    """The image at the size at which it is drawn on."""
    factor = _factor(image)
    if factor == 1:
        return np.ascontiguousarray(image)
    size = (image.shape[1] * factor, image.shape[0] * factor)
    larger = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(larger, dtype=np.uint8)


def class_name(metadata: Any, k: int, is_thing: bool = False) -> str:
    """Name of contiguous class k, sought among the things first if it is one; its number where `metadata` has none."""
    if metadata is None:
        return f"class {k}"
    names = dict(enumerate(metadata.get("stuff_classes") or metadata.get("thing_classes") or []))
    if is_thing:
        names.update(thing_names(metadata))
    return names.get(k, f"class {k}")


def _stack(masks: list[NDArray[np.bool_]], image: Image) -> NDArray[np.bool_]:
    """Masks of (H, W) -> (N, H, W), also for N = 0. ValueError if they are not of the image's size."""
    height, width = image.shape[:2]
    for mask in masks:
        if mask.shape != (height, width):
            raise ValueError(f"a mask of {mask.shape} pixels cannot be drawn on an image of {(height, width)}")
    return np.stack(masks) if masks else np.zeros((0, height, width), dtype=bool)


def _factor(image: Image) -> int:
    return -(-READABLE_SIDE // min(image.shape[:2]))


def _colour_slots(classes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Classes (N) -> places in the palette (N): a class's own place, or the next that no other class has taken."""
    size = len(_PALETTE.colors)
    slot_of: dict[int, int] = {}
    for k in np.unique(classes).tolist():
        slot = k % size
        while slot in slot_of.values() and len(slot_of) < size:
            slot = (slot + 1) % size
        slot_of[k] = slot
    return np.array([slot_of[k] for k in classes.tolist()], dtype=np.int64)


def _draw_masks(image: Image, masks: NDArray[np.bool_], colours: NDArray[np.integer]) -> Image:
    """Enlarge the image; fill and outline each mask (of the image's own size) in place `colours[i]` of the palette."""
    picture, factor = enlarge(image), _factor(image)
    if len(masks) == 0:
        return picture
    masks = masks.repeat(factor, axis=1).repeat(factor, axis=2)
    detections = sv.Detections(xyxy=sv.mask_to_xyxy(masks).astype(float), mask=masks, class_id=colours)
    bgr = _swap_channels(picture)  # supervision draws in OpenCV's order
    bgr = sv.MaskAnnotator(_PALETTE, opacity=_OPACITY).annotate(bgr, detections)
    outline = sv.PolygonAnnotator(_PALETTE, thickness=_line_width(picture))
    return _swap_channels(outline.annotate(bgr, detections))


def _colours(classes: NDArray[np.integer], color_by: ColorBy) -> NDArray[np.integer]:
    """Classes of N segments -> their places in the palette (N)."""
    if color_by not in ("class", "instance"):
        raise ValueError(f"color_by is '{color_by}', but must be 'class' or 'instance'")
    return _colour_slots(classes) if color_by == "class" else np.arange(len(classes))


def _draw_boxes(image: Image, xyxy: NDArray[np.floating], colours: NDArray[np.integer], texts: list[str]) -> Image:
    """Outline each box (N, 4; x0, y0, x1, y1 in pixels of the image) and write its text over it."""
    picture = enlarge(image)
    if len(xyxy) == 0:
        return picture
    xyxy = xyxy * float(_factor(image))
    boxes = sv.Detections(xyxy=xyxy, class_id=colours)
    outlined = sv.BoxAnnotator(_PALETTE, thickness=_line_width(picture)).annotate(_swap_channels(picture), boxes)
    return _write(_swap_channels(outlined), texts, xyxy, colours, text_position=sv.Position.TOP_LEFT)


def _draw_labelled(image: Image, masks: NDArray[np.bool_], colours: NDArray[np.integer], texts: list[str]) -> Image:
    """Draw the masks and write each text on its mask, moved where it would cover another."""
    picture, factor = _draw_masks(image, masks, colours), _factor(image)
    shown = np.flatnonzero(masks.any(axis=(1, 2)))
    if len(shown) == 0:
        return picture
    places = np.array([_innermost_point(masks[i]) for i in shown], dtype=float) * factor
    return _write(
        picture,
        [texts[i] for i in shown],
        np.concatenate([places, places], axis=1),
        colours[shown],
        text_position=sv.Position.CENTER,
        smart_position=True,
    )


def _write(
    picture: Image, texts: list[str], xyxy: NDArray[np.floating], colours: NDArray[np.integer], **placing: Any
) -> Image:
    """Write each text at its box (x0, y0, x1, y1) on a ground of its colour, in black or white."""
    annotator = sv.RichLabelAnnotator(
        _PALETTE, text_color=_TEXT_COLOURS, font_size=_font_size(picture), text_padding=_LABEL_PADDING, **placing
    )
    labels = sv.Detections(xyxy=xyxy, class_id=colours)
    return _swap_channels(annotator.annotate(_swap_channels(picture), labels, labels=texts))


def _swap_channels(image: Image) -> Image:
    return np.ascontiguousarray(image[..., ::-1])


def _innermost_point(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """(x, y) of the pixel farthest from the mask's edge: unlike the centre of mass it lies inside a bent mask."""
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(distance), distance.shape)
    return int(x), int(y)


def _line_width(picture: Image) -> int:
    return max(1, round(min(picture.shape[:2]) / 300))


def _font_size(picture: Image) -> int:
    return max(12, round(picture.shape[1] / 70))


def _add_legend(picture: Image, entries: list[str], colours: NDArray[np.integer]) -> Image:
    """Append a white strip of names on grounds of their colours, in as many columns as fit."""
    if not entries:
        return picture
    size = _font_size(picture)
    row_height, column_width = size + 4 * _LABEL_PADDING, int(size * (0.62 * max(map(len, entries)) + 1.5))
    columns = max(1, picture.shape[1] // column_width)
    rows = -(-len(entries) // columns)
    strip = np.full((rows * row_height + 2 * _LABEL_PADDING, picture.shape[1], 3), 255, dtype=np.uint8)
    places = np.arange(len(entries))
    corners = np.stack([places % columns * column_width, places // columns * row_height], axis=1) + 2 * _LABEL_PADDING
    # BOTTOM_LEFT puts a text below the box's bottom left corner.
    below = sv.Position.BOTTOM_LEFT
    xyxy = np.concatenate([corners, corners], axis=1).astype(float)
    return np.concatenate([picture, _write(strip, entries, xyxy, colours, text_position=below)])
