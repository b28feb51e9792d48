"""The model of docs/extend.md, a file outside the package, is trained and used by the commands.

It passes the contract in test_models.py, as the row `my_model`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from tests.places import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "my_model"


def test_the_file_has_at_most_60_lines():
    assert len(Path(f"{EXAMPLE}.py").read_text().splitlines()) <= 60


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
