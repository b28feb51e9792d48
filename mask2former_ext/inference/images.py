"""What a `Predictor` takes for an image, and how it becomes an array."""

from __future__ import annotations

import os
import reprlib
from typing import Any, TypeAlias

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from mask2former_ext.data.image_io import read_image

# A path, a PIL image, or an array as `as_array` returns it.
Image: TypeAlias = "str | os.PathLike[str] | PIL.Image.Image | NDArray[np.uint8]"


def as_array(image: Image, channels: str) -> NDArray[np.uint8]:
    """uint8 (H, W, C) of the channels that a model takes, in file order ("RGB", see `data.channels`).

    An array of gray (H, W, 1) stands for the three of RGB; of "L", an array may also be RGB (H, W, 3).
    Raises BrokenImageError for a file that is no picture, ValueError for what is no image.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image), channels)
    if isinstance(image, PIL.Image.Image):
        if 0 in image.size:
            raise ValueError(f"an image must have pixels, got {image}")
        return read_image(image, channels)
    return _checked(image, channels)


def _checked(image: Any, channels: str) -> NDArray[np.uint8]:
    form = f"{channels} uint8 (H, W, {len(channels)})"
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image must be a path, a PIL image or {form}, got {reprlib.repr(image)}")
    wrong = f"an image must be {form}, got {image.dtype} {image.shape}"
    if image.ndim == 2:
        raise ValueError(f"{wrong}; image[:, :, None] is a gray image")
    if image.ndim == 3 and image.shape[2] == 1 and channels == "RGB":
        image = image.repeat(3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (len(channels), *((3,) if channels == "L" else ())):
        has_alpha = channels == "RGB" and image.shape[2:] == (4,)
        raise ValueError(wrong + ("; image[:, :, :3] leaves its fourth channel out" if has_alpha else ""))
    if image.dtype != np.uint8:
        raise ValueError(wrong)
    if image.size == 0:
        raise ValueError(f"{wrong}, which has no pixels")
    return image
