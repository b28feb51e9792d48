"""Whole models by name."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.utils.registry import Registry
from torch import nn

META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = "Callables of (cfg) that return a model: list[dict] in, losses or list[dict] out."


def build_model(cfg: CfgNode) -> nn.Module:
    """The model named by cfg.MODEL.META_ARCHITECTURE on cfg.MODEL.DEVICE, without the weights of cfg.MODEL.WEIGHTS."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))
