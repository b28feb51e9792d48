"""The trainer: what it reads, what it passes on, what it says of its last evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import mask2former_ext
from mask2former_ext.data import prepare_data, register_all
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.engine import Trainer, evaluate
from mask2former_ext.models.mask2former import Mask2Former

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "mask2former" / "tiny.yaml"


@pytest.fixture
def new_trainer(tmp_path) -> Iterator[Callable[..., Trainer]]:
    """Makes a trainer for one step on two synthetic images; its arguments are overrides."""
    make_shapes(str(tmp_path / "shapes"), Recipe(train=2, val=1, height=64, width=64))
    settings = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0]
    settings += ["DATASETS.ROOT", str(tmp_path), "OUTPUT_DIR", str(tmp_path / "out"), "INPUT.IMAGE_SIZE", 64]
    settings += ["DATASETS.TRAIN", "('shapes_train',)", "DATASETS.TEST", "()", "MODEL.WEIGHTS", ""]

    def make(*overrides: object) -> Trainer:
        cfg = mask2former_ext.load_config(str(CONFIG), [*settings, *overrides])
        prepare_data(cfg)
        return Trainer(cfg)

    yield make
    register_all()


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The files that torch.load reads from here on."""
    load, paths = torch.load, list[str]()
    monkeypatch.setattr(torch, "load", lambda path, **options: (paths.append(str(path)), load(path, **options))[1])
    return paths


def test_resume_reads_the_checkpoint_once(new_trainer, tmp_path, loads):
    new_trainer().train()
    resumed = new_trainer("SOLVER.MAX_ITER", 2)
    resumed.resume_or_load(resume=True)
    assert loads == [str(tmp_path / "out" / "model_final.pth")]


def test_resume_takes_up_model_optimizer_and_step(new_trainer):
    first = new_trainer()
    first.train()
    resumed = new_trainer("SOLVER.MAX_ITER", 2)
    resumed.resume_or_load(resume=True)
    states = [trainer.optimizer.state_dict()["state"] for trainer in (first, resumed)]
    torch.testing.assert_close(*states)
    torch.testing.assert_close(*(trainer.model.state_dict() for trainer in (first, resumed)))
    assert resumed.start_iter == 1


def test_a_checkpoint_without_the_trainers_state_is_not_resumed(new_trainer, tmp_path):
    new_trainer().train()
    path = tmp_path / "out" / "model_final.pth"
    torch.save({"model": torch.load(path, weights_only=True)["model"]}, path)
    with pytest.raises(ValueError, match=r"--resume: .*model_final.pth holds no 'trainer'"):
        new_trainer().resume_or_load(resume=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "last_checkpoint names '.*out/', which is no file"), ("model_final.pth", "model_final.pth: not a weight")],
)
def test_a_checkpoint_lost_to_a_full_disk_is_named_with_the_others(new_trainer, tmp_path, name, message):
    new_trainer("SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 1).train()
    (tmp_path / "out" / "last_checkpoint").write_text(name)
    (tmp_path / "out" / "model_final.pth").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=f"--resume: .*{message}(.|\n)*write its name .*: model_0000000.pth"):
        new_trainer().resume_or_load(resume=True)


class Pupil(Mask2Former):
    """Counts the steps that it has seen, which no parameter or buffer holds."""

    steps, finished = 0, 0

    def train_batch(self, *batch):
        self.steps += 1
        return super().train_batch(*batch)

    def finish_training(self) -> None:
        self.finished += 1

    def resume_state(self) -> dict:
        return {"steps": self.steps, "finished": self.finished}

    def load_resume_state(self, state: dict) -> None:
        self.steps = state["steps"]


def test_finish_training_is_called_once_before_the_last_checkpoint(new_trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "build_model", staticmethod(Pupil))
    trainer = new_trainer("SOLVER.MAX_ITER", 2)
    trainer.train()
    stored = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["trainer"]["model"]
    assert stored == {"steps": 2, "finished": 1} and trainer.model.finished == 1


def test_resume_state_comes_back_when_training_goes_on(new_trainer, monkeypatch):
    monkeypatch.setattr(Trainer, "build_model", staticmethod(Pupil))
    new_trainer().train()
    resumed = new_trainer("SOLVER.MAX_ITER", 2)
    resumed.resume_or_load(resume=True)
    assert resumed.model.steps == 1


def test_norm_type_of_the_configuration_reaches_the_step(new_trainer):
    clip = "SOLVER.CLIP_GRADIENTS."
    trainer = new_trainer(clip + "ENABLED", True, clip + "CLIP_TYPE", "full_model", clip + "NORM_TYPE", 1.0)
    assert trainer._trainer.norm_type == 1.0


def test_last_results_are_empty_before_an_evaluation(new_trainer):
    assert dict(new_trainer().last_results) == {}


@pytest.mark.slow
def test_expected_results_without_a_test_set_are_refused(new_trainer):
    trainer = new_trainer("TEST.EXPECTED_RESULTS", [["sem_seg", "mIoU", 50.0, 1.0]])
    with pytest.raises(ValueError, match="TEST.EXPECTED_RESULTS is given, but DATASETS.TEST is empty"):
        trainer.train()


def test_evaluate_without_weights_is_refused(new_trainer):
    cfg = new_trainer("DATASETS.TEST", "('shapes_val',)").cfg
    with pytest.raises(ValueError, match="--eval-only needs MODEL.WEIGHTS, or --resume"):
        evaluate(cfg)
