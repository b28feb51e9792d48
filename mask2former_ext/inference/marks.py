"""Marks on one picture, changed in place: colors mixed in, outlines, words. Pixels alone.

Shapes: H, W pixels of the picture, RGB uint8 (H, W, 3). A color is a name, a letter, a hex code, or three numbers in
[0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

Picture = NDArray[np.uint8]

_LETTERS = dict(zip("rgbcmykw", "red lime blue cyan magenta yellow black white".split(), strict=True))
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def rgb(color: Any) -> tuple[int, int, int]:
    """Red, green and blue in 0..255."""
    if isinstance(color, str):
        return ImageColor.getrgb(_LETTERS.get(color, color))[:3]
    red, green, blue = (round(255 * float(part)) for part in color[:3])
    return red, green, blue


def mix(picture: Picture, weights: NDArray[Any], color: Any) -> None:
    """Mix a color in, each pixel by its weight in [0, 1]; `weights` (h, w) are stretched over the picture."""
    height, width = picture.shape[:2]
    part = cv2.resize(weights.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
    picture[:] = np.rint(picture * (1 - part) + np.array(rgb(color)) * part).astype(np.uint8)


def outline(picture: Picture, points: NDArray[Any], color: Any, alpha: float = 1.0) -> None:
    """Draw a closed line through points (N, 2) of x and y."""
    width = max(1, round(min(picture.shape[:2]) / 300))
    drawn = cv2.polylines(picture.copy(), [np.rint(points).astype(np.int32)], True, rgb(color), width)
    cv2.addWeighted(drawn, alpha, picture, 1 - alpha, 0, dst=picture)


def write(
    picture: Picture,
    text: str,
    place: Sequence[float],
    color: Any,
    font_px: float | None = None,
    anchor: str = "center",
) -> None:
    """Write on a black ground; `place` (x, y) is the "center", "left" or "right" end of its upper edge."""
    size = (font_px or max(10.0, picture.shape[1] / 70)) / 30
    (width, height), below = cv2.getTextSize(text, _FONT, size, 1)
    x = place[0] - width * {"left": 0, "center": 0.5, "right": 1}[anchor]
    left, top = round(max(0.0, min(x, picture.shape[1] - width))), round(max(0.0, place[1]))
    cv2.rectangle(picture, (left, top), (left + width, top + height + below), (0, 0, 0), -1)
    cv2.putText(picture, text, (left, top + height), _FONT, size, [max(c, 90) for c in rgb(color)], 1, cv2.LINE_AA)
