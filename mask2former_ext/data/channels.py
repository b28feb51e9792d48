"""The channels of an image, named by the letters of INPUT.FORMAT, and transforms of any number of them.

INPUT.FORMAT holds RGB, BGR or L (gray), and for each further channel a capital letter of its own: RGBT, LD, BGRXY.
File order is that in which files and users give channels: R, G, B (or L) first, then the others as INPUT.FORMAT names
them. Shapes: H, W pixels; C channels.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image

from mask2former_ext.contract import color_places

CHANNEL_FILES = "channel_file_names"  # key of a record: files of one further channel each, in file order
PLAIN = ("RGB", "BGR", "L")  # what pictures hold by themselves, and Detectron2's transforms take as it is


def check_format(image_format: str) -> None:
    """Raise ValueError unless `image_format` names channels by the rule at the head of this file."""
    letters = re.sub("RGB|BGR", "", image_format, count=1)
    has_base = letters != image_format or "L" in image_format
    distinct = len(set(image_format)) == len(image_format)
    if not (has_base and distinct and re.fullmatch("[A-Z]*", letters) and not set("RGB") & set(letters)):
        raise ValueError(
            f"INPUT.FORMAT is {image_format!r}, but must be RGB, BGR or L, with a capital letter of its own for each "
            "further channel, as in RGBT"
        )


def file_order(image_format: str) -> str:
    """The letters of `image_format` in the order in which files and users give the channels: BGRT -> RGBT."""
    base = "RGB" if color_places(image_format) else "L"
    return base + "".join(letter for letter in image_format if letter not in base)


def in_model_order(image: np.ndarray, image_format: str) -> np.ndarray:
    """(H, W, C) in file order -> in the order of INPUT.FORMAT."""
    order = file_order(image_format)
    if order == image_format:
        return image
    if image_format == "BGR":
        return image[:, :, ::-1]
    return image[:, :, [order.index(letter) for letter in image_format]]


def as_gray(image: np.ndarray) -> np.ndarray:
    """RGB uint8 (H, W, 3) -> uint8 (H, W, 1), as a picture in color is read for INPUT.FORMAT L."""
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]


def shown(image: np.ndarray, order: str) -> np.ndarray:
    """(H, W, C) of the channels that `order` names -> RGB (H, W, 3): its colors, else its gray channel."""
    colors = color_places(order)
    places = [order.index(letter) for letter in "RGB"] if colors else [order.index("L")] * 3
    return image if places == list(range(image.shape[2])) else np.ascontiguousarray(image[:, :, places])


def apply_by_channel(transform: T.Transform, image: np.ndarray, image_format: str) -> np.ndarray:
    """`transform` of an image whose channels `image_format` names: color changes touch R, G and B alone.

    Colors go together, each other channel by itself: Detectron2 resizes by Pillow, which takes four channels for color
    with transparency and weighs the one by the other.
    """
    if image_format in PLAIN:
        return transform.apply_image(image)
    colors = color_places(image_format)
    parts = []
    for place in range(image.shape[2]):
        if place not in colors:
            part = image[:, :, place : place + 1]
            parts.append(part if isinstance(transform, ColorAugSSDTransform) else transform.apply_image(part))
        elif place == colors[0]:
            parts.append(transform.apply_image(np.ascontiguousarray(image[:, :, place : place + 3])))
    return np.concatenate(parts, axis=2)


class ChannelInput(T.AugInput):
    """Detectron2's AugInput for an image (H, W, C) whose channels `image_format` names."""

    image: np.ndarray
    sem_seg: np.ndarray | None

    def __init__(self, image: np.ndarray, image_format: str, **truth: Any) -> None:
        """`truth`: see `AugInput`."""
        super().__init__(image, **truth)
        self.image_format = image_format

    def transform(self, tfm: T.Transform) -> None:
        """Change the image and the truth, in place."""
        image = apply_by_channel(tfm, self.image, self.image_format)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)
        self.image = image
