"""Scripts and data sets of docs/extend.md that are Python files: each is run for two steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from tests.places import ROOT

EXAMPLES = ROOT / "docs" / "examples"
STEPS = ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"]

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the synthetic set in its place, datasets/shapes."""
    make_shapes(str(tmp_path / "datasets" / "shapes"), Recipe(train=4, val=2, height=64, width=64))
    return tmp_path


def run(*command: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_detectron2_script_trains_by_detectron2s_trainer(folder):
    bases = f"[{EXAMPLES / 'own_script.yaml'}, {ROOT / 'configs/models/mask_classifier_tiny.yaml'}]"
    (folder / "docs" / "examples").mkdir(parents=True)  # the script names its yaml relative to where it is run
    text = f"_BASE_: {bases}\nSOLVER: {{MAX_ITER: 2, IMS_PER_BATCH: 2}}\nDATALOADER: {{NUM_WORKERS: 0}}\n"
    (folder / "docs" / "examples" / "own_script.yaml").write_text(text)
    run(str(EXAMPLES / "own_script.py"), folder=folder)
    assert (folder / "output" / "own_script" / "model_final.pth").is_file()


def test_a_data_set_registered_in_python_is_trained_on_and_scored(folder):
    example = str(EXAMPLES / "own_dataset")
    tiny = folder / "tiny.yaml"
    tiny.write_text(f"_BASE_: [{example}.yaml, {ROOT / 'configs/models/mask_classifier_tiny.yaml'}]\n")
    command = [str(ROOT / "train_net.py"), "--import", f"{example}.py", "--config-file", str(tiny)]
    printed = run(*command, *STEPS, folder=folder)
    assert "disk, square, triangle" in printed and "mIoU" in printed
