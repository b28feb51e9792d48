"""Segmentation architectures for Detectron2: importing this package registers its models and backbones.

cfg = load_config("configs/mask2former/coco_panoptic_r50.yaml", ["MODEL.WEIGHTS", "model.pkl"])
model = load_model(cfg)
result = Predictor(cfg)(image)
"""

from mask2former_ext import models
from mask2former_ext.config import add_config, load_config
from mask2former_ext.inference.predictor import Predictor, load_model

__version__ = "0.1.0"
__all__ = ["Predictor", "add_config", "load_config", "load_model", "models"]
