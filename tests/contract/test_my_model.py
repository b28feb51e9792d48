"""The model of docs/extend.md: a file outside the package passes the contract, is trained and used by the commands."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import test_models

from mask2former_ext.config import import_own_files
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from tests.models import MODELS, config_of
from tests.places import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "my_model"
# What the row of the per-pixel baseline is checked for on a CPU.
CHECKS = [
    check
    for check in vars(test_models).values()
    for mark in getattr(check, "pytestmark", [])
    if mark.name == "parametrize" and mark.args[0] == "name" and "per_pixel_baseline" in mark.args[1]
    if not any(other.name == "gpu" for other in check.pytestmark)
]


@pytest.fixture(scope="module")
def row():
    """The name of the model's row in MODELS."""
    import_own_files([f"{EXAMPLE}.py"])
    MODELS["my_model"] = lambda: config_of(Path(f"{EXAMPLE}.yaml"))
    yield "my_model"
    del MODELS["my_model"]


def test_the_file_has_at_most_60_lines():
    assert len(Path(f"{EXAMPLE}.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("test_"))
def test_the_model_passes_the_contract(check, row, tmp_path):
    assert len(CHECKS) >= 8
    check(row, **({"tmp_path": tmp_path} if "tmp_path" in inspect.signature(check).parameters else {}))


def run(script: str, *options: str, folder: Path) -> str:
    """What a script of the checkout prints, on a CPU."""
    command = [sys.executable, str(ROOT / script), "--import", f"{EXAMPLE}.py", "--config-file", f"{EXAMPLE}.yaml"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_model_is_trained_evaluated_and_used_by_the_commands(tmp_path, processes):
    make_shapes(str(tmp_path / "datasets" / "shapes"), Recipe(train=4, val=2, height=64, width=64))
    settings = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "OUTPUT_DIR", "out"]
    settings += ["DATALOADER.NUM_WORKERS", "0", "DATASETS.ROOT", "datasets"]
    printed = run("train_net.py", "--num-gpus", processes, *settings, folder=tmp_path)
    assert f"{processes} process(es)" in printed and "mIoU" in printed
    picture = "datasets/shapes/val/images/000001.png"
    options = ["--input", picture, "--output", "pictures", "--opts", *settings, "MODEL.WEIGHTS", "out/model_final.pth"]
    assert "1 of 1 inputs segmented" in run("demo/demo.py", *options, folder=tmp_path)
    assert (tmp_path / "pictures" / "000001_semantic.png").is_file()
