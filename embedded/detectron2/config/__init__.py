"""Configuration: a tree of keys with defaults, yaml files over it, and constructors that read it."""
from __future__ import annotations

from detectron2._left_out import left_out
from detectron2.config.build import configurable
from detectron2.config.compat import downgrade_config, upgrade_config
from detectron2.config.node import CfgNode, get_cfg, global_cfg, set_global_cfg

__all__ = [
    "CfgNode",
    "LazyCall",
    "LazyConfig",
    "configurable",
    "downgrade_config",
    "get_cfg",
    "global_cfg",
    "instantiate",
    "set_global_cfg",
    "upgrade_config",
]

LazyCall, LazyConfig, instantiate = left_out(__name__, "LazyCall", "LazyConfig", "instantiate")
