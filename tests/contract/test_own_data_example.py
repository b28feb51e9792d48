"""The example of docs/extend.md for a data set of one's own trains and is scored as it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from tests.places import ROOT

pytestmark = pytest.mark.slow  # a training in a process of its own


def test_the_data_set_of_the_documentation_is_trained_on(tmp_path: Path):
    make_shapes(str(tmp_path / "shapes"), Recipe(train=4, val=1, height=64, width=64))
    command = [sys.executable, "train_net.py", "--config-file", "docs/examples/own_data.yaml"]
    command += ["DATASETS.ROOT", str(tmp_path), "OUTPUT_DIR", str(tmp_path / "out"), "SOLVER.MAX_ITER", "2"]
    command += ["SOLVER.WARMUP_ITERS", "1", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "panoptic_seg/PQ" in (tmp_path / "out" / "metrics.json").read_text()
