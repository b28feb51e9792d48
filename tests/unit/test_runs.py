"""A model from the folder of its training: config.yaml and the last weights."""

from __future__ import annotations

import pytest
import torch

from mask2former_ext import Predictor
from mask2former_ext.commands.trained_model import configure
from mask2former_ext.engine import argument_parser, setup
from mask2former_ext.inference.runs import run_weights
from tests.models import MODELS, build


@pytest.fixture
def run(tmp_path):
    """The folder of a training from weights of others, which has saved twice."""
    cfg = MODELS["mask2former_resnet"]()
    cfg.MODEL.WEIGHTS = "of_others.pkl"
    (tmp_path / "config.yaml").write_text(cfg.dump())
    for name in ("model_0000004.pth", "model_final.pth"):
        torch.save({"model": build("mask2former_resnet").state_dict()}, tmp_path / name)
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    return tmp_path


def test_from_run_loads_the_last_weights(run):
    predictor = Predictor.from_run(run)
    expected = torch.load(run / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(value, expected[name]) for name, value in predictor.model.state_dict().items())


def test_the_last_weights_are_those_that_last_checkpoint_names(run):
    (run / "last_checkpoint").write_text("model_0000004.pth\n")
    assert run_weights(run) == run / "model_0000004.pth"


def test_the_final_weights_are_taken_where_last_checkpoint_names_none(run):
    (run / "last_checkpoint").write_text("gone.pth")
    assert run_weights(run) == run / "model_final.pth"


def test_last_checkpoint_names_no_file_outside_of_the_folder(run):
    inner = run / "inner"
    inner.mkdir()
    (inner / "last_checkpoint").write_text("../model_final.pth")
    assert run_weights(inner) is None


@pytest.mark.parametrize(
    ("overrides", "weights"),
    [([], "model_final.pth"), (["MODEL.WEIGHTS", "mine.pth"], "mine.pth"), (["SEED", 3], "model_final.pth")],
)
def test_configure_takes_the_weights_of_the_run_unless_others_are_named(run, overrides, weights):
    assert configure(str(run / "config.yaml"), overrides).MODEL.WEIGHTS.endswith(weights)


def test_weights_of_the_run_that_its_file_names_stay(run):
    cfg = MODELS["mask2former_resnet"]()
    cfg.MODEL.WEIGHTS = str(run / "model_0000004.pth")
    (run / "config.yaml").write_text(cfg.dump())
    assert configure(str(run / "config.yaml")).MODEL.WEIGHTS == str(run / "model_0000004.pth")


@pytest.mark.parametrize(("eval_only", "weights"), [(["--eval-only"], "model_final.pth"), ([], "of_others.pkl")])
def test_evaluation_takes_the_weights_of_the_run_and_training_does_not(run, tmp_path, eval_only, weights):
    for split in ("train", "val"):
        (tmp_path / "shapes" / split / "images").mkdir(parents=True)
    places = ["DATASETS.ROOT", str(tmp_path), "OUTPUT_DIR", str(tmp_path / "new")]
    options = ["--config-file", str(run / "config.yaml"), *eval_only, *places]
    assert setup(argument_parser().parse_args(options)).MODEL.WEIGHTS.endswith(weights)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.yaml there, so this is not the folder of a run"):
        Predictor.from_run(tmp_path)


def test_a_run_that_saved_no_weights_is_named(run):
    for path in run.glob("*.pth"):
        path.unlink()
    with pytest.raises(ValueError, match="the run saved no weights"):
        Predictor.from_run(run)


def test_a_last_checkpoint_that_is_no_text_names_no_file(run):
    (run / "last_checkpoint").write_bytes(b"\xff\xfe\x00")
    assert run_weights(run) == run / "model_final.pth"


@pytest.mark.parametrize("content", ["", "CUDNN_BENCHMARK: false\n"])
def test_a_configuration_that_is_cut_off_is_told(run, content):
    (run / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"config\.yaml: names no MODEL.META_ARCHITECTURE, so it was not written to"):
        Predictor.from_run(run)


def test_weights_that_are_cut_off_are_told_by_their_file(run):
    whole = (run / "model_final.pth").read_bytes()
    (run / "model_final.pth").write_bytes(whole[:5000])
    with pytest.raises(ValueError, match=r"model_final\.pth: not a weight file that can be read safely"):
        Predictor.from_run(run)
