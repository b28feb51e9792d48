"""Configurations of older versions: keys were renamed, and version 2 gave all anchor settings one place."""

from __future__ import annotations

import logging
from functools import cache
from importlib import resources
from typing import Any

import yaml
from detectron2.config.node import CfgNode, default_config

_ANCHOR_KEYS = {"ANCHOR_SIZES": "SIZES", "ANCHOR_ASPECT_RATIOS": "ASPECT_RATIOS"}


@cache
def _renamed_keys() -> dict[int, dict[str, str]]:
    return yaml.safe_load(resources.files("detectron2.config").joinpath("renamed_keys.yaml").read_text("utf-8"))


def _has(cfg: CfgNode, key: str) -> bool:
    node: Any = cfg
    for part in key.split("."):
        if part not in node:
            return False
        node = node[part]
    return True


def _take(cfg: CfgNode, key: str) -> Any:
    """Remove and return a value, together with the nodes that this leaves empty."""
    head, _, rest = key.partition(".")
    if not rest:
        return cfg.pop(head)
    value = _take(cfg[head], rest)
    if not cfg[head]:
        del cfg[head]
    return value


def _put(cfg: CfgNode, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        cfg = cfg.setdefault(parent, CfgNode())
    cfg[last] = value


def _gather_anchors(cfg: CfgNode) -> None:
    """Version 1 kept anchors with RPN and with RetinaNet; keep those of the architecture in use."""
    used, other = ("RETINANET", "RPN") if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else ("RPN", "RETINANET")
    for old, new in _ANCHOR_KEYS.items():
        _put(cfg, f"MODEL.ANCHOR_GENERATOR.{new}", _take(cfg, f"MODEL.{used}.{old}"))
        _take(cfg, f"MODEL.{other}.{old}")
    _take(cfg, "MODEL.RETINANET.ANCHOR_STRIDES")


def _spread_anchors(cfg: CfgNode) -> None:
    for old, new in _ANCHOR_KEYS.items():
        value = _take(cfg, f"MODEL.ANCHOR_GENERATOR.{new}")
        for owner in ("RPN", "RETINANET"):
            _put(cfg, f"MODEL.{owner}.{old}", value)
    _put(cfg, "MODEL.RETINANET.ANCHOR_STRIDES", [])


def upgrade_config(cfg: CfgNode, to_version: int | None = None) -> CfgNode:
    """A copy of a full config in a newer version, by default the newest."""
    cfg = cfg.clone()
    to_version = default_config().VERSION if to_version is None else to_version
    assert cfg.VERSION <= to_version, f"cannot upgrade a config of version {cfg.VERSION} to {to_version}"
    while cfg.VERSION < to_version:
        cfg.VERSION += 1
        for old, new in _renamed_keys()[cfg.VERSION].items():
            _put(cfg, new, _take(cfg, old))
        if cfg.VERSION == 2:
            _gather_anchors(cfg)
    return cfg


def downgrade_config(cfg: CfgNode, to_version: int) -> CfgNode:
    """A copy of a full config with the keys of an older version, for merging a file of that version into it."""
    cfg = cfg.clone()
    assert cfg.VERSION >= to_version, f"cannot downgrade a config of version {cfg.VERSION} to {to_version}"
    while cfg.VERSION > to_version:
        for old, new in reversed(_renamed_keys()[cfg.VERSION].items()):
            _put(cfg, old, _take(cfg, new))
        if cfg.VERSION == 2:
            _spread_anchors(cfg)
        cfg.VERSION -= 1
    return cfg


def guess_version(cfg: CfgNode, filename: str) -> int:
    """Version of a file that does not say: 1 if it has a key of that time which files usually set, else the newest."""
    version = 1 if _has(cfg, "MODEL.WEIGHT") or _has(cfg, "TEST.AUG_ON") else default_config().VERSION
    logging.getLogger(__name__).warning("%s has no VERSION; taken as version %s", filename, version)
    return version
