"""Import path that Detectron2's users know for these names."""
# ruff: noqa: F401

from __future__ import annotations

from detectron2.config.build import configurable
from detectron2.config.node import CfgNode, get_cfg
