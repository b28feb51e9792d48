"""What a bug report needs to say."""

from __future__ import annotations

import importlib
import os
import platform
import sys

from tabulate import tabulate

_PACKAGES = ("numpy", "PIL", "cv2", "fvcore", "iopath", "pycocotools", "torchvision")


def _version(package: str) -> str:
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        return f"not importable: {error}"
    return str(getattr(module, "__version__", "installed"))


def collect_env_info() -> str:
    """A table of versions and devices."""
    import detectron2
    import torch

    rows = [
        ("platform", platform.platform()),
        ("Python", sys.version.replace("\n", " ")),
        ("detectron2", f"{detectron2.__version__} at {os.path.dirname(detectron2.__file__)}"),
        ("PyTorch", f"{torch.__version__}, debug build: {torch.version.debug}"),
        ("CUDA build", torch.version.cuda or "none"),
    ]
    if torch.cuda.is_available():
        rows += [(f"GPU {index}", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]
    else:
        rows.append(("GPU", "none that PyTorch can use"))
    rows += [(package, _version(package)) for package in _PACKAGES]
    return tabulate(rows)
