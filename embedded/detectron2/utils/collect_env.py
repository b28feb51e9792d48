"""What a bug report needs to say."""

from __future__ import annotations

import importlib.metadata
import platform

import torch
from tabulate import tabulate

_PACKAGES = "torch torchvision numpy Pillow opencv-python-headless fvcore iopath pycocotools".split()


def collect_env_info() -> str:
    """A table of versions and devices."""
    import detectron2

    rows = [("platform", platform.platform()), ("Python", platform.python_version())]
    rows.append(("detectron2", f"{detectron2.__version__} at {detectron2.__path__[0]}"))
    installed = {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}
    rows += [(package, installed.get(package, "not installed")) for package in _PACKAGES]
    rows.append(("CUDA build", torch.version.cuda or "none"))
    rows += [(f"GPU {index}", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]
    return tabulate(rows)
