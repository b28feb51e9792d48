"""Segmentation architectures for Detectron2. Each name is loaded when it is first used.

cfg = load_config("configs/mask2former/coco_panoptic_r50.yaml", ["MODEL.WEIGHTS", "model.pkl"])
model = load_model(cfg)
result = Predictor(cfg)(image)

`add_config`, `load_config` and the import of `mask2former_ext.models` register the models and backbones; a part of the
package, as `mask2former_ext.evaluation.confusion_matrix`, loads no model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mask2former_ext.moved import MOVED, keep_old_names
from mask2former_ext.needed import tell_without_detectron2
from mask2former_ext.on_demand import names_on_demand

if TYPE_CHECKING:
    from mask2former_ext import models
    from mask2former_ext.config import add_config, load_config
    from mask2former_ext.inference.predictor import Predictor, load_model

__version__ = "0.1.0"
__all__ = ["Predictor", "add_config", "load_config", "load_model", "models"]

_ROOMS = (
    *("classes", "commands", "config", "contract", "data", "distributed", "engine", "env", "evaluation", "inference"),
    *("interop", "layers", "losses", "models", "postprocess", "web"),
)
_HOME_OF = {
    "Predictor": "inference.predictor",
    "add_config": "config",
    "load_config": "config",
    "load_model": "inference.predictor",
    **{room: room for room in (*_ROOMS, *MOVED)},
}

tell_without_detectron2()
keep_old_names()
__getattr__, __dir__ = names_on_demand(__name__, _HOME_OF)
