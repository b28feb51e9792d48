"""The user's own data from the configuration alone: names, maps, records and what breaks a rule."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former_ext.config import add_config
from mask2former_ext.data import class_names, class_table, num_classes, prepare_data, register_custom

NAME = "a_set_of_the_custom_tests"
# Ids with a gap, out of order, things and stuff mixed: contiguous ids follow the ascending order of the ids.
CATEGORIES = [
    {"id": 90, "name": "cat", "isthing": 1},
    {"id": 7, "name": "sky", "isthing": 0},
    {"id": 30, "name": "dog", "isthing": 1},
]
CONTIGUOUS = {7: 0, 30: 1, 90: 2}


@pytest.fixture(autouse=True)
def clean_catalogs() -> Iterator[None]:
    yield
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 4 x 6 with all three forms of truth; the second shows nothing but sky."""
    ids = {"a": np.array([[1, 1, 2, 2, 3, 3]] * 4), "b": np.full((4, 6), 1)}
    for name in ("images", "panoptic", "semantic"):
        (tmp_path / name).mkdir()
    for stem, pixels in ids.items():
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "images" / f"{stem}.jpg")
        png = np.stack([pixels, 0 * pixels, 0 * pixels], axis=2).astype(np.uint8)
        Image.fromarray(png).save(tmp_path / "panoptic" / f"{stem}.png")
        Image.fromarray((pixels - 1).astype(np.uint8)).save(tmp_path / "semantic" / f"{stem}.png")
    write(tmp_path / "panoptic.json", panoptic_json())
    write(tmp_path / "instances.json", instances_json())
    return tmp_path


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def images() -> list[dict[str, Any]]:
    return [
        {"id": number, "file_name": f"{stem}.jpg", "height": 4, "width": 6} for number, stem in ((8, "a"), (5, "b"))
    ]


def panoptic_json() -> dict[str, Any]:
    segments = [{"id": n, "category_id": c, "iscrowd": int(c == 30)} for n, c in ((1, 7), (2, 30), (3, 90))]
    annotations = [
        {"image_id": 8, "file_name": "a.png", "segments_info": segments},
        {"image_id": 5, "file_name": "b.png", "segments_info": segments[:1]},
    ]
    return {"images": images(), "annotations": annotations, "categories": deepcopy(CATEGORIES)}


def instances_json() -> dict[str, Any]:
    cat = {"id": 1, "image_id": 8, "category_id": 90, "bbox": [4, 0, 2, 4], "segmentation": [[4, 0, 6, 0, 6, 4, 4, 4]]}
    sky = {"id": 2, "image_id": 5, "category_id": 7, "bbox": [0, 0, 6, 4], "segmentation": [[0, 0, 6, 0, 6, 4, 0, 4]]}
    return {"images": images(), "annotations": [cat, sky], "categories": deepcopy(CATEGORIES)}


def entry(folder: Path, *kinds: str, **changes: Any) -> dict[str, Any]:
    paths = {
        "panoptic": {"PANOPTIC_JSON": str(folder / "panoptic.json"), "PANOPTIC_MASKS": str(folder / "panoptic")},
        "instances": {"INSTANCES": str(folder / "instances.json")},
        "semantic": {"SEMANTIC_MASKS": str(folder / "semantic")},
    }
    result = {"NAME": NAME, "IMAGES": str(folder / "images")}
    for kind in kinds:
        result.update(paths[kind])
    return {**result, **changes}


def register(*entries: Any, root: str = "") -> None:
    cfg = get_cfg()
    add_config(cfg)
    cfg.DATASETS.CUSTOM = list(entries)
    cfg.DATASETS.ROOT = root
    register_custom(cfg)


def test_contiguous_ids_follow_the_ascending_order_of_the_jsons_ids(folder: Path) -> None:
    register(entry(folder, "panoptic"))
    metadata = MetadataCatalog.get(NAME)
    assert metadata.stuff_classes == ["sky", "dog", "cat"] and num_classes(NAME) == 3
    assert metadata.stuff_dataset_id_to_contiguous_id == CONTIGUOUS
    assert metadata.thing_dataset_id_to_contiguous_id == {30: 1, 90: 2}


def test_panoptic_truth_of_things_alone_has_labels_too(folder: Path) -> None:
    content = json.loads((folder / "panoptic.json").read_text())
    for category in content["categories"]:
        category["isthing"] = 1
    (folder / "panoptic.json").write_text(json.dumps(content))
    register(entry(folder, "panoptic"))
    assert MetadataCatalog.get(NAME).stuff_dataset_id_to_contiguous_id == CONTIGUOUS


@pytest.mark.parametrize("colors", [["#ff0000"] * 3, [[0, 0, 0], [1, 1, 1], None]])
def test_colors_that_are_none_are_left_out_with_a_line(folder: Path, colors: list, caplog) -> None:
    content = json.loads((folder / "panoptic.json").read_text())
    for category, color in zip(content["categories"], colors, strict=True):
        category["color"] = color
    (folder / "panoptic.json").write_text(json.dumps(content))
    with caplog.at_level("INFO"):
        register(entry(folder, "panoptic"))
    assert class_table(NAME).colors == () and "panoptic.json: the colors are left out" in caplog.text


