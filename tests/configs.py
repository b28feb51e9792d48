"""Configurations that several tests start from."""

from __future__ import annotations

from detectron2.config import CfgNode, get_cfg

from mask2former_ext import add_config

UPSTREAM = """
MODEL:
  META_ARCHITECTURE: MaskFormer
  SEM_SEG_HEAD: {NAME: MaskFormerHead, PIXEL_DECODER_NAME: MSDeformAttnPixelDecoder, NUM_CLASSES: 7, CONVS_DIM: 64}
  MASK_FORMER:
    TRANSFORMER_DECODER_NAME: MultiScaleMaskedTransformerDecoder
    TRANSFORMER_IN_FEATURE: multi_scale_pixel_decoder
    DEC_LAYERS: 10
    DIM_FEEDFORWARD: 512
    DICE_WEIGHT: 5
INPUT: {DATASET_MAPPER_NAME: mask_former_semantic, SIZE_DIVISIBILITY: 512}
"""


def defaults() -> CfgNode:
    cfg = get_cfg()
    add_config(cfg)
    return cfg


def solver_config(**keys) -> CfgNode:
    cfg = get_cfg()
    cfg.SOLVER.merge_from_other_cfg(CfgNode(keys))
    return cfg
