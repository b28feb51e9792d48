"""Translate a config of the published projects (a yaml or a full dump) into this package's keys.

What a key means is in `upstream_tables`: one table per published model. A further architecture is a further table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import yaml
from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from mask2former_ext.interop.config_keys import as_tree, get_key, leaves, merge, parse_overrides, set_key, unknown_key
from mask2former_ext.interop.upstream_tables import (
    CONTRASTIVE,
    DECODERS,
    DEEPLAB_BACKBONE,
    DEEPLAB_RESNET,
    DEFORMABLE,
    DETECTRON2_OTHERS,
    DETECTRON2_TABLES,
    HEAD,
    LACKING_BACKBONES,
    MASK2FORMER_TABLE,
    MASK_FORMER,
    MULTI_SCALE,
    PER_PIXEL_TABLES,
    STANDARD,
    SWIN_BACKBONE,
    TABLES,
    Architecture,
)
from mask2former_ext.safe_reading.yaml_files import merge_trees


@functools.cache
def _upstream_defaults() -> dict[str, dict[str, Any]]:
    text = resources.files("mask2former_ext.interop").joinpath("upstream_defaults.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def is_upstream(tree: dict[str, Any], ours: CN) -> bool:
    """Whether a file's keys are those of a published project: one that `ours` lacks is there, none that is ours alone.

    A file that names one of Detectron2's own architectures and has no key of ours alone counts as published, too.
    """
    added = {key for section in _upstream_defaults().values() for key, _ in leaves(section)}
    theirs = added | {key for key, _ in leaves(get_cfg())}
    keys = {key for key, _ in leaves(tree)}
    if any(key not in theirs and get_key(ours, key, ...) is not ... for key in keys):
        return False
    foreign = any(key in added and get_key(ours, key, ...) is ... for key in keys)
    return foreign or get_key(tree, "MODEL.META_ARCHITECTURE") in (*DETECTRON2_TABLES, *DETECTRON2_OTHERS)


def architecture_of(tree: dict[str, Any], source: str) -> Architecture:
    """The table for an upstream file, by its decoder names: MaskFormer's and Mask2Former's META_ARCHITECTURE agree."""
    model = tree.get("MODEL", {})
    head = get_key(tree, f"{HEAD}NAME")
    if head in PER_PIXEL_TABLES:
        return PER_PIXEL_TABLES[head]
    pixel_decoder = get_key(tree, f"{HEAD}PIXEL_DECODER_NAME", "BasePixelDecoder")
    if "ONE_FORMER" in model:
        decoder = get_key(tree, "MODEL.ONE_FORMER.TRANSFORMER_DECODER_NAME", CONTRASTIVE)
    elif "MASK_FORMER" in model:
        usual = MULTI_SCALE if pixel_decoder == DEFORMABLE else STANDARD
        decoder = get_key(tree, f"{MASK_FORMER}.TRANSFORMER_DECODER_NAME", usual)
    elif get_key(tree, "MODEL.META_ARCHITECTURE") in DETECTRON2_TABLES:
        return DETECTRON2_TABLES[tree["MODEL"]["META_ARCHITECTURE"]]
    elif get_key(tree, "MODEL.META_ARCHITECTURE") in DETECTRON2_OTHERS:
        built = ", ".join(f"{theirs} (as {table.name})" for theirs, table in DETECTRON2_TABLES.items())
        raise ValueError(
            f"{source}: MODEL.META_ARCHITECTURE is {tree['MODEL']['META_ARCHITECTURE']!r}; of Detectron2's own, this "
            f"package builds {built}"
        )
    else:
        raise ValueError(f"{source}: neither MODEL.MASK_FORMER nor MODEL.ONE_FORMER is there to name the architecture")
    if (pixel_decoder, decoder) not in DECODERS:
        known = "; ".join(f"{first} with {second}" for first, second in DECODERS)
        raise ValueError(
            f"{source}: no architecture has {pixel_decoder} with {decoder} (SEM_SEG_HEAD.PIXEL_DECODER_NAME and "
            f"TRANSFORMER_DECODER_NAME); known are {known}"
        )
    return DECODERS[pixel_decoder, decoder]


def upstream_keys(table: Architecture) -> CN:
    """All keys of the project that `table` belongs to, Detectron2's among them, with that project's default values."""
    cfg = get_cfg()
    for section in table.defaults:
        for key, value in leaves(_upstream_defaults()[section]):
            *parents, last = key.split(".")
            node = cfg
            for parent in parents:
                node = node.setdefault(parent, CN())
            node[last] = value
    return cfg


def translate(tree: dict[str, Any], overrides: Sequence[Any], ours: CN, source: str) -> CN:
    """The settings of an upstream file (`tree`) in the keys of `ours`, which holds this package's defaults.

    Overrides may be in either language; upstream's apply before translation, ours after it. Raises ValueError.
    """
    pairs = parse_overrides(overrides)
    table = architecture_of(merge_trees(tree, as_tree(pairs), f"overrides of {source}"), source)
    theirs = upstream_keys(table)
    upstream_pairs = [pair for pair in pairs if get_key(theirs, pair[0], ...) is not ...]
    our_pairs = [pair for pair in pairs if pair not in upstream_pairs]
    for key, _ in our_pairs:
        if get_key(ours, key, ...) is ...:
            known = [name for cfg in (theirs, ours) for name, _ in leaves(cfg)]
            raise unknown_key(key, known, f"overrides of {source}", {})
    theirs = merge(theirs, tree, source)
    theirs = merge(theirs, as_tree(upstream_pairs), f"overrides of {source}")
    _check_backbone(theirs, source)
    cfg = _apply(table, theirs, ours, source)
    return merge(cfg, as_tree(our_pairs), f"overrides of {source}")


def _check_backbone(theirs: CN, source: str) -> None:
    name = theirs.MODEL.BACKBONE.NAME
    if name in LACKING_BACKBONES:
        raise ValueError(
            f"{source}: MODEL.BACKBONE.NAME is {name!r}, a backbone that this package does not have; "
            f"{LACKING_BACKBONES[name]}"
        )


def our_names(architecture: str | None) -> dict[str, str]:
    """The upstream keys of one of our architectures (else of Mask2Former) and what they are called here."""
    table = TABLES.get(architecture or "", MASK2FORMER_TABLE)
    return {key: ", ".join(target for target, _ in rules) for key, rules in table.renamed.items()}


def check_no_upstream_values(cfg: CN, source: str) -> None:
    """Refuse keys of Detectron2 that say something in upstream's files of this architecture, but nothing to ours."""
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in TABLES:
        return
    defaults = get_cfg()
    for key, ours in our_names(name).items():
        value = get_key(cfg, key, ...)
        if value is not ... and value != get_key(defaults, key):
            raise ValueError(f"{source}: {key} is {value!r}, but {name} does not read it: here it is called {ours}")


