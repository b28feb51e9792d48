"""Configuration keys of DeepLab: `keys.yaml`."""

from __future__ import annotations

from detectron2.config.node import CfgNode, add_keys


def add_deeplab_config(cfg: CfgNode) -> None:
    """Add DeepLab's keys, in place."""
    add_keys(cfg, __package__)
