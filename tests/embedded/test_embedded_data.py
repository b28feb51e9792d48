"""`detectron2.data`, the same under both providers: the real Detectron2 and the embedded one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

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
from detectron2.data.samplers import InferenceSampler, RepeatFactorTrainingSampler, TrainingSampler
from detectron2.structures import BoxMode
from detectron2.utils import comm
from PIL import Image
from pycocotools import mask as mask_util

NAMES_AND_DIGESTS = json.loads((Path(__file__).parents[1] / "detectron2_datasets.json").read_text())


def canonical(value: Any, root: str) -> Any:
    """The value with sorted dicts and with paths that do not depend on where the data lies."""
    if isinstance(value, dict):
        return sorted((repr(key), canonical(entry, root)) for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [canonical(entry, root) for entry in value]
    return value.replace(root, "ROOT") if isinstance(value, str) else value


def metadata_digest(name: str) -> str:
    root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    return hashlib.sha256(repr(canonical(vars(MetadataCatalog.get(name)), root)).encode()).hexdigest()[:16]


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


@pytest.mark.slow
def test_nothing_but_detectron2s_data_sets_is_registered_at_import():
    code = "from detectron2.data import DatasetCatalog; print(*DatasetCatalog.list())"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.split("\n")[-2].split() == [*NAMES_AND_DIGESTS]


def test_a_data_set_name_cannot_be_registered_twice(data_set_name: str):
    DatasetCatalog.register(data_set_name, lambda: [])
    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register(data_set_name, lambda: [])


def test_an_unknown_data_set_is_named_in_the_error():
    with pytest.raises(KeyError, match="no_such_data"):
        DatasetCatalog.get("no_such_data")


def test_metadata_can_be_set_again_only_to_an_equal_value(data_set_name: str):
    metadata = MetadataCatalog.get(data_set_name).set(thing_classes=["a"])
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


# Loaders


def test_the_test_loader_with_workers_gives_every_record_in_order():
    loader = build_detection_test_loader(dataset=list(range(7)), mapper=lambda x: x + 100, batch_size=2, num_workers=2)
    assert list(loader) == [[100, 101], [102, 103], [104, 105], [106]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_train_loader_follows_its_sampler_with_any_number_of_workers(num_workers: int):
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


def test_images_with_only_crowds_are_left_out_of_training(data_set_name: str):
    crowd, single = {"category_id": 0, "iscrowd": 1}, {"category_id": 0, "iscrowd": 0}
    records = [{"image_id": i, "annotations": a} for i, a in enumerate([[crowd], [crowd, single], []])]
    DatasetCatalog.register(data_set_name, lambda: records)
    MetadataCatalog.get(data_set_name).thing_classes = ["a"]
    assert [r["image_id"] for r in get_detection_dataset_dicts(data_set_name)] == [1]
    assert len(get_detection_dataset_dicts(data_set_name, filter_empty=False)) == 3


def test_a_category_outside_of_the_classes_stops_the_loading(data_set_name: str):
    DatasetCatalog.register(data_set_name, lambda: [{"annotations": [{"category_id": 2}]}])
    MetadataCatalog.get(data_set_name).thing_classes = ["a", "b"]
    with pytest.raises(AssertionError, match="category.*2"):
        get_detection_dataset_dicts(data_set_name)


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


def synthetic_record(folder: Path) -> dict[str, Any]:
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
    output = DatasetMapper(mapper_config(), True)(synthetic_record(tmp_path))
    instances = output["instances"]
    assert output["image"].shape == (3, 8, 12) and (output["height"], output["width"]) == (4, 6)
    assert instances.gt_boxes.tensor.tolist() == [[2, 2, 8, 6]] and instances.gt_classes.tolist() == [2]
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[2:6, 2:8] = True
    assert torch.equal(instances.gt_masks.tensor[0], expected)
    assert torch.equal(output["sem_seg"], expected.long())


def test_the_mapper_at_inference_gives_no_instances(tmp_path: Path):
    output = DatasetMapper(mapper_config(), False)(synthetic_record(tmp_path))
    assert "instances" not in output and "annotations" not in output


def test_the_mapper_leaves_the_record_as_it_was(tmp_path: Path):
    record = synthetic_record(tmp_path)
    before = pickle.dumps(record)
    DatasetMapper(mapper_config(), True)(record)
    assert pickle.dumps(record) == before
