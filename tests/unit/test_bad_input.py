"""What users get wrong in a configuration or on the command line is an error that names key, value and rule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

import mask2former_ext
from mask2former_ext.config.checks import check_model, check_training, tell_unread
from mask2former_ext.data import prepare_data, register_all
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.engine import Trainer, argument_parser, evaluate, setup
from mask2former_ext.interop.weights import read_weights

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "mask2former" / "shapes_panoptic.yaml"


def config(*overrides) -> CfgNode:
    return mask2former_ext.load_config(str(CONFIG), ["MODEL.DEVICE", "cpu", *overrides])


def test_a_sound_configuration_passes():
    check_model(config())
    check_training(config(), num_processes=2)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.META_ARCHITECTURE", "Mask2Fomer", "META_ARCHITECTURE is 'Mask2Fomer', the nearest .* is Mask2Former"),
        ("MODEL.BACKBONE.NAME", "build_resnet_bakbone", "BACKBONE.NAME is .* nearest .* is build_resnet_backbone"),
        ("INPUT.FORMAT", "RBG", "INPUT.FORMAT is 'RBG', but must be RGB, BGR or L, with a capital letter"),
        ("MODEL.DEVICE", "gpu", "MODEL.DEVICE is 'gpu', but must be cpu, cuda or cuda:NUMBER"),
    ],
)
def test_a_model_that_cannot_be_built_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        check_model(config(key, value))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATASETS.TRAIN", "()", "DATASETS.TRAIN is empty"),
        ("INPUT.TARGETS", "panoptik", "INPUT.TARGETS is 'panoptik', the nearest known one is panoptic"),
        ("SOLVER.LR_SCHEDULER_NAME", "WarmupPoly", "LR_SCHEDULER_NAME is 'WarmupPoly', the nearest .* is WarmupPolyLR"),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "0.0", "CLIP_GRADIENTS.NORM_TYPE is 0.0, but must be positive"),
        ("SOLVER.MAX_ITER", "0", "SOLVER.MAX_ITER is 0, but must be at least 1"),
        ("SOLVER.IMS_PER_BATCH", "0", "IMS_PER_BATCH is 0, but must be a positive multiple"),
        ("SOLVER.IMS_PER_BATCH", "3", "IMS_PER_BATCH is 3, but must be .* multiple of the number of processes, 2"),
    ],
)
def test_a_training_that_cannot_run_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        check_training(config(key, value), num_processes=2)


def test_the_command_line_checks_before_anything_is_written(tmp_path):
    overrides = ["SOLVER.IMS_PER_BATCH", "0", "OUTPUT_DIR", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="SOLVER.IMS_PER_BATCH is 0"):
        setup(argument_parser().parse_args(["--config-file", str(CONFIG), *overrides]))
    assert not (tmp_path / "out").exists()


def test_a_model_to_predict_with_is_checked():
    with pytest.raises(ValueError, match="INPUT.FORMAT is 'RBG'"):
        mask2former_ext.load_model(config("INPUT.FORMAT", "RBG"))


ARCHITECTURES = ["Mask2Former", "MaskFormer", "OneFormer", "MaskRCNN", "PanopticFPN"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_architecture_is_given_a_file_of_proposals(architecture):
    with pytest.raises(ValueError, match="MODEL.LOAD_PROPOSALS is True, but must be False: .* can execute anything"):
        check_model(config("MODEL.META_ARCHITECTURE", architecture, "MODEL.LOAD_PROPOSALS", "True"))


@pytest.fixture
def proposals(tmp_path) -> list[str]:
    """Overrides that ask for a pickle, which makes the folder `executed` where it is loaded."""
    (tmp_path / "proposals.pkl").write_bytes(b"cos\nmkdir\n(V" + str(tmp_path / "executed").encode() + b"\ntR.")
    files = f"('{tmp_path / 'proposals.pkl'}',)"
    files_named = ["DATASETS.PROPOSAL_FILES_TRAIN", files, "DATASETS.PROPOSAL_FILES_TEST", files]
    return ["MODEL.LOAD_PROPOSALS", "True", *files_named]


@pytest.mark.parametrize("options", [[], ["--eval-only"]], ids=["training", "evaluation"])
def test_the_command_line_refuses_proposals_before_it_reads_them(proposals, options, tmp_path):
    overrides = [*proposals, "OUTPUT_DIR", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="MODEL.LOAD_PROPOSALS is True, but must be False"):
        setup(argument_parser().parse_args(["--config-file", str(CONFIG), *options, *overrides]))
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("use", [Trainer, evaluate, mask2former_ext.load_model, mask2former_ext.Predictor])
def test_python_code_cannot_load_proposals_either(proposals, use, tmp_path):
    with pytest.raises(ValueError, match="MODEL.LOAD_PROPOSALS is True, but must be False"):
        use(config(*proposals))
    assert not (tmp_path / "executed").exists()


def test_a_test_loader_of_its_own_reads_no_proposals(data, proposals, tmp_path):
    cfg = config(*proposals, "DATASETS.ROOT", str(data), "DATALOADER.NUM_WORKERS", 0)
    prepare_data(cfg)
    with pytest.raises(ValueError, match="MODEL.LOAD_PROPOSALS is True, but must be False"):
        Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
    assert not (tmp_path / "executed").exists()


def test_evaluation_without_data_is_refused():
    with pytest.raises(ValueError, match="DATASETS.TEST is empty"):
        evaluate(config("DATASETS.TEST", "()", "MODEL.WEIGHTS", "any.pth"))


def test_a_folder_of_weights_that_is_no_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"weights {tmp_path}: a folder"):
        read_weights(str(tmp_path))


def test_weights_that_cannot_be_fetched_are_named():
    with pytest.raises(OSError, match="weights https://127.0.0.1:9/m.pth cannot be fetched"):
        read_weights("https://127.0.0.1:9/m.pth")


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02X\xff", b"(lp0\n0.", b"K\x01a."])
@pytest.mark.parametrize("name", ["a.pth", "a.pkl"])
def test_a_file_that_is_no_weight_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: not a weight file that can be read safely"):
        read_weights(str(tmp_path / name))


@pytest.fixture
def data(tmp_path) -> Iterator[Path]:
    """The folder of the data sets, with 2 synthetic images to train on in it."""
    make_shapes(str(tmp_path / "shapes"), Recipe(train=2, val=1, height=64, width=64))
    yield tmp_path
    register_all()


class Checkpoint:
    """An OUTPUT_DIR's checkpoint, or none, of a model with 3 queries."""

    def __init__(self, folder: Path, exists: bool):
        self.model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "queries": nn.Embedding(4, 2)})
        self.path, self.has_checkpoint = str(folder / "model.pth"), lambda: exists
        torch.save({"model": {**self.model.state_dict(), "queries.weight": torch.zeros(3, 2)}}, self.path)

    def get_checkpoint_file(self) -> str:
        return self.path


