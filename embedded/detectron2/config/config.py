"""Import path that Detectron2's users know for these names."""
from __future__ import annotations

from detectron2.config.build import configurable
from detectron2.config.node import CfgNode, get_cfg, global_cfg, set_global_cfg

__all__ = ["CfgNode", "configurable", "get_cfg", "global_cfg", "set_global_cfg"]
