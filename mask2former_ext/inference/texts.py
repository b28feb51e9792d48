"""Words in a picture: each on a ground of its color, in black or white, whichever reads better.

Shapes: H, W pixels of the picture, RGB uint8 (H, W, 3). Points are (x, y), sizes (width, height), in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import supervision as sv
from numpy.typing import NDArray
from PIL import Image as PillowImage

from mask2former_ext.classes import Color

Image = NDArray[np.uint8]
PADDING = 3  # px between a text and the edge of its ground


def write(
    picture: Image, texts: Sequence[str], corners: Sequence[tuple[float, float]], colors: Sequence[Color]
) -> Image:
    """Write each text, its top left corner and its ground's color given, into the picture, moved into it if need be."""
    size, (height, width) = font_size(picture), picture.shape[:2]
    for text, (left, top), color in zip(texts, corners, colors, strict=True):
        label = _label(text, color, size)
        x, y = max(0, min(round(left), width - label.shape[1])), max(0, min(round(top), height - label.shape[0]))
        label = label[:height, :width]
        picture[y : y + label.shape[0], x : x + label.shape[1]] = label
    return picture


def font_size(picture: Image) -> int:
    """Pixels of a letter's height in a picture of this size: 12, less in a tiny picture, more in a wide one."""
    height, width = picture.shape[:2]
    return max(9, min(12, round(min(height, width) / 24)), round(width / 70))


def text_sizes(texts: Sequence[str], of_font: int) -> list[tuple[int, int]]:
    """(width, height) px of each text on its ground; the height does not depend on the text."""
    return [_text_size(text, of_font) for text in texts]


@lru_cache(maxsize=4096)
def _text_size(text: str, of_font: int) -> tuple[int, int]:
    font = _annotator((255, 255, 255), of_font).font
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Tg")
    return int(right - left) + 2 * PADDING, int(bottom - top) + 2 * PADDING


@lru_cache(maxsize=4096)
def _label(text: str, color: Color, of_font: int) -> Image:
    """A text on its ground. It is cached: writing twenty texts takes longer than drawing all the rest of a frame."""
    ground = PillowImage.new("RGB", _text_size(text, of_font), color)
    # BOTTOM_LEFT puts a text below the box's bottom left corner.
    place = sv.Detections(xyxy=np.zeros((1, 4)), class_id=np.zeros(1, dtype=int))
    return np.array(_annotator(color, of_font).annotate(ground, place, labels=[text]))


@lru_cache(maxsize=256)
def _annotator(ground: Color, of_font: int) -> sv.RichLabelAnnotator:
    red, green, blue = ground
    is_light = 299 * red + 587 * green + 114 * blue > 128_000  # luma of ITU-R BT.601
    return sv.RichLabelAnnotator(
        sv.Color(red, green, blue),
        text_color=sv.Color.BLACK if is_light else sv.Color.WHITE,
        font_size=of_font,
        text_padding=PADDING,
        text_position=sv.Position.BOTTOM_LEFT,
    )
