"""Several processes are one joint batch: the whole way through train_net.py, on the CPU, by gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes

pytestmark = pytest.mark.slow  # a training in a process of its own

ROOT = Path(__file__).resolve().parents[2]
MASK2FORMER = "mask2former/shapes_panoptic"
ONEFORMER = "oneformer/shapes"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    make_shapes(str(root / "shapes"), Recipe(train=12, val=3, height=64, width=64))
    return root


def train(data: Path, output: Path, processes: int, *options: str, config: str = MASK2FORMER) -> None:
    """Train a shapes model, without batch statistics or dropout (those are each process's own), from seed 7."""
    settings = {
        "DATASETS.ROOT": data,
        "OUTPUT_DIR": output,
        "SEED": 7,
        "DATALOADER.NUM_WORKERS": 0,
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.RESNETS.OUT_FEATURES": "['res2', 'res3', 'res4', 'res5']",
        "MODEL.RESNETS.NORM": "FrozenBN",
        "MODEL.MASKFORMER.DROPOUT": "0.0",
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.WARMUP_ITERS": 0,
        "TEST.EVAL_PERIOD": 0,
        "DATASETS.TEST": "()",
    }
    command = [sys.executable, "train_net.py", "--config-file", f"configs/{config}.yaml"]
    command += ["--num-gpus", str(processes)]
    command += [str(x) for pair in settings.items() for x in pair] + list(options)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return torch.load(output / "model_final.pth", weights_only=False)["model"]


@pytest.mark.parametrize(
    ("config", "num_losses"),
    # three terms at four places, three terms at three places, one term at three places, and each time their sum;
    # OneFormer: three terms at seven places, the contrastive one, and their sum
    [(MASK2FORMER, 13), ("maskformer/shapes_panoptic", 10), ("per_pixel/shapes_baseline_plus", 4), (ONEFORMER, 23)],
)
def test_first_losses_and_gradients_of_two_processes_are_those_of_one(data, tmp_path, config, num_losses):
    # one plain SGD step of rate 1 without clipping: the weights move by exactly the gradient
    step = ["SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "1.0"]
    step += ["SOLVER.MOMENTUM", "0.0", "SOLVER.WEIGHT_DECAY", "0.0", "SOLVER.CLIP_GRADIENTS.ENABLED", "False"]
    for processes in (1, 2):
        train(data, tmp_path / str(processes), processes, *step, config=config)
    one, two = (records(tmp_path / name)[-1] for name in ("1", "2"))
    losses = [key for key in one if "loss" in key]
    assert len(losses) == num_losses
    assert {key: two[key] for key in losses} == pytest.approx({key: one[key] for key in losses}, abs=1e-5, rel=1e-5)
    expected = weights(tmp_path / "1")
    for key, value in weights(tmp_path / "2").items():
        torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=1e-5, msg=key)


@pytest.mark.slow
def test_the_twentieth_loss_of_two_processes_is_that_of_one(data, tmp_path):
    options = ["SOLVER.MAX_ITER", "20", "SOLVER.STEPS", "()"]
    for processes in (1, 2):
        train(data, tmp_path / str(processes), processes, *options)
    one, two = (records(tmp_path / name)[-1] for name in ("1", "2"))
    assert one["iteration"] == two["iteration"] == 19
    assert two["total_loss"] == pytest.approx(one["total_loss"], rel=0.02)
