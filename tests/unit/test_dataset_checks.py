"""Faults of the data are named before training, by file, value and rule; images come in an order of the seed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former_ext.config import add_config
from mask2former_ext.data import build_train_loader, check_datasets, class_names, num_classes, register_all
from mask2former_ext.data.loader import OrderedRecords
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes

TRAIN, VAL = "shapes_train", "shapes_val"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    make_shapes(str(tmp_path / "shapes"), Recipe(train=6, val=2, height=32, width=40))
    register_all(str(tmp_path))
    yield tmp_path
    register_all()


@pytest.fixture
def cfg(root: Path) -> CfgNode:  # noqa: ARG001
    cfg = get_cfg()
    add_config(cfg)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (TRAIN,), (VAL,)
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TRAIN, cfg.SEED = "RGB", (32,), 4
    cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES = 0
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 4
    return cfg


def first_file(root: Path, kind: str) -> Path:
    return root / "shapes" / "train" / kind / "000001.png"


def repaint(path: Path, change: Any) -> None:
    pixels = np.array(Image.open(path))
    Image.fromarray(change(pixels)).save(path)


def test_sound_data_passes(cfg: CfgNode) -> None:
    check_datasets(cfg)


def test_rejects_a_name_that_is_not_registered(cfg: CfgNode) -> None:
    cfg.DATASETS.TRAIN = ("shape_train",)
    with pytest.raises(ValueError, match="'shape_train' is not a registered data set; .* is shapes_train"):
        check_datasets(cfg)


def test_evaluation_alone_does_not_ask_for_the_training_set(cfg: CfgNode) -> None:
    cfg.DATASETS.TRAIN = ("shape_train",)
    check_datasets(cfg, eval_only=True)


def test_evaluation_looks_at_its_files_before_it_starts(cfg: CfgNode, root: Path) -> None:
    (root / "shapes" / "val" / "panoptic" / "000002.png").unlink()
    with pytest.raises(ValueError, match="000002.png is missing; 1 of 2 files"):
        check_datasets(cfg, eval_only=True)


def test_rejects_a_class_count_that_disagrees_with_the_data(cfg: CfgNode) -> None:
    cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES = 133
    with pytest.raises(ValueError, match=f"NUM_CLASSES is 133, but data set '{TRAIN}' has 9"):
        check_datasets(cfg)


def test_rejects_training_sets_of_different_classes(cfg: CfgNode) -> None:
    cfg.DATASETS.TRAIN = (TRAIN, "coco_2017_val")
    with pytest.raises(ValueError, match="'shapes_train' and 'coco_2017_val' differ in their classes"):
        check_datasets(cfg)


def test_rejects_a_test_set_of_other_classes(cfg: CfgNode) -> None:
    cfg.DATASETS.TEST = ("coco_2017_val_panoptic",)
    with pytest.raises(ValueError, match="'coco_2017_val_panoptic' has 133 classes, but 'shapes_train' has 9"):
        check_datasets(cfg)


@pytest.mark.parametrize("kind", ["images", "panoptic", "semantic"])
def test_rejects_a_missing_file(cfg: CfgNode, root: Path, kind: str) -> None:
    (root / "shapes" / "train" / kind / "000005.png").unlink()
    with pytest.raises(ValueError, match=rf"{kind}/000005.png is missing; 1 of 6 files"):
        check_datasets(cfg)


def test_rejects_a_missing_folder(cfg: CfgNode, root: Path) -> None:
    (root / "shapes" / "val" / "images").rename(root / "shapes" / "val" / "pictures")
    with pytest.raises(ValueError, match="data set 'shapes_val': folder .*images cannot be read"):
        check_datasets(cfg)


def test_rejects_a_missing_json(cfg: CfgNode, root: Path) -> None:
    (root / "shapes" / "panoptic_val.json").unlink()
    with pytest.raises(ValueError, match="panoptic_val.json: cannot be read as json"):
        check_datasets(cfg)


def test_rejects_a_json_of_a_published_set_that_is_missing(cfg: CfgNode) -> None:
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("coco_2017_val",), ()
    with pytest.raises(ValueError, match="data set 'coco_2017_val' cannot be loaded: .*instances_val2017.json"):
        check_datasets(cfg)


@pytest.mark.parametrize("kind", ["images", "panoptic", "semantic"])
def test_rejects_a_truncated_file(cfg: CfgNode, root: Path, kind: str) -> None:
    path = first_file(root, kind)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=f"{kind}/000001.png: cannot be read as a picture"):
        check_datasets(cfg)


@pytest.mark.parametrize("kind", ["images", "panoptic", "semantic"])
def test_rejects_a_file_of_another_size(cfg: CfgNode, root: Path, kind: str) -> None:
    repaint(first_file(root, kind), lambda pixels: pixels[:-2])
    with pytest.raises(ValueError, match=f"{kind}/000001.png: its size is 30 x 40"):
        check_datasets(cfg)


def test_rejects_ids_that_the_json_lacks(cfg: CfgNode, root: Path) -> None:
    def add_an_id(pixels: np.ndarray) -> np.ndarray:
        pixels[0, 0] = (9, 0, 0)
        return pixels

    repaint(first_file(root, "panoptic"), add_an_id)
    with pytest.raises(ValueError, match=r"panoptic/000001.png: segment ids \[9\] have pixels but no entry in"):
        check_datasets(cfg)


def test_rejects_ids_that_the_png_lacks(cfg: CfgNode, root: Path) -> None:
    repaint(first_file(root, "panoptic"), np.zeros_like)
    with pytest.raises(ValueError, match=r"panoptic/000001.png: segment ids .* are in segments_info but have no pixel"):
        check_datasets(cfg)


def test_rejects_a_label_that_is_no_class(cfg: CfgNode, root: Path) -> None:
    repaint(first_file(root, "semantic"), lambda pixels: np.full_like(pixels, 9))
    with pytest.raises(ValueError, match=r"label 9 is neither a class \(0 to 8\) nor the ignore label \(255\)"):
        check_datasets(cfg)


@pytest.fixture
def one_class_records() -> Iterator[list[dict]]:
    """The records of a registered data set of one class, to be filled by the test."""
    records: list[dict] = []
    DatasetCatalog.register("one_class", lambda: records)
    MetadataCatalog.get("one_class").set(thing_classes=["a"], evaluator_type="coco")
    yield records
    DatasetCatalog.remove("one_class")
    MetadataCatalog.remove("one_class")


def test_rejects_targets_that_a_training_set_cannot_give(cfg: CfgNode, one_class_records: list[dict]) -> None:
    one_class_records.append({"file_name": "x.png", "annotations": []})
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("one_class",), ()
    with pytest.raises(ValueError, match="x.png: INPUT.TARGETS asks for panoptic truth"):
        check_datasets(cfg)


def test_rejects_a_class_outside_the_metadata(cfg: CfgNode, one_class_records: list[dict]) -> None:
    one_class_records.append({"file_name": "x.png", "annotations": [{"category_id": 1}]})
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.INPUT.TARGETS = ("one_class",), (), "instance"
    with pytest.raises(ValueError, match="x.png: class 1 in annotations is outside the 1 classes"):
        check_datasets(cfg)


# The order of images in training.


def names_and_seeds(batches: Any, count: int) -> list[tuple[str, int]]:
    return [(image["file_name"], image["sampling_seed"]) for batch in islice(iter(batches), count) for image in batch]


def test_two_runs_of_one_seed_see_the_same_images_and_sampling_seeds(cfg: CfgNode) -> None:
    first, second = (names_and_seeds(build_train_loader(cfg), 3) for _ in range(2))
    assert first == second


def test_workers_do_not_change_what_is_seen(cfg: CfgNode) -> None:
    alone = names_and_seeds(build_train_loader(cfg), 5)
    cfg.DATALOADER.NUM_WORKERS = 2
    assert names_and_seeds(build_train_loader(cfg), 5) == alone


def test_rejects_a_batch_that_the_processes_cannot_share(cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH is 4, not a multiple of 3"):
        build_train_loader(cfg)


def test_a_run_that_goes_on_sees_what_it_would_have_seen(cfg: CfgNode) -> None:
    whole = names_and_seeds(build_train_loader(cfg), 5)
    assert names_and_seeds(build_train_loader(cfg, start_iteration=2), 3) == whole[2 * 4 :]


def test_two_processes_share_out_the_batch_of_one(cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> None:
    joint = names_and_seeds(build_train_loader(cfg), 1)
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        shares += names_and_seeds(build_train_loader(cfg), 1)
    assert sorted(shares) == sorted(joint)


def test_images_without_things_are_learned_from_in_panoptic_training(cfg: CfgNode, root: Path) -> None:
    path = root / "shapes" / "instances_train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    assert len(names_and_seeds(build_train_loader(cfg), 1)) == 4


def test_every_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    records = OrderedRecords([{"file_name": str(number)} for number in range(10)], seed=0)
    epochs = [[records[place]["file_name"] for place in range(start, start + 10)] for start in (0, 10)]
    assert sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]


# Published names.


@pytest.mark.usefixtures("root")
def test_published_names_have_metadata_without_files() -> None:
    counts = {
        "ade20k_panoptic_val": 150,
        "ade20k_instance_train": 100,
        "ade20k_full_sem_seg_val": 847,
        "coco_2017_val_panoptic_with_sem_seg": 133,
        "coco_2017_test_stuff_10k_sem_seg": 171,
        "mapillary_vistas_panoptic_train": 65,
        "mapillary_vistas_sem_seg_val": 65,
        "cityscapes_fine_panoptic_val": 19,
        "cityscapes_fine_instance_seg_val": 8,
        "cityscapes_fine_sem_seg_train": 19,
        "shapes_val": 9,
    }
    assert {name: num_classes(name) for name in counts} == counts


@pytest.mark.usefixtures("root")
def test_ade20k_instances_are_the_things_of_its_panoptic_set() -> None:
    panoptic = MetadataCatalog.get("ade20k_panoptic_val")
    things = [panoptic.stuff_classes[index] for index in panoptic.thing_dataset_id_to_contiguous_id.values()]
    assert class_names("ade20k_instance_val") == things


def test_registering_twice_changes_nothing(root: Path) -> None:
    before = DatasetCatalog.list()
    register_all(str(root))
    assert DatasetCatalog.list() == before


@pytest.mark.parametrize("name", ["coco_2017_val", "ade20k_panoptic_val", "coco_2017_val_panoptic_with_sem_seg"])
def test_all_published_sets_lie_under_the_root(root: Path, name: str) -> None:
    assert MetadataCatalog.get(name).image_root.startswith(str(root))


def test_a_set_that_is_not_registered_has_no_class_names() -> None:
    with pytest.raises(ValueError, match="'no_such_set' is not a registered data set"):
        class_names("no_such_set")
