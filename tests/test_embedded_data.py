"""`detectron2.data`, the same under both providers: the real Detectron2 and the embedded one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import detectron2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    DatasetMapper,
    MapDataset,
    Metadata,
    MetadataCatalog,
    build,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import detection_utils as utils
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.datasets import load_coco_json, load_sem_seg, load_voc_instances, register_coco_instances
from detectron2.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json, merge_to_panoptic
from detectron2.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.structures import BoxMode
from detectron2.utils import comm
from PIL import Image
from pycocotools import mask as mask_util

EMBEDDED = getattr(detectron2, "__embedded__", False)
embedded_only = pytest.mark.skipif(not EMBEDDED, reason="the real Detectron2 needs packages for this that few have")

NAMES_AND_DIGESTS = json.loads((Path(__file__).parent / "detectron2_datasets.json").read_text())


def canonical(value: Any, root: str) -> Any:
    """The value with sorted dicts and with paths that do not depend on where the data lies."""
    if isinstance(value, dict):
        return sorted((repr(key), canonical(entry, root)) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [canonical(entry, root) for entry in value]
    return value.replace(root, "ROOT") if isinstance(value, str) else value


def metadata_digest(name: str) -> str:
    root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    return hashlib.sha256(repr(canonical(MetadataCatalog.get(name).as_dict(), root)).encode()).hexdigest()[:16]


@pytest.fixture
def name() -> Iterator[str]:
    """A data set name, free again after the test."""
    yield "a_test_data_set"
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "a_test_data_set" in catalog:
            catalog.remove("a_test_data_set")


@pytest.fixture
def as_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make this process look like one of several."""

    def pretend(rank: int, world_size: int) -> None:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        for module in (comm, build):
            monkeypatch.setattr(module, "get_world_size", lambda: world_size)

    return pretend


# Catalogs


@pytest.mark.parametrize("builtin", NAMES_AND_DIGESTS)
def test_a_builtin_data_set_has_the_metadata_recorded_from_detectron2(builtin: str):
    assert builtin in DatasetCatalog
    assert metadata_digest(builtin) == NAMES_AND_DIGESTS[builtin]


def test_nothing_but_detectron2s_data_sets_is_registered_at_import():
    code = "from detectron2.data import DatasetCatalog; print(*DatasetCatalog.list())"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.split("\n")[-2].split() == [*NAMES_AND_DIGESTS]


def test_a_data_set_name_cannot_be_registered_twice(name: str):
    DatasetCatalog.register(name, lambda: [])
    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register(name, lambda: [])


def test_an_unknown_data_set_is_named_in_the_error():
    with pytest.raises(KeyError, match="no_such_data"):
        DatasetCatalog.get("no_such_data")


def test_metadata_can_be_set_again_only_to_an_equal_value(name: str):
    metadata = MetadataCatalog.get(name).set(thing_classes=["a"])
    metadata.thing_classes = ["a"]
    with pytest.raises(AssertionError, match="thing_classes"):
        metadata.thing_classes = ["b"]


def test_missing_metadata_is_an_attribute_error_with_the_data_sets_name():
    with pytest.raises(AttributeError, match="'mine'"):
        _ = Metadata(name="mine", thing_classes=[]).stuff_classes
    assert Metadata(name="mine").get("stuff_classes", 5) == 5


# Records


def test_records_are_pickled_once_however_often_they_are_read():
    class Counted:
        pickled = 0

        def __reduce__(self):
            Counted.pickled += 1
            return dict, ()

    dataset = DatasetFromList([Counted(), Counted()])
    assert [dataset[0], dataset[1], dataset[0]] == [{}, {}, {}]
    assert Counted.pickled == 2


def test_a_changed_record_leaves_the_stored_one_as_it_was():
    dataset = DatasetFromList([{"a": [1]}])
    dataset[0]["a"].append(2)
    assert dataset[0] == {"a": [1]}


def test_sending_a_data_set_to_a_worker_sends_a_handle_and_not_the_records():
    dataset = DatasetFromList([{"text": "x" * 100_000}] * 10)
    assert len(ForkingPickler.dumps(dataset)) < 10_000


def test_a_mapped_data_set_with_a_lambda_can_be_pickled():
    dataset = MapDataset(DatasetFromList([1, 2]), lambda x: x * 10)
    assert pickle.loads(pickle.dumps(dataset))[1] == 20


def test_where_the_mapper_gives_none_another_record_takes_the_place():
    dataset = MapDataset(DatasetFromList([1, 2, 3]), lambda x: None if x == 2 else x)
    assert dataset[1] in (1, 3)


def test_batches_by_aspect_ratio_hold_wide_or_high_images_only():
    sizes = [(4, 2), (2, 4), (5, 2), (3, 3)]  # width, height; a square counts as high
    records = [{"width": w, "height": h} for w, h in sizes]
    batches = [[r["width"] for r in batch] for batch in AspectRatioGroupedDataset(records, 2)]
    assert batches == [[4, 5], [2, 3]]


# Samplers


