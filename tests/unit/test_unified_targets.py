"""Joint training: for each image one of the tasks that its truth can teach is drawn, with masks and texts for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former_ext.classes import METADATA_KEY
from mask2former_ext.config import add_config
from mask2former_ext.config.checks import check_training
from mask2former_ext.data import Mapper, build_train_loader, check_datasets, prepare_data, register_all
from mask2former_ext.data.sets.published import require_class_table
from mask2former_ext.data.sets.shapes import CATEGORIES
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.data.targets.texts import object_texts
from mask2former_ext.data.targets.unified import UnifiedTarget, task_probabilities
from mask2former_ext.engine.setup import banner

THIRD = {"semantic": 1 / 3, "instance": 1 / 3, "panoptic": 1 / 3}
NAMES = [category["name"] for category in CATEGORIES]


# Texts.


def test_each_object_is_a_text_in_class_order_and_the_rest_says_the_task() -> None:
    texts = object_texts("panoptic", [2, 0, 2], ["sky", "dog", "cat"], 5)
    assert texts == ["a photo with a sky"] + ["a photo with a cat"] * 2 + ["a panoptic photo"] * 2


@pytest.mark.parametrize(("task", "filler"), [("semantic", "a semantic photo"), ("instance", "an instance photo")])
def test_an_image_without_objects_has_the_article_of_its_task(task: str, filler: str) -> None:
    assert object_texts(task, [], [], 2) == [filler, filler]


def test_more_objects_than_texts_are_cut_off() -> None:
    assert object_texts("instance", [1, 0, 0], ["sky", "dog"], 2) == ["a photo with a sky"] * 2


def test_published_names_keep_their_commas_and_spaces() -> None:
    names = MetadataCatalog.get("ade20k_sem_seg_train").stuff_classes
    texts = object_texts("semantic", [6, 8], names, 2)
    assert texts == ["a photo with a road, route", "a photo with a window "]


# Probabilities.


def config(targets: str = "unified", **probabilities: float) -> CfgNode:
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "OneFormer"
    cfg.MODEL.ONEFORMER = CfgNode({"NUM_QUERIES": 26, "TEXT_ENCODER": {"NUM_CONTEXT": 16}})
    cfg.INPUT.TARGETS, cfg.INPUT.FORMAT = targets, "RGB"
    for task, probability in probabilities.items():
        cfg.INPUT.TASK_PROBABILITIES[task] = probability
    return cfg


def test_every_task_is_as_likely_unless_the_configuration_says_otherwise() -> None:
    assert task_probabilities(config()) == THIRD
    assert task_probabilities(config(SEMANTIC=0.25, INSTANCE=0.0, PANOPTIC=0.75)) == {
        "semantic": 0.25,
        "panoptic": 0.75,
    }


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ({"SEMANTIC": 0.5, "INSTANCE": 0.5, "PANOPTIC": 0.5}, "their sum 1, but it is 1.5"),
        ({"SEMANTIC": -0.5, "INSTANCE": 1.0, "PANOPTIC": 0.5}, "SEMANTIC -0.5, .* each must be >= 0"),
        ({"SEMANTIC": float("nan")}, "SEMANTIC nan"),
    ],
)
def test_probabilities_that_are_none_are_refused(probabilities: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"INPUT.TASK_PROBABILITIES .*{message}"):
        task_probabilities(config(**probabilities))


def shares(record: dict[str, Any], probabilities: dict[str, float]) -> dict[str, float]:
    return UnifiedTarget(probabilities).shares("coco_2017_train_panoptic", [record])


def test_tasks_that_truth_cannot_teach_leave_their_share_to_the_others() -> None:
    probabilities = {"semantic": 0.1, "instance": 0.3, "panoptic": 0.6}
    both = {"file_name": "", "sem_seg_file_name": "", "annotations": []}
    assert shares(both, probabilities) == pytest.approx({"semantic": 0.25, "instance": 0.75})
    assert shares({"file_name": "", "pan_seg_file_name": ""}, probabilities) == pytest.approx(probabilities)


@pytest.mark.parametrize(("truth", "task"), [("sem_seg_file_name", "semantic"), ("annotations", "instance")])
def test_one_kind_of_truth_alone_teaches_one_task(truth: str, task: str) -> None:
    assert {UnifiedTarget(THIRD).chosen({"file_name": "", truth: ""}).name for _ in range(20)} == {task}


def test_tasks_are_drawn_as_often_as_stated() -> None:
    probabilities = {"semantic": 0.1, "instance": 0.3, "panoptic": 0.6}
    target, record = UnifiedTarget(probabilities), {"file_name": "", "pan_seg_file_name": ""}
    drawn = Counter(target.chosen(record).name for _ in range(1000))
    # three standard deviations of a count of 1000 draws are at most 3 * sqrt(250) = 47
    assert drawn == {task: pytest.approx(1000 * probability, abs=47) for task, probability in probabilities.items()}


# Examples from real files.


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """6 synthetic images, also as data sets of one kind of truth: only_semantic, only_instances, only_panoptic."""
    make_shapes(str(tmp_path / "shapes"), Recipe(train=6, val=1, height=48, width=64))
    yield tmp_path
    for name in ("only_semantic", "only_instances", "only_panoptic"):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    register_all()


def prepared(root: Path, *train: str, **probabilities: float) -> CfgNode:
    cfg = config(**probabilities)
    folder = root / "shapes"
    common = {"IMAGES": str(folder / "train" / "images"), "CLASSES": NAMES}
    panoptic = {"PANOPTIC_JSON": folder / "panoptic_train.json", "PANOPTIC_MASKS": folder / "train" / "panoptic"}
    cfg.DATASETS.CUSTOM = [
        {"NAME": "only_semantic", **common, "SEMANTIC_MASKS": str(folder / "train" / "semantic")},
        {"NAME": "only_instances", **common, "INSTANCES": str(folder / "instances_train.json")},
        {"NAME": "only_panoptic", "IMAGES": common["IMAGES"], **{key: str(path) for key, path in panoptic.items()}},
    ]
    cfg.DATASETS.ROOT, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = str(root), train, ()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.SEED = (48,), 4
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 4
    prepare_data(cfg)
    return cfg


def example(root: Path, dataset: str, **probability: float) -> dict[str, Any]:
    """The first image of a data set, as the one task that has probability 1 needs it."""
    zero = {"SEMANTIC": 0.0, "INSTANCE": 0.0, "PANOPTIC": 0.0}
    cfg = prepared(root, dataset, **{**zero, **probability})
    return Mapper(cfg, True)({**DatasetCatalog.get(dataset)[0], "sampling_seed": 3})


def is_thing(k: int) -> bool:
    return bool(CATEGORIES[k]["isthing"])


@pytest.mark.parametrize("dataset", ["shapes_train", "only_panoptic"])
def test_panoptic_truth_teaches_all_three_tasks(root: Path, dataset: str) -> None:
    panoptic = example(root, dataset, PANOPTIC=1.0)["instances"].gt_classes.tolist()
    instance = example(root, dataset, INSTANCE=1.0)["instances"].gt_classes.tolist()
    semantic = example(root, dataset, SEMANTIC=1.0)["instances"].gt_classes.tolist()
    assert semantic == sorted(set(panoptic)) and not all(is_thing(k) for k in semantic)
    assert sorted(instance) == sorted(k for k in panoptic if is_thing(k)) and instance


def test_an_example_says_its_task_and_its_texts(root: Path) -> None:
    found = example(root, "shapes_train", PANOPTIC=1.0)
    named = [f"a photo with a {NAMES[k]}" for k in sorted(found["instances"].gt_classes.tolist())]
    assert found["task"] == "panoptic"
    assert found["text"] == (named + ["a panoptic photo"] * 10)[:10]  # 26 queries less 16 learned contexts


@pytest.mark.parametrize(("dataset", "task"), [("only_semantic", "semantic"), ("only_instances", "instance")])
def test_data_of_one_kind_of_truth_trains_its_task(root: Path, dataset: str, task: str) -> None:
    cfg = prepared(root, dataset)
    check_datasets(cfg)
    (batch,) = islice(iter(build_train_loader(cfg)), 1)
    assert [image["task"] for image in batch] == [task] * 4 and all(len(image["instances"]) for image in batch)


def test_data_sets_of_different_truths_train_together(root: Path) -> None:
    cfg = prepared(root, "only_instances", "only_semantic")
    check_datasets(cfg)
    images = [image for batch in islice(iter(build_train_loader(cfg)), 3) for image in batch]
    assert Counter(image["task"] for image in images) == {"semantic": 6, "instance": 6}


def tasks_and_texts(cfg: CfgNode) -> list[tuple]:
    batches = islice(iter(build_train_loader(cfg)), 5)
    return [(image["file_name"], image["task"], image["text"]) for batch in batches for image in batch]


def test_tasks_do_not_depend_on_the_number_of_workers(root: Path) -> None:
    cfg = prepared(root, "shapes_train")
    alone = tasks_and_texts(cfg)
    cfg.DATALOADER.NUM_WORKERS = 2
    assert tasks_and_texts(cfg) == alone and {task for _, task, _ in alone} == set(THIRD)


def test_without_a_thing_among_the_classes_no_instances_are_learned(root: Path) -> None:
    cfg = prepared(root, "only_panoptic")
    nothing_is_a_thing = replace(require_class_table("only_panoptic"), is_thing=(False,) * 9)
    vars(MetadataCatalog.get("only_panoptic"))[METADATA_KEY] = nothing_is_a_thing
    assert Mapper(cfg, True).target.probabilities == {"semantic": 1 / 3, "panoptic": 1 / 3}
    assert "semantic 0.50, panoptic 0.50; no truth for instance: left out" in banner(cfg, eval_only=False)


def test_images_without_an_instance_are_left_out_of_instance_only_truth(root: Path) -> None:
    path = root / "shapes" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 1]
    path.write_text(json.dumps(content))
    cfg = prepared(root, "only_instances", "shapes_train")
    seen = Counter(name for name, _, _ in tasks_and_texts(cfg)[:11])
    # all 6 images of shapes_train, which have panoptic truth too, and 5 of the others: the first has none now
    assert seen == {name: 1 + (not name.endswith("000001.png")) for name in seen} and len(seen) == 6


CAMVID = {
    "IMAGES": "camvid/val",
    "SEMANTIC_MASKS": "camvid/valannot",
    "CLASSES": "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist".split(),
    "IGNORE_LABEL": 11,
}
FACADES = {
    "IMAGES": "facades/val",
    "PANOPTIC_JSON": "facades/panoptic_val.json",
    "PANOPTIC_MASKS": "facades/panoptic_val",
}


@pytest.mark.parity
@pytest.mark.parametrize(("entry", "num_tasks"), [(CAMVID, 1), (FACADES, 3)], ids=["camvid", "facades"])
def test_real_data_trains_what_its_truth_can_teach(real_data_dir: Path, entry: dict, num_tasks: int) -> None:
    paths = {key: str(real_data_dir / value) for key, value in entry.items() if isinstance(value, str)}
    cfg = config()
    cfg.DATASETS.CUSTOM = [{"NAME": f"real_{num_tasks}", **entry, **paths}]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.INPUT.MIN_SIZE_TRAIN = (f"real_{num_tasks}",), (), (128,)
    prepare_data(cfg)
    check_datasets(cfg)
    mapper, records = Mapper(cfg, True), DatasetCatalog.get(f"real_{num_tasks}")
    drawn = {mapper({**record, "sampling_seed": seed})["task"] for seed, record in enumerate(records[:12])}
    assert len(drawn) == num_tasks


# What is refused before training.


def test_the_banner_names_each_training_sets_tasks_and_what_is_left_out(root: Path) -> None:
    cfg = prepared(root, "only_semantic", "shapes_train", SEMANTIC=0.5, INSTANCE=0.25, PANOPTIC=0.25)
    lines = [" ".join(line.split()) for line in banner(cfg, eval_only=False).splitlines()]
    assert "teaches only_semantic: semantic 1.00; no truth for instance, panoptic: left out" in lines
    assert "shapes_train: semantic 0.50, instance 0.25, panoptic 0.25" in lines


def test_truth_for_none_of_the_tasks_is_an_error_before_training(root: Path) -> None:
    cfg = prepared(root, "only_semantic", SEMANTIC=0.0, INSTANCE=0.5, PANOPTIC=0.5)
    with pytest.raises(ValueError, match="000001.png: INPUT.TARGETS asks for instance or panoptic truth, but"):
        check_datasets(cfg)
    with pytest.raises(ValueError, match="data set 'only_semantic' can teach none of the tasks .*: instance, panoptic"):
        banner(cfg, eval_only=False)


def test_a_crop_that_needs_labels_is_refused_where_there_are_none(root: Path) -> None:
    cfg = prepared(root, "only_instances")
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = True, 0.75
    with pytest.raises(ValueError, match="SINGLE_CATEGORY_MAX_AREA below 1 needs the class of each pixel"):
        check_datasets(cfg)


def test_a_model_that_is_not_told_its_task_is_not_trained_on_several() -> None:
    cfg = config()
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TRAIN = "Mask2Former", ("any",)
    with pytest.raises(ValueError, match="INPUT.TARGETS is 'unified', but Mask2Former learns from 'semantic' or"):
        check_training(cfg, num_processes=1)
