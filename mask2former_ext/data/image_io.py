"""Read pictures and label files, whatever their kind; name the file that cannot be read.

Shapes: H, W pixels, C channels.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from mask2former_ext.data.channels import CHANNEL_FILES, check_format, file_order, in_model_order

# What Pillow raises for a file that is missing, cut off, of no known kind, or larger than its safety limit.
_READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_MODES_OF_CHANNELS = {2: ("LA",), 4: ("RGBA", "RGBX")}  # number of channels -> Pillow's modes that hold them
_LABEL_MODES = ("1", "L", "P", *_SIXTEEN_BIT)

Picture: TypeAlias = "str | os.PathLike[str] | BinaryIO | Image.Image"  # a file by its path, open, or read already


class BrokenImageError(ValueError):
    """A picture or label file that is missing, truncated or of the wrong size."""


def read_image(path: Picture, image_format: str, channel_files: Sequence[str] = ()) -> np.ndarray:
    """File or PIL image -> uint8 (H, W, C), upright by its EXIF, channels in the order of `image_format`.

    See `data.channels` for the latter.

    The file holds the colors or the gray, and `channel_files` one further channel each, as gray pictures of its size;
    without these the file holds all channels, in file order: two (gray, alpha) or four (RGB, alpha). RGB, BGR and L
    are read from any picture, whose alpha channel is dropped, and need no other file.
    16-bit gray (0..65535) is scaled to 0..255. Raises BrokenImageError naming the file if it cannot be read so,
    ValueError for a format that breaks the rule, or another number of files than it needs.
    """
    check_format(image_format)
    order = file_order(image_format)
    base = "RGB" if order.startswith("RGB") else "L"
    others = len(order) - len(base)
    if not others:
        pixels = _read_picture(path, base)
    elif not channel_files:
        pixels = _read_all_channels(path, len(order), image_format)
    elif len(channel_files) == others:
        planes = [_read_picture(path, base), *(_read_picture(file, "L") for file in channel_files)]
        for file, plane in zip(channel_files, planes[1:], strict=True):
            check_size(file, plane.shape[:2], planes[0].shape[:2], str(path))
        pixels = np.concatenate(planes, axis=2)
    else:
        raise ValueError(
            f"{path}: INPUT.FORMAT {image_format} names {others} channels beside {base}, but there are files for "
            f"{len(channel_files)}: {', '.join(channel_files)}"
        )
    return in_model_order(pixels, image_format)


def _read_picture(path: Picture, mode: str) -> np.ndarray:
    """Any picture as uint8 (H, W, 3) for "RGB" or (H, W, 1) for "L"."""
    image = ImageOps.exif_transpose(_load(path))
    if image.mode in _SIXTEEN_BIT:
        image = Image.fromarray(_eight_bit(np.asarray(image), path))
    elif image.mode == "F":
        raise BrokenImageError(f"{path}: floating-point pixels have no known range; store 8 or 16 bits per channel")
    return np.atleast_3d(np.asarray(image.convert(mode)))


def _read_all_channels(path: Picture, count: int, image_format: str) -> np.ndarray:
    image = ImageOps.exif_transpose(_load(path))
    if image.mode not in _MODES_OF_CHANNELS.get(count, ()):
        raise BrokenImageError(
            f"{path}: INPUT.FORMAT {image_format} needs {count} channels of 8 bits, but its mode is {image.mode}; "
            "further channels may lie in files of their own"
        )
    return np.asarray(image)


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


def read_record_image(record: Mapping[str, Any], image_format: str) -> np.ndarray:
    """The image of a record, of one file or several: see `read_image`. Raises BrokenImageError for another size than
    the record's `height` and `width`."""
    image = read_image(record["file_name"], image_format, record.get(CHANNEL_FILES, ()))
    expected = (record.get("height", image.shape[0]), record.get("width", image.shape[1]))
    check_size(record["file_name"], image.shape[:2], expected, "the json")
    return image


def check_size(path: str, size: Sequence[int], expected: Sequence[int], source: str) -> None:
    """Raise BrokenImageError unless the (height, width) of `path` is what `source` says it is."""
    if tuple(size) != tuple(expected):
        raise BrokenImageError(
            f"{path}: its size is {size[0]} x {size[1]} (height x width), but {source} says "
            f"{expected[0]} x {expected[1]}"
        )


def _load(path: Picture) -> Image.Image:
    try:
        if isinstance(path, Image.Image):
            path.load()
            return path
        with Image.open(path) as image:
            image.load()
            return image
    except _READ_ERRORS as error:
        raise BrokenImageError(f"{path}: cannot be read as a picture ({error})") from error


def _eight_bit(pixels: np.ndarray, path: Picture) -> np.ndarray:
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise BrokenImageError(f"{path}: gray values from {low} to {high} do not fit 16 bits")
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