def test_two_processes_at_inference_see_every_record_once(as_process: Any):
    seen = []
    for rank in range(2):
        as_process(rank, 2)
        seen.append(list(InferenceSampler(5)))
    assert seen == [[0, 1, 2], [3, 4]]


def test_two_processes_in_training_share_one_shuffled_stream(as_process: Any):
    as_process(0, 1)
    stream = list(islice(TrainingSampler(5, seed=7), 20))
    parts = []
    for rank in range(2):
        as_process(rank, 2)
        parts.append(list(islice(TrainingSampler(5, seed=7), 10)))
    assert [parts[i % 2][i // 2] for i in range(20)] == stream
    assert all(sorted(stream[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 20, 5))


def test_rare_categories_repeat_their_images():
    # Category 0 is in 2 of 3 images, category 1 in 1 of 3: factors max(1, sqrt(0.5 / f)) are 1 and sqrt(1.5).
    records = [{"annotations": [{"category_id": c} for c in ids]} for ids in ([0, 1], [0], [])]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 0.5)
    torch.testing.assert_close(factors, torch.tensor([1.5**0.5, 1.0, 1.0]))


def test_whole_repeat_factors_give_exactly_so_many_repeats():
    sampler = RepeatFactorTrainingSampler(torch.tensor([2.0, 1.0, 3.0]), seed=1)
    assert sorted(islice(sampler, 6)) == [0, 0, 1, 2, 2, 2]


def test_a_random_subset_is_the_same_in_every_epoch():
    stream = list(islice(RandomSubsetTrainingSampler(10, 0.3, seed_shuffle=1, seed_subset=2), 30))
    assert all(sorted(stream[i : i + 3]) == sorted(stream[:3]) for i in range(0, 30, 3))


# Loaders


def test_the_test_loader_with_workers_gives_every_record_in_order():
    loader = build_detection_test_loader(dataset=list(range(7)), mapper=lambda x: x + 100, batch_size=2, num_workers=2)
    assert list(loader) == [[100, 101], [102, 103], [104, 105], [106]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_train_loader_follows_its_sampler_whatever_the_number_of_workers(num_workers: int):
    loader = build_detection_train_loader(
        dataset=list(range(10)),
        mapper=lambda x: x,
        sampler=TrainingSampler(10, seed=3),
        total_batch_size=2,
        aspect_ratio_grouping=False,
        num_workers=num_workers,
    )
    batches = list(islice(loader, 5))
    assert [x for batch in batches for x in batch] == list(islice(TrainingSampler(10, seed=3), 10))


def test_an_odd_batch_over_two_processes_is_refused(as_process: Any):
    as_process(0, 2)
    with pytest.raises(AssertionError, match="3"):
        sampler = TrainingSampler(2, seed=0)
        build_detection_train_loader(dataset=[1, 2], mapper=None, sampler=sampler, total_batch_size=3)


def test_images_with_only_crowds_are_left_out_of_training(name: str):
    crowd, single = {"category_id": 0, "iscrowd": 1}, {"category_id": 0, "iscrowd": 0}
    records = [{"image_id": i, "annotations": a} for i, a in enumerate([[crowd], [crowd, single], []])]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).thing_classes = ["a"]
    assert [r["image_id"] for r in get_detection_dataset_dicts(name)] == [1]
    assert len(get_detection_dataset_dicts(name, filter_empty=False)) == 3


def test_a_category_outside_of_the_classes_stops_the_loading(name: str):
    DatasetCatalog.register(name, lambda: [{"annotations": [{"category_id": 2}]}])
    MetadataCatalog.get(name).thing_classes = ["a", "b"]
    with pytest.raises(AssertionError, match="category.*2"):
        get_detection_dataset_dicts(name)


# Images and annotations


def test_an_image_is_turned_as_its_exif_orientation_says(tmp_path: Path):
    stored = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # show it turned clockwise by 90 degrees
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    upright = utils.read_image(str(tmp_path / "turned.png"), "L")
    assert upright[:, :, 0].tolist() == [[4, 1], [5, 2], [6, 3]]


def test_image_formats_are_those_asked_for(tmp_path: Path):
    Image.fromarray(np.full((2, 3, 3), (10, 20, 30), dtype=np.uint8)).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    assert utils.read_image(path, "BGR")[0, 0].tolist() == [30, 20, 10]
    assert utils.read_image(path, "L").shape == (2, 3, 1)
    yuv = utils.read_image(path, "YUV-BT.601")
    assert yuv[0, 0, 0] == pytest.approx((0.299 * 10 + 0.587 * 20 + 0.114 * 30) / 255)
    np.testing.assert_allclose(utils.convert_image_to_rgb(yuv, "YUV-BT.601")[0, 0], [10, 20, 30], atol=0.01)


def test_an_image_of_another_size_than_its_record_is_refused():
    with pytest.raises(utils.SizeMismatchError, match="a.png"):
        utils.check_image_size({"file_name": "a.png", "height": 4, "width": 5}, np.zeros((4, 6, 3)))


def test_a_record_without_size_gets_that_of_the_image():
    record: dict[str, Any] = {}
    utils.check_image_size(record, np.zeros((4, 6, 3)))
    assert record == {"height": 4, "width": 6}


def test_polygons_rle_and_arrays_become_the_same_bitmask():
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1:3, 1:5] = 1
    forms = [[[1, 1, 5, 1, 5, 3, 1, 3]], mask_util.encode(np.asfortranarray(mask)), mask]
    box = {"bbox": [1, 1, 5, 3], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    instances = utils.annotations_to_instances([{**box, "segmentation": f} for f in forms], (4, 6), "bitmask")
    assert (instances.gt_masks.tensor == torch.from_numpy(mask).bool()).all()


def test_instances_emptied_by_a_crop_are_filtered_with_their_labels():
    boxes = [[0, 0, 2, 2], [3, 3, 3, 5]]
    annotations = [{"bbox": b, "bbox_mode": BoxMode.XYXY_ABS, "category_id": i} for i, b in enumerate(boxes)]
    kept, mask = utils.filter_empty_instances(utils.annotations_to_instances(annotations, (6, 6)), return_mask=True)
    assert kept.gt_classes.tolist() == [0] and mask.tolist() == [True, False]


def test_flipped_keypoints_exchange_left_and_right():
    assert utils.create_keypoint_hflip_indices("keypoints_coco_2017_val")[:5] == [0, 2, 1, 4, 3]


def made_record(folder: Path) -> dict[str, Any]:
    """A 4 x 6 image, black but for one object: columns 1 to 3 of rows 1 and 2."""
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    image[1:3, 1:4] = (255, 0, 0)
    Image.fromarray(image).save(folder / "image.png")
    Image.fromarray((image[:, :, 0] > 0).astype(np.uint8)).save(folder / "labels.png")
    polygon = [1, 1, 4, 1, 4, 3, 1, 3]
    annotation = {"bbox": [1, 1, 3, 2], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2, "segmentation": [polygon]}
    crowd = {**annotation, "iscrowd": 1}
    files = {"file_name": str(folder / "image.png"), "sem_seg_file_name": str(folder / "labels.png")}
    return {**files, "annotations": [annotation, crowd]}


def mapper_config() -> Any:
    """Short side 8, no flip, RGB, masks as bitmaps."""
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (8,), 8
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MASK_FORMAT, cfg.INPUT.FORMAT = "none", "bitmask", "RGB"
    cfg.MODEL.MASK_ON = True
    return cfg


def test_the_mapper_doubles_image_boxes_masks_and_labels_together(tmp_path: Path):
    output = DatasetMapper(mapper_config(), True)(made_record(tmp_path))
    instances = output["instances"]
    assert output["image"].shape == (3, 8, 12) and (output["height"], output["width"]) == (4, 6)
    assert instances.gt_boxes.tensor.tolist() == [[2, 2, 8, 6]] and instances.gt_classes.tolist() == [2]
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[2:6, 2:8] = True
    assert torch.equal(instances.gt_masks.tensor[0], expected)
    assert torch.equal(output["sem_seg"], expected.long())


def test_the_mapper_at_inference_gives_no_instances(tmp_path: Path):
    output = DatasetMapper(mapper_config(), False)(made_record(tmp_path))
    assert "instances" not in output and "annotations" not in output


def test_the_mapper_leaves_the_record_as_it_was(tmp_path: Path):
    record = made_record(tmp_path)
    before = pickle.dumps(record)
    DatasetMapper(mapper_config(), True)(record)
    assert pickle.dumps(record) == before


# Formats


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


def test_coco_categories_get_contiguous_ids_in_ascending_order(coco_json: str, name: str):
    register_coco_instances(name, {}, coco_json, "images")
    categories = [a["category_id"] for record in DatasetCatalog.get(name) for a in record["annotations"]]
    assert MetadataCatalog.get(name).thing_classes == ["four", "nine"]
    assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == {4: 0, 9: 1}
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


def test_records_converted_to_coco_have_the_files_own_ids(coco_json: str, name: str):
    register_coco_instances(name, {}, coco_json, "images")
    converted = convert_to_coco_dict(name)
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
@pytest.mark.parametrize("call", [utils.transform_proposals, lambda: DatasetCatalog.get("lvis_v1_val")])
def test_what_is_left_out_says_how_to_install_the_real_one(call: Any):
    with pytest.raises(ImportError, match="pip install"):
        call()


def test_pascal_voc_boxes_count_pixels_from_zero(tmp_path: Path):
    for folder in ("Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/val.txt").write_text("01\n02\n")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>6</xmax><ymax>4</ymax></bndbox>"
    size = "<size><width>6</width><height>4</height></size>"
    for image_id in ("01", "02"):
        content = f"<annotation>{size}<object><name>dog</name>{box}</object></annotation>"
        (tmp_path / f"Annotations/{image_id}.xml").write_text(content)
    records = load_voc_instances(str(tmp_path), "val", ["cat", "dog"])
    assert [(r["image_id"], r["height"], r["width"]) for r in records] == [("01", 4, 6), ("02", 4, 6)]
    assert records[0]["annotations"][0]["category_id"] == 1 and records[0]["annotations"][0]["bbox"] == [0, 1, 6, 4]
