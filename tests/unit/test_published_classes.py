"""The classes of the published data sets: their order, ids and colors are as they were before they had a table."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former_ext.classes import APART, METADATA_KEY, from_metadata
from mask2former_ext.data import register_all
from mask2former_ext.data.sets.published import class_table, require_class_table

# Of thing_ and stuff_ classes, colors and ids, as recorded before Metadata were filled from tables.
DIGESTS = {
    "ade20k_full_sem_seg_train": "ce478222196c02df",
    "ade20k_instance_train": "4f49fb576f6f078b",
    "ade20k_panoptic_train": "5cc03d45e9ab2100",
    "coco_2017_train_panoptic_with_sem_seg": "1acf803a41a3a0a2",
    "coco_2017_train_stuff_10k_sem_seg": "fc862a323f2a50e3",
    "mapillary_vistas_panoptic_train": "ebeb81ac1beeec8a",
    "mapillary_vistas_sem_seg_train": "9fe6afde1198bf5d",
    "shapes_train": "985ac08e4c5cc267",
}
PARTS = [f"{kind}_{part}" for kind in ("thing", "stuff") for part in ("classes", "colors")]


@pytest.fixture(autouse=True, scope="module")
def _registered():
    register_all()


def plain(value: Any) -> Any:
    """Pairs of ints in place of a map, lists in place of tuples."""
    if isinstance(value, dict):
        return sorted((int(i), int(k)) for i, k in value.items())
    return [list(one) if isinstance(one, list | tuple) else one for one in value or []] or None


@pytest.mark.parametrize("name", DIGESTS)
def test_names_ids_and_colors_of_a_published_set_are_as_recorded(name: str):
    metadata = MetadataCatalog.get(name)
    keys = [f"{kind}_{w}" for kind in ("thing", "stuff") for w in ("classes", "colors", "dataset_id_to_contiguous_id")]
    content = json.dumps([plain(metadata.get(key)) for key in keys])
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == DIGESTS[name]


def test_a_table_says_the_same_as_the_metadata_that_it_filled():
    tables = {name: MetadataCatalog.get(name).get(METADATA_KEY) for name in DatasetCatalog.list()}
    filled = {name: table for name, table in tables.items() if table is not None}
    assert filled.keys() >= DIGESTS.keys()
    for name, table in filled.items():
        metadata = MetadataCatalog.get(name)
        stuff, things = metadata.get("stuff_classes"), metadata.get("thing_classes")
        assert stuff in (None, table.label_names), name
        assert things in (None, list(table.thing_names.values()), list(table.names)), name
        assert plain(metadata.get("stuff_colors")) in (None, [list(color) for color in table.colors]), name
        assert metadata.get("thing_dataset_id_to_contiguous_id") in (None, table.thing_of_id), name
        assert metadata.get("stuff_dataset_id_to_contiguous_id") in (None, table.label_of_id), name


@pytest.mark.parametrize(
    "name", ["ade20k_sem_seg_train", "cityscapes_fine_sem_seg_val", "cityscapes_fine_instance_seg_val"]
)
def test_a_set_without_colors_has_those_of_its_panoptic_set(name: str):
    table = class_table(name)
    panoptic = class_table(name.split("_sem")[0].split("_inst")[0] + "_panoptic_val")
    color_of = dict(zip(panoptic.names, panoptic.colors, strict=True))
    assert table.colors == tuple(color_of[one] for one in table.names) and None not in table.colors


def test_every_set_of_detectron2_that_names_classes_has_a_table():
    for name in DatasetCatalog.list():
        metadata = MetadataCatalog.get(name)
        named = bool(metadata.get("thing_classes") or metadata.get("stuff_classes"))
        assert (class_table(name) is not None) == named, name


@pytest.mark.parametrize(
    ("name", "things", "labels"),
    [
        ("coco_2017_train", 80, 80),
        ("coco_2017_train_panoptic", 80, 133),
        ("coco_2017_train_panoptic_separated", 80, 54),
        ("cityscapes_fine_panoptic_train", 8, 19),
        ("cityscapes_fine_instance_seg_train", 8, 8),
        ("cityscapes_fine_sem_seg_train", 8, 19),
        ("ade20k_sem_seg_train", 0, 150),
        ("lvis_v1_train", 1203, 1203),
    ],
)
def test_the_numbers_of_things_and_labels_of_detectron2s_sets(name: str, things: int, labels: int):
    table = require_class_table(name)
    assert (len(table.things), len(table.label_names)) == (things, labels)
    assert (table.numbering == APART) == name.endswith("separated")


def test_of_cityscapes_the_visualizer_reads_two_lists():
    table = from_metadata(MetadataCatalog.get("cityscapes_fine_instance_seg_train"))
    assert table is not None and table.name(0, is_thing=True) == "person" and table.name(0) == "road"
