"""Class tables of the built-in data sets (JSON files in `tables/`) and the metadata made from them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


def _table(name: str) -> Any:
    return json.loads((Path(__file__).parent / "tables" / f"{name}.json").read_text(encoding="utf-8"))


# Each category: id (in the data set's files), name, isthing (0 or 1), color (RGB 0..255); Cityscapes also trainId.
COCO_CATEGORIES: list[dict[str, Any]] = _table("coco")
CITYSCAPES_CATEGORIES: list[dict[str, Any]] = [c | {"color": tuple(c["color"])} for c in _table("cityscapes")]
ADE20K_SEM_SEG_CATEGORIES: list[str] = _table("ade20k_150")

_KEYPOINTS = _table("coco_person_keypoints")
COCO_PERSON_KEYPOINT_NAMES = tuple(_KEYPOINTS["names"])
COCO_PERSON_KEYPOINT_FLIP_MAP = tuple((left, right) for left, right in _KEYPOINTS["flip_map"])
KEYPOINT_CONNECTION_RULES = [(start, end, tuple(color)) for start, end, color in _KEYPOINTS["connection_rules"]]


def _column(categories: list[dict[str, Any]], key: str) -> list[Any]:
    return [category[key] for category in categories]


def _joint_metadata(categories: list[dict[str, Any]]) -> dict[str, Any]:
    """Things and stuff in one contiguous space 0..K-1, in table order: both class lists are the whole table."""
    names, colors = _column(categories, "name"), _column(categories, "color")
    return {
        "thing_classes": names,
        "thing_colors": colors,
        "stuff_classes": [*names],
        "stuff_colors": [*colors],
        "thing_dataset_id_to_contiguous_id": {c["id"]: i for i, c in enumerate(categories) if c["isthing"]},
        "stuff_dataset_id_to_contiguous_id": {c["id"]: i for i, c in enumerate(categories) if not c["isthing"]},
    }


def _get_coco_instances_meta() -> dict[str, Any]:
    things = [c for c in COCO_CATEGORIES if c["isthing"]]
    return {
        "thing_dataset_id_to_contiguous_id": {c["id"]: i for i, c in enumerate(things)},
        "thing_classes": _column(things, "name"),
        "thing_colors": _column(things, "color"),
    }


def _get_coco_panoptic_separated_meta() -> dict[str, Any]:
    """Things and stuff each in a space of its own; stuff 0 stands for all things, stuff classes start at 1."""
    stuff = [c for c in COCO_CATEGORIES if not c["isthing"]]
    names = [name.removesuffix("-merged").removesuffix("-other") for name in _column(stuff, "name")]
    return {
        "stuff_dataset_id_to_contiguous_id": {c["id"]: i for i, c in enumerate(stuff, start=1)} | {0: 0},
        "stuff_classes": ["things", *names],
        "stuff_colors": [[82, 18, 128], *_column(stuff, "color")],
        **_get_coco_instances_meta(),
    }


def _get_coco_person_meta() -> dict[str, Any]:
    return {
        "thing_classes": ["person"],
        "keypoint_names": COCO_PERSON_KEYPOINT_NAMES,
        "keypoint_flip_map": COCO_PERSON_KEYPOINT_FLIP_MAP,
        "keypoint_connection_rules": KEYPOINT_CONNECTION_RULES,
    }


def _get_cityscapes_meta() -> dict[str, Any]:
    """Instances: the eight things; semantics: all 19 classes."""
    return {
        "thing_classes": [c["name"] for c in CITYSCAPES_CATEGORIES if c["isthing"]],
        "stuff_classes": _column(CITYSCAPES_CATEGORIES, "name"),
    }


def _get_builtin_metadata(dataset_name: str) -> dict[str, Any]:
    """Metadata of a family of data sets, newly made at each call; an unknown family is a KeyError."""
    makers = {
        "coco": _get_coco_instances_meta,
        "coco_panoptic_separated": _get_coco_panoptic_separated_meta,
        "coco_panoptic_standard": lambda: _joint_metadata(COCO_CATEGORIES),
        "coco_person": _get_coco_person_meta,
        "cityscapes": _get_cityscapes_meta,
    }
    if dataset_name not in makers:
        raise KeyError(f"there is no built-in metadata for '{dataset_name}', only for {', '.join(makers)}")
    return makers[dataset_name]()


@cache
def _lvis_table(version: str) -> dict[str, Any]:
    """version "v0.5" or "v1". names: of category ids 1, 2, ...; image_counts (v1): training images of each."""
    return _table(f"lvis_{version}")
