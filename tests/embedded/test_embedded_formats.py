"""Readers of `detectron2.data.datasets`: COCO, Cityscapes, panoptic json, folders of labels, Pascal VOC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.data.datasets import load_coco_json, load_sem_seg, register_coco_instances
from detectron2.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json, merge_to_panoptic
from PIL import Image
from pycocotools import mask as mask_util

from tests.places import EMBEDDED

embedded_only = pytest.mark.skipif(not EMBEDDED, reason="the real Detectron2 needs packages for this that few have")

COCO = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "height": 4, "width": 6},
        {"id": 3, "file_name": "b.jpg", "height": 4, "width": 6},
    ],
    "categories": [{"id": 9, "name": "nine"}, {"id": 4, "name": "four"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 3, 1, 3, 3], [0, 0]]},
        {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 1, 1], "segmentation": [[0, 0, 1, 1]]},
        {"id": 3, "image_id": 7, "category_id": 4, "bbox": [0, 0, 1, 4], "iscrowd": 1,
         "segmentation": {"size": [4, 6], "counts": [0, 4, 20]}},
    ],
}  # fmt: skip


@pytest.fixture
def coco_json(tmp_path: Path) -> str:
    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    return str(tmp_path / "coco.json")


def test_coco_categories_get_contiguous_ids_in_ascending_order(coco_json: str, data_set_name: str):
    register_coco_instances(data_set_name, {}, coco_json, "images")
    categories = [a["category_id"] for record in DatasetCatalog.get(data_set_name) for a in record["annotations"]]
    assert MetadataCatalog.get(data_set_name).thing_classes == ["four", "nine"]
    assert MetadataCatalog.get(data_set_name).thing_dataset_id_to_contiguous_id == {4: 0, 9: 1}
    assert categories == [1, 0]


def test_coco_records_come_by_image_id_also_without_annotations(coco_json: str):
    records = load_coco_json(coco_json, "images")
    assert [(r["image_id"], r["file_name"], len(r["annotations"])) for r in records] == [
        (3, "images/b.jpg", 0),
        (7, "images/a.jpg", 2),
    ]


def test_polygons_of_two_points_are_dropped_with_their_instance(coco_json: str):
    annotations = load_coco_json(coco_json, "")[1]["annotations"]
    assert annotations[0]["segmentation"] == [[1, 1, 3, 1, 3, 3]]
    assert [a["category_id"] for a in annotations] == [9, 4]


def test_uncompressed_rle_of_a_coco_file_can_be_decoded(coco_json: str):
    crowd = load_coco_json(coco_json, "")[1]["annotations"][1]
    assert mask_util.decode(crowd["segmentation"])[:, 0].tolist() == [1, 1, 1, 1]


def test_records_converted_to_coco_have_the_files_own_ids(coco_json: str, data_set_name: str):
    register_coco_instances(data_set_name, {}, coco_json, "images")
    converted = convert_to_coco_dict(data_set_name)
    assert [c["id"] for c in converted["categories"]] == [4, 9]
    assert [(a["id"], a["category_id"], a["area"], a["iscrowd"]) for a in converted["annotations"]] == [
        (1, 9, 2.0, 0),  # half of a 2 x 2 square
        (2, 4, 4.0, 1),
    ]
    json.dumps(converted)


def test_label_images_are_paired_by_name_and_the_rest_left_out(tmp_path: Path):
    for file in ("images/b.jpg", "images/a.jpg", "images/c.jpg", "labels/a.png", "labels/b.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    records = load_sem_seg(str(tmp_path / "labels"), str(tmp_path / "images"))
    assert [(Path(r["file_name"]).name, Path(r["sem_seg_file_name"]).name) for r in records] == [
        ("a.jpg", "a.png"),
        ("b.jpg", "b.png"),
    ]


PANOPTIC_META = {"thing_dataset_id_to_contiguous_id": {24: 5}, "stuff_dataset_id_to_contiguous_id": {7: 0}}
SEGMENTS = [{"id": 24001, "category_id": 24, "iscrowd": 0}, {"id": 7, "category_id": 7, "iscrowd": 0}]


def test_panoptic_segments_get_contiguous_ids_and_a_thing_flag(tmp_path: Path):
    annotation = {"image_id": "12", "file_name": "12.png", "segments_info": SEGMENTS}
    (tmp_path / "panoptic.json").write_text(json.dumps({"annotations": [annotation]}))
    (tmp_path / "12.png").touch()
    (tmp_path / "12.jpg").touch()
    (record,) = load_coco_panoptic_json(str(tmp_path / "panoptic.json"), str(tmp_path), str(tmp_path), PANOPTIC_META)
    assert record["image_id"] == 12
    assert [(s["category_id"], s["isthing"]) for s in record["segments_info"]] == [(5, True), (0, False)]


def test_cityscapes_panoptic_finds_the_files_of_all_three_kinds(tmp_path: Path):
    stem = "ulm_000001_000019"
    files = [f"leftImg8bit/ulm/{stem}_leftImg8bit.png", f"gtFine/ulm/{stem}_gtFine_labelTrainIds.png", "pan/p.png"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    annotation = {"image_id": stem, "file_name": "p.png", "segments_info": SEGMENTS}
    (tmp_path / "pan.json").write_text(json.dumps({"annotations": [annotation]}))
    folders = (str(tmp_path / folder) for folder in ("leftImg8bit", "pan", "pan.json"))
    (record,) = load_cityscapes_panoptic(*folders, PANOPTIC_META)
    keys = ("file_name", "sem_seg_file_name", "pan_seg_file_name")
    assert [record[key] for key in keys] == [str(tmp_path / file) for file in files]
    assert record["image_id"] == stem and [s["category_id"] for s in record["segments_info"]] == [5, 0]


def test_instances_and_labels_of_one_image_are_merged():
    instances = [{"file_name": "a", "annotations": [1]}]
    labels = [{"file_name": "b", "sem_seg_file_name": "y"}, {"file_name": "a", "sem_seg_file_name": "x"}]
    assert merge_to_panoptic(instances, labels) == [{"file_name": "a", "annotations": [1], "sem_seg_file_name": "x"}]


@embedded_only
def test_cityscapes_instances_are_read_from_their_png(tmp_path: Path):
    from detectron2.data.datasets.cityscapes import load_cityscapes_instances

    ids = np.zeros((4, 6), dtype=np.uint16)
    ids[1:3, 1:4], ids[3, 4:], ids[0, 0] = 26001, 26, 7  # a car, cars as a crowd one pixel high, road
    for folder in ("images", "truth"):
        (tmp_path / folder / "ulm").mkdir(parents=True)
    (tmp_path / "images/ulm/x_leftImg8bit.png").touch()
    Image.fromarray(ids).save(tmp_path / "truth/ulm/x_gtFine_instanceIds.png")
    folders = (str(tmp_path / "images"), str(tmp_path / "truth"))
    (record,) = load_cityscapes_instances(*folders, from_json=False, to_polygons=False)
    (car,) = record["annotations"]
    assert (car["category_id"], car["iscrowd"], car["bbox"]) == (2, False, (1, 1, 3, 2))
    assert mask_util.area(car["segmentation"]) == 6


@embedded_only
def test_a_later_cityscapes_polygon_covers_an_earlier_one(tmp_path: Path):
    pytest.importorskip("shapely")
    from detectron2.data.datasets.cityscapes import load_cityscapes_instances

    car, people = [[0, 2], [9, 2], [9, 6], [0, 6]], [[6, 0], [12, 0], [12, 8], [6, 8]]
    objects = [{"label": "car", "polygon": car}, {"label": "persongroup", "polygon": people}]
    for folder in ("images", "truth"):
        (tmp_path / folder / "ulm").mkdir(parents=True)
    (tmp_path / "images/ulm/x_leftImg8bit.png").touch()
    content = json.dumps({"imgHeight": 20, "imgWidth": 20, "objects": objects})
    (tmp_path / "truth/ulm/x_gtFine_polygons.json").write_text(content)
    (record,) = load_cityscapes_instances(str(tmp_path / "images"), str(tmp_path / "truth"))
    # Pixels 6..12 with their whole area reach from 6 to 13, pixels 0..9 from 0 to 10, of which people cover 6 to 10.
    found = [(a["category_id"], a["iscrowd"], a["bbox"][::2]) for a in record["annotations"]]
    assert found == [(0, True, (6, 13)), (2, False, (0, 6))]


@embedded_only
@pytest.mark.parametrize(
    "call",
    [
        utils.transform_proposals,
        lambda: DatasetCatalog.get("lvis_v1_val"),
        lambda: DatasetCatalog.get("voc_2007_val"),
    ],
)
def test_what_is_left_out_says_how_to_install_the_real_one(call: Any):
    with pytest.raises(ImportError, match="pip install"):
        call()
