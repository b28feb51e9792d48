"""Whole models and segmentation heads by name; Detectron2's own models come with the real one only."""

from __future__ import annotations

import torch
from detectron2._left_out import META_ARCHITECTURES, stand_in
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = "Callables of (cfg) that return a model: list[dict] in, losses or list[dict] out."
SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = "Callables of (cfg, input_shape: dict[str, ShapeSpec]) that return a head."

for _name in META_ARCHITECTURES:  # a configuration that names one is told how to get it
    META_ARCH_REGISTRY.register(stand_in(_name, __name__))


def build_model(cfg: CfgNode) -> nn.Module:
    """The model named by cfg.MODEL.META_ARCHITECTURE on cfg.MODEL.DEVICE, without the weights of cfg.MODEL.WEIGHTS."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))


def build_sem_seg_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """The head named by cfg.MODEL.SEM_SEG_HEAD.NAME."""
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)
