"""Things and stuff numbered apart, for Mask R-CNN and Panoptic FPN, from the files that every other model learns from.

Category ids have gaps, mix things (dog 4, cat 9) with stuff (grass 2, sky 7) and stand in no order in the json. All
classes together: grass 0, dog 1, sky 2, cat 3. Apart: dog 0, cat 1; any thing 0, grass 1, sky 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former_ext import add_config
from mask2former_ext.classes import APART, TOGETHER
from mask2former_ext.config.checks import check_training
from mask2former_ext.contract import classes_of
from mask2former_ext.data import Mapper, check_datasets, learned_classes, prepare_data, register_all
from mask2former_ext.data.loader import training_records
from mask2former_ext.data.sets.published import require_class_table
from mask2former_ext.data.targets.separated import separate
from mask2former_ext.data.targets.things import ThingTarget
from mask2former_ext.engine.setup import banner

NAME = "a_set_of_the_separated_tests"
CATEGORIES = [
    {"id": 9, "name": "cat", "isthing": 1},
    {"id": 2, "name": "grass", "isthing": 0},
    {"id": 7, "name": "sky", "isthing": 0},
    {"id": 4, "name": "dog", "isthing": 1},
]
# Sky over grass, void at the left; a cat in front of a dog.
IDS = np.full((6, 10), 70)
IDS[3:] = 20
IDS[1:5, 2:6] = 40
IDS[2:6, 5:9] = 90
IDS[:, 0] = 0
CATEGORY_OF = {70: 7, 20: 2, 40: 4, 90: 9}
LABELS = np.select([IDS == 70, IDS == 20, IDS == 0], [2, 1, 255], 0)
DOG = [[2, 1, 6, 1, 6, 5, 2, 5]]  # whole: the cat hides a part of it in the panoptic truth


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """One image with panoptic truth, semantic labels of all classes and an instances json."""
    for kind in ("images", "panoptic", "semantic"):
        (tmp_path / kind).mkdir()
    Image.fromarray(np.zeros((*IDS.shape, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    Image.fromarray(np.stack([IDS, 0 * IDS, 0 * IDS], axis=2).astype(np.uint8)).save(tmp_path / "panoptic" / "a.png")
    joint = np.select([IDS == 70, IDS == 20, IDS == 40, IDS == 90], [2, 0, 1, 3], 255)
    Image.fromarray(joint.astype(np.uint8)).save(tmp_path / "semantic" / "a.png")
    images = [{"id": 1, "file_name": "a.png", "height": 6, "width": 10}]
    segments = [{"id": i, "category_id": CATEGORY_OF[i], "iscrowd": 0} for i in (90, 20, 40, 70)]
    annotations = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    write(tmp_path / "panoptic.json", images=images, annotations=annotations, categories=CATEGORIES)
    things = [category for category in CATEGORIES if category["isthing"]]
    write(tmp_path / "instances.json", images=images, annotations=[dog()], categories=things)
    yield tmp_path
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)
    register_all()


def write(path: Path, **content: Any) -> None:
    path.write_text(json.dumps(content))


def dog(**changes: Any) -> dict[str, Any]:
    return {
        "id": 3,
        "image_id": 1,
        "category_id": 4,
        "bbox": [2, 1, 4, 4],
        "segmentation": DOG,
        "iscrowd": 0,
        **changes,
    }


def config(folder: Path, *kinds: str, architecture: str = "PanopticFeaturePyramid", **train: Any) -> CfgNode:
    paths = {
        "panoptic": {"PANOPTIC_JSON": str(folder / "panoptic.json"), "PANOPTIC_MASKS": str(folder / "panoptic")},
        "instances": {"INSTANCES": str(folder / "instances.json")},
        "semantic": {"SEMANTIC_MASKS": str(folder / "semantic"), "CLASSES": ["grass", "dog", "sky", "cat"]},
    }
    entry = {"NAME": NAME, "IMAGES": str(folder / "images")}
    for kind in kinds:
        entry.update(paths[kind])
    if "panoptic" in kinds:
        entry.pop("CLASSES", None)
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.MASK_ON, cfg.MODEL.DEVICE = architecture, True, "cpu"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 0
    cfg.INPUT.TARGETS = "instance" if architecture == "MaskRCNN" else "panoptic"
    cfg.INPUT.FORMAT, cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN = "RGB", "none", (6,)
    cfg.DATASETS.CUSTOM, cfg.DATASETS.TRAIN = [entry], (NAME,)
    cfg.merge_from_list([part for key, value in train.items() for part in (key.replace("__", "."), value)])
    prepare_data(cfg)
    return cfg


def example(cfg: CfgNode) -> dict[str, Any]:
    (record,) = training_records(cfg)
    return Mapper(cfg, True)(record)


# Class numbers.


def test_things_and_stuff_are_numbered_apart_in_the_order_of_all_classes(folder: Path) -> None:
    config(folder, "panoptic")
    found = separate(NAME)
    assert found.thing_of == {1: 0, 3: 1} and found.label_of == {1: 0, 3: 0, 0: 1, 2: 2}
    assert found.classes.thing_names == {0: "dog", 1: "cat"} and found.classes.label_names == ["things", "grass", "sky"]
    assert found.classes.id_of_thing == {0: 4, 1: 9}
    assert found.classes.id_of_stuff == {1: 2, 2: 7}


def test_of_coco_the_numbers_are_those_that_detectron2_gives_them() -> None:
    theirs = MetadataCatalog.get("coco_2017_train_panoptic_separated")
    ours = separate("coco_2017_train_panoptic").classes
    stuff = theirs.stuff_dataset_id_to_contiguous_id
    assert require_class_table("coco_2017_train_panoptic_separated").numbering == APART
    assert require_class_table("coco_2017_train_panoptic").numbering == TOGETHER
    assert ours.thing_of_id == theirs.thing_dataset_id_to_contiguous_id
    assert ours.id_of_stuff == {k: category for category, k in stuff.items() if category}
    assert list(ours.thing_names.values()) == theirs.thing_classes and len(ours.label_names) == 54


def test_a_set_that_is_separated_already_keeps_its_numbers() -> None:
    found = separate("coco_2017_train_panoptic_separated")
    assert found.thing_of == {k: k for k in range(80)} and found.label_of == {k: k for k in range(54)}


def test_without_stuff_every_class_is_a_thing() -> None:
    assert separate("coco_2017_train").thing_of == {k: k for k in range(80)}


def test_of_cityscapes_the_things_are_the_last_of_all_classes() -> None:
    found = separate("cityscapes_fine_panoptic_train")
    assert found.thing_of == {11 + t: t for t in range(8)} and found.classes.thing_names[0] == "person"
    assert [found.label_of[k] for k in (0, 10, 11)] == [1, 11, 0]


def test_numbers_of_classes_that_are_0_are_those_of_the_data(folder: Path) -> None:
    cfg = config(folder, "panoptic")
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) == (2, 3)
    assert learned_classes(cfg, NAME) == {"ROI_HEADS": ["dog", "cat"], "SEM_SEG_HEAD": ["things", "grass", "sky"]}


@pytest.mark.parametrize(("head", "count", "classes"), [("ROI_HEADS", 80, 2), ("SEM_SEG_HEAD", 54, 3)])
def test_a_number_that_is_not_the_datas_is_named_with_its_key(
    folder: Path, head: str, count: int, classes: int
) -> None:
    cfg = config(folder, "panoptic", **{f"MODEL__{head}__NUM_CLASSES": count})
    with pytest.raises(ValueError, match=f"MODEL.{head}.NUM_CLASSES is {count}, but .*'{NAME}' has {classes} classes"):
        check_datasets(cfg)


def test_a_model_of_one_numbering_refuses_a_separated_set() -> None:
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "Mask2Former"
    with pytest.raises(ValueError, match="numbers things and stuff apart, but Mask2Former knows all classes by one"):
        learned_classes(cfg, "coco_2017_train_panoptic_separated")


def test_a_set_without_things_teaches_no_things(folder: Path) -> None:
    with pytest.raises(ValueError, match=f"'{NAME}' has no class that is a thing"):
        config(folder, "semantic")


def test_the_banner_tells_things_and_labels(folder: Path) -> None:
    assert "2 things: dog, cat; 3 labels: things, grass, sky" in banner(config(folder, "panoptic"), eval_only=False)


@pytest.mark.parametrize(("architecture", "needed"), [("MaskRCNN", "instance"), ("PanopticFeaturePyramid", "panoptic")])
def test_other_targets_than_the_models_are_refused(folder: Path, architecture: str, needed: str) -> None:
    cfg = config(folder, "panoptic", architecture=architecture)
    check_training(cfg, num_processes=1)
    cfg.INPUT.TARGETS = "semantic"
    with pytest.raises(ValueError, match=f"INPUT.TARGETS is 'semantic', but {architecture} learns from '{needed}'"):
        check_training(cfg, num_processes=1)


def test_check_sets_refuses_sets_that_number_their_things_differently() -> None:
    target = ThingTarget(separate("coco_2017_train_panoptic"))
    target.check_sets(["coco_2017_train_panoptic", "coco_2017_val_panoptic"])
    with pytest.raises(ValueError, match="'coco_.*' and 'cityscapes_.*' number their things differently"):
        target.check_sets(["coco_2017_train_panoptic", "cityscapes_fine_panoptic_train"])


# Training examples.


@pytest.mark.parametrize("kinds", [("panoptic",), ("panoptic", "semantic"), ("instances", "semantic")])
def test_labels_are_0_on_things_1_and_up_on_stuff_and_ignored_on_void(folder: Path, kinds: tuple) -> None:
    labels = example(config(folder, *kinds))["sem_seg"]
    assert labels.dtype == torch.int64 and (labels.numpy() == LABELS).all()


def test_things_of_panoptic_truth_have_classes_boxes_and_visible_masks(folder: Path) -> None:
    instances = example(config(folder, "panoptic"))["instances"]
    order = instances.gt_classes.argsort()
    assert instances.gt_classes[order].tolist() == [0, 1]
    assert instances.gt_boxes.tensor[order].tolist() == [[2, 1, 6, 5], [5, 2, 9, 6]]
    assert (instances.gt_masks.tensor[order].numpy() == np.stack([IDS == 40, IDS == 90])).all()


def test_an_instance_may_overlap_what_the_panoptic_truth_has_before_it(folder: Path) -> None:
    result = example(config(folder, "panoptic", "instances"))
    assert result["instances"].gt_masks.tensor.sum().item() == 16 and (IDS == 40).sum() == 13
    assert (result["sem_seg"].numpy() == LABELS).all()


def test_things_alone_need_no_labels_of_pixels(folder: Path) -> None:
    result = example(config(folder, "instances", architecture="MaskRCNN"))
    assert "sem_seg" not in result and result["instances"].gt_boxes.tensor.tolist() == [[2, 1, 6, 5]]


def test_stuff_to_learn_is_missed_where_there_are_only_instances(folder: Path) -> None:
    with pytest.raises(
        ValueError, match="INPUT.TARGETS asks for things and stuff .*no sem_seg_file_name and no pan_seg"
    ):
        check_datasets(config(folder, "instances", MODEL__SEM_SEG_HEAD__NUM_CLASSES=3))


def test_without_masks_only_boxes_are_made(folder: Path) -> None:
    cfg = config(folder, "instances", architecture="MaskRCNN", MODEL__MASK_ON=False)
    assert set(example(cfg)["instances"].get_fields()) == {"gt_classes", "gt_boxes"}


def test_void_has_the_label_that_the_model_ignores(folder: Path) -> None:
    labels = example(config(folder, "panoptic", MODEL__SEM_SEG_HEAD__IGNORE_VALUE=77))["sem_seg"]
    assert (labels[:, 0] == 77).all()


def test_a_label_that_is_no_class_is_named_with_its_file(folder: Path) -> None:
    cfg = config(folder, "instances", "semantic")
    Image.fromarray(np.full(IDS.shape, 9, np.uint8)).save(folder / "semantic" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: label 9 is neither one of the 4 classes nor ignored"):
        example(cfg)


def test_a_stuff_class_of_the_jittered_crop_stays_where_it_was(folder: Path) -> None:
    cfg = config(folder, "panoptic", INPUT__AUGMENTATION="large_scale_jitter", INPUT__IMAGE_SIZE=16)
    result = example(cfg)
    assert result["sem_seg"].shape == result["image"].shape[1:] == result["instances"].image_size == (16, 16)
    thing = result["instances"].gt_masks.tensor.any(dim=0)
    assert (result["sem_seg"][thing] == 0).all()


# Detectron2's own names.


@pytest.fixture
def coco(folder: Path) -> Iterator[Path]:
    """The files that COCO publishes, with the categories person 1 and sky-other-merged 187."""
    root = folder / "coco"
    for kind in ("annotations", "val2017", "panoptic_val2017"):
        (root / kind).mkdir(parents=True)
    for kind, ending in (("val2017", "jpg"), ("panoptic_val2017", "png")):
        source = "images" if kind == "val2017" else "panoptic"
        Image.open(folder / source / "a.png").save(root / kind / f"a.{ending}")
    images = [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 10}]
    ids = {70: 187, 20: 187, 40: 1, 90: 1}
    segments = [{"id": i, "category_id": category, "iscrowd": 0} for i, category in ids.items()]
    categories = [{"id": 1, "name": "person", "isthing": 1}, {"id": 187, "name": "sky-other-merged", "isthing": 0}]
    shared = {"images": images, "categories": categories}
    annotations = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    write(root / "annotations" / "panoptic_val2017.json", annotations=annotations, **shared)
    write(root / "annotations" / "instances_val2017.json", annotations=[dog(category_id=1)], **shared)
    register_all(str(folder))
    yield root
    register_all()


def test_cocos_separated_set_needs_no_files_but_the_published_ones(coco: Path) -> None:
    (record,) = DatasetCatalog.get("coco_2017_val_panoptic_separated")
    assert [a["category_id"] for a in record["annotations"]] == [0]
    assert {s["category_id"] for s in record["segments_info"]} == {0, 40}  # person, and sky: 40th of the stuff
    cfg = config(coco.parent, "panoptic")
    cfg.DATASETS.TRAIN, cfg.DATASETS.ROOT = ("coco_2017_val_panoptic_separated",), str(coco.parent)
    labels = Mapper(cfg, True)(record)["sem_seg"]
    assert (labels.numpy() == np.select([IDS == 0, np.isin(IDS, [70, 20])], [255, 40], 0)).all()


def test_the_predictor_names_classes_as_the_model_numbers_them(folder: Path) -> None:
    classes = classes_of(config(folder, "panoptic"))
    assert classes.thing_names == {0: "dog", 1: "cat"} and classes.label_names == ["things", "grass", "sky"]