def test_colors_of_the_entry_stand_in_the_table(folder: Path) -> None:
    register(entry(folder, "panoptic", COLORS={"sky": "#0a0B0c", "cat": [200, 100, 50]}))
    assert class_table(NAME).colors == ((10, 11, 12), None, (200, 100, 50))


def test_colors_of_the_entry_go_before_those_of_the_json(folder: Path) -> None:
    content = json.loads((folder / "panoptic.json").read_text())
    for category in content["categories"]:
        category["color"] = [category["id"]] * 3
    write(folder / "panoptic.json", content)
    register(entry(folder, "panoptic", COLORS={"dog": "tan"}))
    assert class_table(NAME).colors == ((7, 7, 7), (210, 180, 140), (90, 90, 90))


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        (["red"], r"\(a_set_of_the_custom_tests\): COLORS is \['red'\], but must map class names to colors"),
        ({"sky": "sky-high"}, "COLORS has 'sky-high' for 'sky', but a color is three numbers in 0..255, or a string"),
        ({"sky": [1, 2, 256]}, r"COLORS has \[1, 2, 256\] for 'sky', but a color is three numbers"),
        ({"ski": "red"}, "names the class 'ski', but the nearest there is 'sky'"),
    ],
)
def test_colors_that_cannot_be_are_named(folder: Path, colors: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register(entry(folder, "panoptic", COLORS=colors))


def test_an_id_that_is_no_number_is_named_with_its_file(folder: Path) -> None:
    content = json.loads((folder / "panoptic.json").read_text())
    for category in content["categories"]:
        category["id"] = str(category["id"])
    (folder / "panoptic.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"panoptic\.json: classes: a dataset id is '30', but must be a whole number"):
        register(entry(folder, "panoptic"))


def test_panoptic_records_have_files_sizes_and_contiguous_segments(folder: Path) -> None:
    register(entry(folder, "panoptic"))
    first = DatasetCatalog.get(NAME)[0]
    assert first["file_name"] == str(folder / "images" / "a.jpg")
    assert (first["image_id"], first["height"], first["width"]) == (8, 4, 6)
    assert first["segments_info"] == [
        {"id": 1, "category_id": 0, "iscrowd": 0, "isthing": False},
        {"id": 2, "category_id": 1, "iscrowd": 1, "isthing": True},
        {"id": 3, "category_id": 2, "iscrowd": 0, "isthing": True},
    ]


def test_instances_beside_panoptic_keep_the_things_alone(folder: Path) -> None:
    register(entry(folder, "panoptic", "instances"))
    assert [[a["category_id"] for a in record["annotations"]] for record in DatasetCatalog.get(NAME)] == [[2], []]


def test_instances_alone_make_every_category_a_thing(folder: Path) -> None:
    register(entry(folder, "instances"))
    assert MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id == CONTIGUOUS
    assert [len(record["annotations"]) for record in DatasetCatalog.get(NAME)] == [1, 1]


def test_semantic_masks_take_their_names_from_the_yaml(folder: Path) -> None:
    register(entry(folder, "semantic", CLASSES=["sky", "dog", "cat"]))
    records = DatasetCatalog.get(NAME)
    assert class_names(NAME) == ["sky", "dog", "cat"]
    assert records[1]["sem_seg_file_name"] == str(folder / "semantic" / "b.png")


def test_classes_in_the_yaml_order_the_categories_of_instances(folder: Path) -> None:
    register(entry(folder, "instances", CLASSES=["void", "cat", "dog", "sky"]))
    assert MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id == {7: 3, 30: 2, 90: 1}


def test_images_are_found_by_stem_where_the_json_does_not_list_them(folder: Path) -> None:
    content = panoptic_json()
    del content["images"]
    write(folder / "panoptic.json", content)
    register(entry(folder, "panoptic"))
    assert DatasetCatalog.get(NAME)[0]["file_name"] == str(folder / "images" / "a.jpg")


def test_relative_paths_lie_under_the_root_of_the_data_sets(folder: Path) -> None:
    register({"NAME": NAME, "IMAGES": "images", "INSTANCES": "instances.json"}, root=str(folder))
    assert DatasetCatalog.get(NAME)[0]["file_name"] == str(folder / "images" / "a.jpg")


def test_the_root_of_the_data_sets_may_come_from_the_environment(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder))
    register({"NAME": NAME, "IMAGES": "images", "INSTANCES": "instances.json"})
    assert MetadataCatalog.get(NAME).image_root == str(folder / "images")


def test_the_same_entry_may_be_registered_again(folder: Path) -> None:
    register(entry(folder, "panoptic"))
    register(entry(folder, "panoptic"))
    assert len(DatasetCatalog.get(NAME)) == 2


def test_no_image_is_looked_for_at_registration(folder: Path) -> None:
    register(entry(folder, "panoptic", IMAGES=str(folder / "absent")))
    assert num_classes(NAME) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"INSTANCE": "x.json"}, "unknown key 'INSTANCE'; the nearest known one is INSTANCES"),
        ({"IMAGES": ""}, "has no IMAGES"),
        ({"PANOPTIC_MASKS": ""}, "PANOPTIC_JSON and PANOPTIC_MASKS .* together"),
        ({"CLASSES": ["a"]}, "CLASSES is for data whose json does not name them"),
        ({"PANOPTIC_JSON": "/absent.json"}, "/absent.json: cannot be read as json"),
    ],
)
def test_rejects_an_entry_that_breaks_a_rule(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register(entry(folder, "panoptic", **changes))


def test_rejects_an_entry_without_truth(folder: Path) -> None:
    with pytest.raises(ValueError, match="has no truth"):
        register(entry(folder))


def test_rejects_semantic_masks_without_names(folder: Path) -> None:
    with pytest.raises(ValueError, match="list them in CLASSES"):
        register(entry(folder, "semantic"))


def test_rejects_an_entry_that_is_not_a_mapping() -> None:
    with pytest.raises(ValueError, match=r"DATASETS.CUSTOM\[0\] is 'shapes'"):
        register("shapes")


def test_rejects_a_name_that_another_data_set_has(folder: Path) -> None:
    with pytest.raises(ValueError, match="'coco_2017_val' is taken"):
        register(entry(folder, "panoptic", NAME="coco_2017_val"))


def broken(folder: Path, change: Any) -> None:
    content = panoptic_json()
    change(content)
    write(folder / "panoptic.json", content)
    register(entry(folder, "panoptic"))
    DatasetCatalog.get(NAME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "categories is missing"),
        (lambda c: c["categories"][0].pop("isthing"), "isthing is missing"),
        (lambda c: c["categories"].append(CATEGORIES[0]), "category id 90 stands twice"),
        (lambda c: c["images"].append(images()[0]), "image id 8 stands twice"),
        (lambda c: c["images"].pop(), "image_id 5 of an annotation is not in `images`"),
        (lambda c: c["annotations"][1].update(image_id=8), "image_id 8 has two annotations"),
        (lambda c: c["annotations"][0]["segments_info"][0].update(category_id=8), "a.png: segment 1: category_id 8"),
        (lambda c: c["annotations"][0]["segments_info"][1].update(id=1), "a.png: segment 1: a segment id must be uniq"),
    ],
)
def test_rejects_a_panoptic_json_at_odds_with_itself(folder: Path, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        broken(folder, change)


def test_rejects_instances_that_number_their_images_otherwise(folder: Path) -> None:
    content = instances_json()
    content["images"][0]["file_name"] = "c.jpg"
    write(folder / "instances.json", content)
    register(entry(folder, "panoptic", "instances"))
    with pytest.raises(ValueError, match="image id 8 is 'c.jpg', but 'a.jpg'"):
        DatasetCatalog.get(NAME)


def test_rejects_instances_that_name_their_classes_otherwise(folder: Path) -> None:
    content = instances_json()
    content["categories"] = [{"id": 90, "name": "cow"}]
    write(folder / "instances.json", content)
    with pytest.raises(ValueError, match="category 90 'cow' is not the same"):
        register(entry(folder, "panoptic", "instances"))


def test_annotations_without_an_area_are_left_out_with_a_warning(folder: Path, monkeypatch: Any) -> None:
    warnings: list[str] = []
    logger = logging.getLogger("mask2former_ext.data.sets.records")
    monkeypatch.setattr(logger, "warning", lambda message, *values: warnings.append(message % values))
    content = instances_json()
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    write(folder / "instances.json", content)
    register(entry(folder, "instances"))
    assert [len(record["annotations"]) for record in DatasetCatalog.get(NAME)] == [0, 1]
    assert warnings[0].endswith("left out 1 annotations without a segmentation of at least three points")


@pytest.mark.parity
def test_real_panoptic_data_is_registered_as_it_is(real_data_dir: Path) -> None:
    root = real_data_dir / "facades"
    paths = {"PANOPTIC_JSON": str(root / "panoptic_val.json"), "PANOPTIC_MASKS": str(root / "panoptic_val")}
    instances = str(root / "instances_val.json")
    register({"NAME": NAME, "IMAGES": str(root / "val"), "INSTANCES": instances, **paths})
    assert len(DatasetCatalog.get(NAME)) == 116 and num_classes(NAME) == 10
    assert len(MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id) == 5


def test_the_number_of_classes_follows_from_the_data_when_it_is_not_given(tmp_path):
    cfg = get_cfg()
    add_config(cfg)
    cfg.DATASETS.ROOT, cfg.DATASETS.TRAIN = str(tmp_path), ("shapes_train",)
    prepare_data(cfg)
    assert cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES == 9  # 6 things and 3 kinds of stuff
