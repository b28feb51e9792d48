"""The configurations that come with the package, which are found by name wherever a command runs.

The name of configs/mask2former/coco_panoptic_r50.yaml is mask2former/coco_panoptic_r50.
"""

from __future__ import annotations

import difflib
import os
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_BUILDING_BLOCKS = ("datasets", "models")  # folders of files that others build on


@cache
def shipped_configs() -> dict[str, str]:
    """Name -> file: in the package, where a wheel has brought them, else in the checkout beside it."""
    folder = next(place for place in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if place.is_dir())
    files = sorted(folder.glob("*/*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): str(file) for file in files}


def shipped_config(name: str) -> str | None:
    """The file of this name, which may be written with configs/ and .yaml as in a checkout; None: there is none."""
    return shipped_configs().get(name.removeprefix("configs/").removesuffix(".yaml"))


def config_path(path: str) -> str:
    """`path` where something is there or it is an address, else the file that comes with the package by that name.

    Raises FileNotFoundError, with the nearest names, if there is neither.
    """
    if "://" in path or os.path.exists(os.path.expanduser(path)):
        return path
    shipped = shipped_config(path)
    if shipped is not None:
        return shipped
    complete = [name for name in shipped_configs() if not name.startswith(_BUILDING_BLOCKS)]
    near = difflib.get_close_matches(path.removeprefix("configs/").removesuffix(".yaml"), complete, n=3)
    hint = f"; the nearest are {', '.join(near)}" if near else f", as {complete[0]} is one"
    raise FileNotFoundError(f"{path}: no such config file, and no name of one that comes with the package{hint}")
