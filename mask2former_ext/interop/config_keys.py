"""Put a nested dict of settings into a Detectron2 CfgNode, with errors that name the file and the nearest known key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode as CN
from detectron2.config import downgrade_config, upgrade_config


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("MODEL.RESNETS.DEPTH", 50), ... for every value of a nested dict or CfgNode, in its order."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def get_key(tree: dict[str, Any], key: str, default: Any = None) -> Any:
    """The value at a dotted key, or `default` where the path ends early."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return default
        node = node[part]
    return node


def set_key(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in place, making sections (of plain dict) on the way."""
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[last] = value


def parse_overrides(overrides: Sequence[Any]) -> list[tuple[str, Any]]:
    """[KEY, VALUE, KEY, VALUE, ...] as pairs. Values may be strings from a command line; Detectron2 decodes them."""
    if len(overrides) % 2:
        raise ValueError(f"overrides are KEY VALUE pairs, but {len(overrides)} words were given: {list(overrides)}")
    for key in overrides[0::2]:
        if not isinstance(key, str):
            raise ValueError(f"override key {key!r} is not a string")
    return list(zip(overrides[0::2], overrides[1::2], strict=True))


def as_tree(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A nested dict from (dotted key, value) pairs; a later pair wins."""
    tree: dict[str, Any] = {}
    for key, value in pairs:
        set_key(tree, key, value)
    return tree


def merge(cfg: CN, tree: dict[str, Any], source: str, hint: Mapping[str, str] | None = None) -> CN:
    """A copy of `cfg` with the values of `tree` put in; both keep their types, save that an int may stand for a float.

    `tree` may be of an older VERSION: Detectron2's own upgrade then applies. `source` (a path, say) opens every error
    message; `hint` gives names to suggest for keys that are not known here. Raises ValueError.
    """
    version = tree.get("VERSION", cfg.VERSION)
    if not isinstance(version, int) or not 1 <= version <= cfg.VERSION:
        raise ValueError(f"{source}: VERSION is {version!r}; versions 1 to {cfg.VERSION} can be read")
    if version < cfg.VERSION:
        return upgrade_config(merge(downgrade_config(cfg, to_version=version), tree, source, hint))
    _check_keys(cfg, tree, source, hint or {})
    merged = cfg.clone()
    try:
        merged.merge_from_other_cfg(CN(_with_floats(tree, cfg)))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    return merged


def unknown_key(key: str, known: Sequence[str], source: str, hint: Mapping[str, str]) -> ValueError:
    """The error for a key that nobody reads, with the nearest known one: of its own section if one there is like it."""
    if key in hint:
        return ValueError(f"{source}: unknown key {key}: here it is called {hint[key]}")
    section = key.rpartition(".")[0]
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    nearest = [
        *difflib.get_close_matches(key, siblings, n=1, cutoff=0.75),
        *difflib.get_close_matches(key, known, n=1, cutoff=0.0),
    ]
    return ValueError(f"{source}: unknown key {key}" + (f"; the nearest known one is {nearest[0]}" if nearest else ""))


def _check_keys(cfg: CN, tree: dict[str, Any], source: str, hint: Mapping[str, str]) -> None:
    known = [key for key, _ in leaves(cfg)]
    for key, value in leaves(tree):
        if _is_open(cfg, key):
            continue
        here = get_key(cfg, key, default=...)
        if here is ...:
            raise unknown_key(key, known, source, hint)
        if isinstance(here, dict):
            raise ValueError(f"{source}: {key} is a section of keys and cannot be set to {value!r}")


def _is_open(cfg: CN, key: str) -> bool:
    """Whether the section that holds a dotted key takes keys of any name (MODEL.CLASSES)."""
    section = get_key(cfg, key.rpartition(".")[0])
    return isinstance(section, CN) and section.is_new_allowed()


def _with_floats(tree: dict[str, Any], cfg: CN) -> dict[str, Any]:
    """`tree` with whole numbers turned into floats where `cfg` holds a float, so that `DICE_WEIGHT: 5` is right."""
    result = {}
    for key, value in tree.items():
        here = cfg.get(key)
        if isinstance(here, CN):
            value = _with_floats(value, here)
        elif isinstance(here, float):
            value = _as_float(value)
        result[key] = value
    return result


def _as_float(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return float(value) if type(value) is int else value
