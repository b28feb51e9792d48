"""A run's config.yaml, or its checkpoint alone, names the classes where there is no data set."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former_ext import Predictor, load_config
from mask2former_ext.classes import ClassTable
from mask2former_ext.contract import classes_of
from mask2former_ext.data import prepare_data, register_all
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.engine import Trainer
from mask2former_ext.engine.setup import setup
from mask2former_ext.inference.saving import ImageSaver, SaveOptions

TINY = Path(__file__).resolve().parents[2] / "configs" / "mask2former" / "tiny.yaml"
NAMES = ("disk", "square", "triangle", "star", "ring", "cross", "sky", "ground", "water")
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
EVERY_TASK = [f"MODEL.MASK_CLASSIFIER.{task}_ON" for task in ("SEMANTIC", "INSTANCE", "PANOPTIC")]


def own_set(root: Path, name: str) -> dict[str, str]:
    """The entry of DATASETS.CUSTOM for the synthetic training images."""
    folder = root / "shapes"
    panoptic = {"PANOPTIC_JSON": str(folder / "panoptic_train.json"), "PANOPTIC_MASKS": str(folder / "train/panoptic")}
    return {"NAME": name, "IMAGES": str(folder / "train" / "images"), **panoptic}


def settings(root: Path, name: str) -> list[str]:
    sets = ["DATASETS.CUSTOM", str([own_set(root, name)]), "DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()"]
    return [*sets, "OUTPUT_DIR", str(root / "out"), "MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The output folder of one step of training; its data set is neither on the disk nor registered any more."""
    root = tmp_path_factory.mktemp("run")
    make_shapes(str(root / "shapes"), Recipe(train=2, val=1, height=64, width=64))
    trainer = Trainer(setup(Namespace(config_file=str(TINY), opts=settings(root, "own"), eval_only=False)))
    trainer.train()
    shutil.rmtree(root / "shapes")
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.remove("own")
    yield root / "out"
    register_all()


def weights_of(run: Path) -> list[str]:
    return ["MODEL.WEIGHTS", str(run / "model_final.pth"), "MODEL.DEVICE", "cpu"]


def test_a_runs_config_names_its_classes_where_the_data_are_not(run: Path):
    predictor = Predictor(load_config(run / "config.yaml", weights_of(run)))
    assert predictor.classes.names == NAMES and predictor.classes.color(0) == (220, 20, 60)
    assert predictor.classes.things == [0, 1, 2, 3, 4, 5] and predictor.classes.id_of_thing[0] == 1
    assert predictor.model.is_thing.tolist() == [True] * 6 + [False] * 3


def test_a_checkpoint_alone_names_its_classes_under_another_yaml(run: Path):
    others = [value for key in EVERY_TASK for value in (key, "True")]
    cfg = load_config(TINY, [*weights_of(run), "DATASETS.TRAIN", "()", "DATASETS.TEST", "()", *others])
    predictor = Predictor(cfg)
    assert not cfg.MODEL.CLASSES and predictor.classes.names == NAMES
    assert predictor.model.is_thing.tolist() == [True] * 6 + [False] * 3


def test_what_a_model_finds_is_drawn_and_saved_with_names(run: Path, tmp_path: Path):
    others = [value for key in EVERY_TASK for value in (key, "True")]
    predictor = Predictor(load_config(run / "config.yaml", [*weights_of(run), *others]))
    result = predictor(IMAGE)
    assert {s.name for s in result.found()["semantic"].segments} <= set(NAMES)
    assert result.draw("semantic").ndim == 3
    with ImageSaver(tmp_path, SaveOptions(save=("json", "coco")), predictor.classes) as saver:
        saver.save(IMAGE, result, "a", "a.jpg")
    assert {one["name"] for one in json.loads((tmp_path / "a.json").read_text())["semantic"]} <= set(NAMES)
    assert [c["name"] for c in json.loads((tmp_path / "coco.json").read_text())["categories"]] == [*NAMES[:6]]


def test_a_checkpoint_holds_its_classes_as_plain_data(run: Path):
    content = torch.load(run / "model_final.pth", map_location="cpu", weights_only=True)
    assert ClassTable.from_dict(content["classes"]).names == NAMES


def test_training_still_says_which_file_of_its_data_is_missing(run: Path):
    with pytest.raises(ValueError, match=r"panoptic_train\.json: cannot be read as json"):
        prepare_data(load_config(run / "config.yaml"))


def test_a_trainings_data_set_counts_more_than_the_classes_of_its_yaml(run: Path):
    cfg = load_config(run / "config.yaml", ["DATASETS.CUSTOM", "[]", "DATASETS.TRAIN", "('coco_2017_train',)"])
    prepare_data(cfg)
    assert classes_of(cfg).names[0] == "person" and len(classes_of(cfg)) == 80


def test_classes_survive_dump_load_and_merge(tmp_path: Path):
    table = ClassTable(("sky", "dog"), (False, True), (None, 4), ((0, 0, 255), (9, 9, 9)), ignore_label=65)
    cfg = load_config(TINY)
    cfg.MODEL.CLASSES = CfgNode(table.to_dict(), new_allowed=True)
    (tmp_path / "a.yaml").write_text(cfg.dump())
    again = load_config(tmp_path / "a.yaml")
    assert classes_of(again) == table and classes_of(load_config(TINY)) != table
    again.merge_from_other_cfg(cfg)
    assert classes_of(again) == table and again.dump() == cfg.dump()


def test_classes_of_a_yaml_that_break_a_rule_are_named(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("MODEL: {CLASSES: {names: [sky, 3]}}")
    with pytest.raises(ValueError, match="MODEL.CLASSES: classes: a name is 3, but must be a string"):
        classes_of(load_config(tmp_path / "a.yaml"))


def test_classes_of_a_checkpoint_that_break_a_rule_are_named(run: Path, tmp_path: Path):
    content = torch.load(run / "model_final.pth", map_location="cpu", weights_only=True)
    torch.save({**content, "classes": {"names": []}}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: classes: names is \(\), but must hold one name"):
        Predictor(load_config(TINY, ["MODEL.WEIGHTS", str(tmp_path / "w.pth"), "MODEL.DEVICE", "cpu"]))


def test_predictor_metadata_still_has_the_names_with_a_warning(run: Path):
    predictor = Predictor(load_config(run / "config.yaml", weights_of(run)))
    with pytest.warns(DeprecationWarning, match="use Predictor.classes"):
        assert predictor.metadata.stuff_classes == [*NAMES]