def _apply(table: Architecture, theirs: CN, ours: CN, source: str) -> CN:
    cfg = ours.clone()
    waiting = []
    joint = {key for keys in table.joint for key in keys}
    for key, value in leaves(theirs):
        if key in table.renamed:
            for target, function in table.renamed[key]:
                set_key(cfg, target, _named(source, function, value))
        elif key in table.required:
            if value != table.required[key]:
                raise ValueError(f"{source}: {key} is {value!r}; {table.name} needs {table.required[key]!r}")
        elif key in table.decides or key in table.unused or key in joint:
            continue
        elif key in DEEPLAB_RESNET and theirs.MODEL.BACKBONE.NAME != DEEPLAB_BACKBONE:
            continue  # published files set these for every ResNet; the plain one does not read them
        elif get_key(cfg, key, ...) is not ...:
            set_key(cfg, key, value)
        else:
            waiting.append(key)
    assert not waiting, f"upstream keys without a rule: {waiting}"
    for keys, function in table.joint.items():
        for key, value in _named(source, function, *(get_key(theirs, key) for key in keys)).items():
            set_key(cfg, key, value)
    for key, value in table.constants.items():
        set_key(cfg, key, value)
    if table.renamed and cfg.INPUT.AUGMENTATION in ("resize_crop", "detr"):
        cfg.INPUT.RANDOM_FLIP = "horizontal"  # these mappers flip so whatever the key says
    if cfg.INPUT.AUGMENTATION in ("large_scale_jitter", "detr"):  # neither do theirs read these
        cfg.INPUT.COLOR_AUG_SSD, cfg.INPUT.PAD_SIZE = False, 0
    if cfg.INPUT.AUGMENTATION == "large_scale_jitter":
        cfg.INPUT.CROP.ENABLED = False
    if theirs.MODEL.BACKBONE.NAME == SWIN_BACKBONE:
        cfg.MODEL.BACKBONE.FREEZE_AT = 0  # upstream's Swin does not read this key, ours does
    cfg.MODEL.META_ARCHITECTURE = table.name
    return cfg


def _named(source: str, function: Callable[..., Any], *values: Any) -> Any:
    try:
        return function(*values)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
