"""Detectron2 is needed, and no index holds it under its own name: whether one is there, and the two ways to get one."""

from __future__ import annotations

import importlib.util
import logging

WAYS_TO_DETECTRON2 = (
    "mask2former_ext needs Detectron2, and there is none. Get the small embedded one by `pip install "
    "mask2former-ext-embedded-detectron2` (in a checkout: `pip install ./embedded`), or the real one by `pip install "
    "'setuptools<81' wheel && pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/detectron2.git'`"
)


def has_detectron2() -> bool:
    return importlib.util.find_spec("detectron2") is not None


def tell_without_detectron2() -> None:
    """One line where there is none: the parts of the package that need it cannot be imported then."""
    if not has_detectron2():
        logging.getLogger(__package__).warning(WAYS_TO_DETECTRON2)
