"""Fixtures that all tests share: seeds, thread count, and the way to what lies beside the checkout."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former_ext import add_config
from mask2former_ext.env import detectron2_provider
from tests.places import ROOT, SHARED

# Two cores: two threads, or one in each of the two processes of pytest-xdist; fewer where the environment says so.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, int(os.environ.get("OMP_NUM_THREADS", 2))))


def pytest_report_header() -> list[str]:
    return [f"torch {torch.__version__}, numpy {np.__version__}", f"Detectron2: {detectron2_provider()}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"{path} is absent; set MASK2FORMER_EXT_SHARED to the folder that holds {name}/")
    return path


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Recorded upstream models: `parity/<case>/` and `keys/*.json`. Tests that ask for it skip where it is absent."""
    return _shared("fixtures")


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """Folders of real images with annotations. Tests that ask for it skip where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that these tests belong to."""
    return ROOT


@pytest.fixture
def data_set_name() -> Iterator[str]:
    """A name for a data set, free again after the test."""
    yield "a_test_data_set"
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "a_test_data_set" in catalog:
            catalog.remove("a_test_data_set")


@pytest.fixture
def write_yaml(tmp_path: Path) -> Callable[..., str]:
    """Write a yaml file of this text into the folder of the test; gives its path."""

    def write_file(text: str, name: str = "config.yaml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write_file


@pytest.fixture
def demo(monkeypatch):
    """What demo/demo.py runs, with a stand-in model behind it."""
    from mask2former_ext.commands import segment, trained_model
    from tests import stand_in_demo

    switches = {"SEMANTIC_ON": True, "INSTANCE_ON": True, "PANOPTIC_ON": True, "MIN_CLASS_PROB": 0.2}
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.WEIGHTS = "Mask2Former", "any.pth"
    cfg.MODEL.MASK_CLASSIFIER.update(switches)
    monkeypatch.setattr(trained_model, "load_config", lambda *_: cfg.clone())
    monkeypatch.setattr(segment, "Predictor", stand_in_demo.StandInPredictor)
    return segment


@pytest.fixture
def folder(tmp_path):
    """A folder with two images and something that is none."""
    from tests import stand_in_demo

    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(np.full((*stand_in_demo.SIZE, 3), 99, dtype=np.uint8)).save(images / name)
    (images / "notes.txt").write_text("no image")
    return images
