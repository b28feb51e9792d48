"""Segmentation architectures for Detectron2. Each name is loaded when it is first used.

cfg = load_config("configs/mask2former/coco_panoptic_r50.yaml", ["MODEL.WEIGHTS", "model.pkl"])
model = load_model(cfg)
result = Predictor(cfg)(image)

`add_config`, `load_config` and the import of `mask2former_ext.models` register the models and backbones; a part of the
package, as `mask2former_ext.evaluation.confusion_matrix`, loads no model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mask2former_ext.moved import MOVED, keep_old_names

if TYPE_CHECKING:
    from mask2former_ext import models
    from mask2former_ext.config import add_config, load_config
    from mask2former_ext.inference.predictor import Predictor, load_model

__version__ = "0.1.0"
__all__ = ["Predictor", "add_config", "load_config", "load_model", "models"]

_HOME_OF = {
    "Predictor": "inference.predictor",
    "add_config": "config",
    "load_config": "config",
    "load_model": "inference.predictor",
}
_ROOMS = {
    *("config", "contract", "data", "distributed", "engine", "env", "evaluation", "inference", "interop", "layers"),
    *("losses", "models", "postprocess"),
}


keep_old_names()


def __getattr__(name: str) -> Any:
    if name in _ROOMS or name in MOVED:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, *_ROOMS})
