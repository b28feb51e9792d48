"""Read pictures and label files, whatever their kind; name the file that cannot be read.

Shapes: H, W pixels, C channels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("RGB", "BGR", "L")
# What Pillow raises for a file that is missing, cut off, of no known kind, or larger than its safety limit.
_READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_LABEL_MODES = ("1", "L", "P", *_SIXTEEN_BIT)


class BrokenImageError(ValueError):
    """A picture or label file that is missing, truncated or of the wrong size."""


def read_image(path: str | BinaryIO, image_format: str) -> np.ndarray:
    """File -> uint8 (H, W, 3) in "RGB" or "BGR" order, or (H, W, 1) for "L"; turned upright as its EXIF says.

    An alpha channel is dropped; 16-bit gray (0..65535) is scaled to 0..255.
    Raises BrokenImageError naming the file if it cannot be read, ValueError for an unknown format.
    """
    if image_format not in FORMATS:
        raise ValueError(f"INPUT.FORMAT is '{image_format}', but must be RGB, BGR or L")
    image = ImageOps.exif_transpose(_load(path))
    if image.mode in _SIXTEEN_BIT:
        image = Image.fromarray(_eight_bit(np.asarray(image), path))
    elif image.mode == "F":
        raise BrokenImageError(f"{path}: floating-point pixels have no known range; store 8 or 16 bits per channel")
    if image_format == "L":
        return np.asarray(image.convert("L"))[:, :, None]
    pixels = np.asarray(image.convert("RGB"))
    return pixels if image_format == "RGB" else pixels[:, :, ::-1]


def read_labels(path: str) -> np.ndarray:
    """One-channel label file (8 or 16 bits; a palette's indices, not its colors) -> uint8, uint16 or int32 (H, W)."""
    image = _load(path)
    if image.mode not in _LABEL_MODES:
        raise BrokenImageError(f"{path}: a semantic label file has one channel, but its mode is {image.mode}")
    labels = np.asarray(image)
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def read_panoptic(path: str) -> np.ndarray:
    """Panoptic PNG -> uint8 (H, W, 3) in RGB order."""
    image = _load(path)
    if image.mode not in ("RGB", "RGBA", "P"):
        raise BrokenImageError(f"{path}: a panoptic PNG holds ids in RGB, but its mode is {image.mode}")
    return np.asarray(image.convert("RGB"))


def image_size(path: str) -> tuple[int, int]:
    """(height, width) of a picture turned upright. Reads all of it: raises BrokenImageError if it is cut off."""
    width, height = ImageOps.exif_transpose(_load(path)).size
    return height, width


def check_size(path: str, size: Sequence[int], expected: Sequence[int], source: str) -> None:
    """Raise BrokenImageError unless the (height, width) of `path` is what `source` says it is."""
    if tuple(size) != tuple(expected):
        raise BrokenImageError(
            f"{path}: its size is {size[0]} x {size[1]} (height x width), but {source} says "
            f"{expected[0]} x {expected[1]}"
        )


def _load(path: str | BinaryIO) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except _READ_ERRORS as error:
        raise BrokenImageError(f"{path}: cannot be read as a picture ({error})") from error


def _eight_bit(pixels: np.ndarray, path: str | BinaryIO) -> np.ndarray:
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise BrokenImageError(f"{path}: gray values from {low} to {high} do not fit 16 bits")
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
