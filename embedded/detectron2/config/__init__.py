"""Configuration: a tree of keys with defaults, yaml files over it, and constructors that read it."""

from __future__ import annotations

from detectron2.config.build import configurable
from detectron2.config.node import CfgNode, get_cfg