def test_a_checkpoint_of_another_model_is_not_resumed(tmp_path):
    trainer = SimpleNamespace(checkpointer=Checkpoint(tmp_path, exists=True))
    with pytest.raises(ValueError, match=r"--resume: .*model.pth is of another model(.|\n)*queries.weight \[3, 2\]"):
        Trainer.resume_or_load(trainer, resume=True)


@pytest.mark.slow
def test_a_resumed_training_may_be_longer_than_the_first(data, tmp_path):
    def trainer(steps: int) -> Trainer:
        settings = ["SOLVER.MAX_ITER", steps, "SOLVER.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0]
        settings += ["DATASETS.ROOT", str(data), "DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path)]
        cfg = config(*settings, "SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "SOLVER.WARMUP_ITERS", 0)
        prepare_data(cfg)
        return Trainer(cfg)

    trainer(1).train()
    longer = trainer(3)
    longer.resume_or_load(resume=True)
    longer.train()
    assert (longer.start_iter, longer.scheduler.last_epoch) == (1, 3)


def test_resuming_without_a_checkpoint_is_said(tmp_path, caplog):
    trainer = SimpleNamespace(checkpointer=Checkpoint(tmp_path, exists=False), cfg=config("OUTPUT_DIR", "here"))
    Trainer.resume_or_load(trainer, resume=True)
    assert "--resume: OUTPUT_DIR here has no checkpoint" in caplog.text


def test_evaluation_of_changed_copies_is_said_not_to_be_done(caplog):
    tell_unread(config("TEST.AUG.ENABLED", "True"))
    assert "TEST.AUG.ENABLED is True, but images are evaluated once" in caplog.text


@pytest.mark.parametrize(("key", "value"), [("VIS_PERIOD", 20), ("MODEL.KEYPOINT_ON", True)])
def test_tell_unread_names_a_key_that_our_models_do_not_read(key, value, caplog):
    tell_unread(config(key, value))
    assert f"{key} is {value}, but" in caplog.text and "the key is not read" in caplog.text


def test_tell_unread_is_silent_about_defaults(caplog):
    tell_unread(config())
    assert caplog.messages == []


def test_a_model_for_a_gpu_is_loaded_on_the_cpu_where_there_is_none(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert mask2former_ext.load_model(config("MODEL.DEVICE", "cuda")).device.type == "cpu"
    assert "PyTorch finds none: the CPU is used" in caplog.text
