"""Configuration keys of PointRend: `keys.yaml`."""

from __future__ import annotations

from detectron2.config.node import CfgNode, add_keys


def add_pointrend_config(cfg: CfgNode) -> None:
    """Add PointRend's keys, in place."""
    add_keys(cfg, __package__)
