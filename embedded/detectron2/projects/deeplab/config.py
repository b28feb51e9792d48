"""Configuration keys of DeepLab."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add DeepLab's keys, in place."""
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0  # a crop is drawn again while one class covers more; 1: never
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0

    head = cfg.MODEL.SEM_SEG_HEAD
    head.LOSS_TYPE = "hard_pixel_mining"
    head.PROJECT_FEATURES = ["res2"]
    head.PROJECT_CHANNELS = [48]
    head.ASPP_CHANNELS = 256
    head.ASPP_DILATIONS = [6, 12, 18]
    head.ASPP_DROPOUT = 0.1
    head.USE_DEPTHWISE_SEPARABLE_CONV = False

    # Read by build_resnet_deeplab_backbone only.
    cfg.MODEL.RESNETS.STEM_TYPE = "deeplab"
    cfg.MODEL.RESNETS.RES4_DILATION = 1
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 2, 4]
