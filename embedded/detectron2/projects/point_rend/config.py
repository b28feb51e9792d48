"""Configuration keys of PointRend."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_pointrend_config(cfg: CfgNode) -> None:
    """Add PointRend's keys, in place."""
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0  # a crop is drawn again while one class covers more; 1: never
    cfg.INPUT.COLOR_AUG_SSD = False

    mask_head = cfg.MODEL.ROI_MASK_HEAD
    mask_head.IN_FEATURES = ("p2",)
    mask_head.FC_DIM = 1024
    mask_head.NUM_FC = 2
    mask_head.OUTPUT_SIDE_RESOLUTION = 7
    mask_head.POINT_HEAD_ON = False

    points = cfg.MODEL.POINT_HEAD = CfgNode()
    points.NAME = "StandardPointHead"
    points.NUM_CLASSES = 80
    points.IN_FEATURES = ("p2",)
    points.TRAIN_NUM_POINTS = 14 * 14
    points.OVERSAMPLE_RATIO = 3
    points.IMPORTANCE_SAMPLE_RATIO = 0.75
    points.SUBDIVISION_STEPS = 5
    points.SUBDIVISION_NUM_POINTS = 28 * 28
    points.FC_DIM = 256
    points.NUM_FC = 3
    points.CLS_AGNOSTIC_MASK = False
    points.COARSE_PRED_EACH_LAYER = True
    points.COARSE_SEM_SEG_HEAD_NAME = "SemSegFPNHead"

    implicit = cfg.MODEL.IMPLICIT_POINTREND = CfgNode()
    implicit.IMAGE_FEATURE_ENABLED = True
    implicit.POS_ENC_ENABLED = True
    implicit.PARAMS_L2_REGULARIZER = 0.00001
