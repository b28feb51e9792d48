"""Engine of Detectron2, whichever one is installed: what the package and its users' scripts rely on."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import (
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    default_argument_parser,
    default_setup,
    hooks,
    launch,
)
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from tests.configs import solver_config
from tests.places import EMBEDDED, ROOT

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="processes without a GPU are tested")


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)
        nn.init.constant_(self.linear.weight, 0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.linear(batch) - 1).square().mean()}


class SameBatch:
    def __iter__(self):
        while True:
            yield torch.tensor([[1.0, 2.0], [3.0, -1.0]])


class TinyTrainer(DefaultTrainer):
    @classmethod
    def build_model(cls, cfg):  # noqa: ARG003
        return Regression()

    @classmethod
    def build_train_loader(cls, cfg):  # noqa: ARG003
        return SameBatch()


class Idle(TrainerBase):
    def run_step(self) -> None:
        pass


class Recorder(HookBase):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def before_train(self) -> None:
        self.log.append(f"{self.name} before_train")

    def before_step(self) -> None:
        self.log.append(f"{self.name} before_step {self.trainer.iter}")

    def after_backward(self) -> None:
        self.log.append(f"{self.name} after_backward {self.trainer.iter}")

    def after_step(self) -> None:
        self.log.append(f"{self.name} after_step {self.trainer.iter}")

    def after_train(self) -> None:
        self.log.append(f"{self.name} after_train {self.trainer.iter}")


def simple_trainer(model: nn.Module | None = None, momentum: float = 0.0) -> SimpleTrainer:
    model = model or Regression()
    return SimpleTrainer(model, SameBatch(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum))


def run_config(tmp_path: Path, iterations: int) -> CfgNode:
    cfg = solver_config(MAX_ITER=iterations, STEPS=(), BASE_LR=0.05, WARMUP_ITERS=0, CHECKPOINT_PERIOD=4)
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path)])
    return cfg


class FailsAtTwo(HookBase):
    def before_step(self) -> None:
        assert self.trainer.iter < 2, "a step that fails"


# The loop and its hooks


def test_hooks_run_in_the_order_of_registration_around_every_step():
    log: list[str] = []
    trainer = simple_trainer()
    trainer.register_hooks([Recorder("a", log), None, Recorder("b", log)])
    trainer.train(3, 4)
    moments = ["before_train", "before_step 3", "after_backward 3", "after_step 3", "after_train 4"]
    assert log == [f"{name} {moment}" for moment in moments for name in "ab"]


def test_after_train_comes_after_a_failed_step_too():
    log: list[str] = []
    trainer = Idle()
    trainer.register_hooks([Recorder("a", log), FailsAtTwo()])
    with pytest.raises(AssertionError, match="a step that fails"):
        trainer.train(0, 5)
    assert log[-2:] == ["a before_step 2", "a after_train 2"]


@pytest.mark.parametrize(("iterations", "period", "times"), [(6, 3, 2), (7, 3, 3), (4, 0, 1)])
def test_evaluation_runs_every_period_and_once_at_the_end(iterations, period, times):
    calls: list[int] = []
    trainer = Idle()
    trainer.register_hooks([hooks.EvalHook(period, lambda: calls.append(1))])
    trainer.train(0, iterations)
    assert len(calls) == times


def test_no_evaluation_after_a_failed_training():
    calls: list[int] = []
    trainer = Idle()
    trainer.register_hooks([FailsAtTwo(), hooks.EvalHook(0, lambda: calls.append(1))])
    with pytest.raises(AssertionError, match="a step that fails"):
        trainer.train(0, 5)
    assert not calls


def test_evaluation_rejects_a_result_that_is_no_number():
    trainer = Idle()
    trainer.register_hooks([hooks.EvalHook(1, lambda: {"task": {"metric": "good"}})])
    with pytest.raises(ValueError, match="task/metric"):
        trainer.train(0, 2)


class Saves:
    def __init__(self) -> None:
        self.iterations: list[int] = []

    def save(self, name: str, iteration: int) -> None:
        assert name == "model_best"
        self.iterations.append(iteration)


@pytest.mark.parametrize(
    ("mode", "metrics", "saved_at"),
    [("max", [0.3, 0.4, 0.35, 0.5], [1, 3, 8]), ("min", [math.nan, 0.8, 0.9, 0.9], [3]), ("max", [1, 1, 1, 1], [1])],
)
def test_best_checkpointer_saves_only_what_beats_all_before(mode, metrics, saved_at):
    # Evaluated in iterations 1, 3, 5 (counted from 0), and after the last one, when the counter stands at 8.
    values, saves, trainer = iter(metrics), Saves(), Idle()
    evaluation = hooks.EvalHook(2, lambda: {"task": {"score": next(values)}})
    trainer.register_hooks([evaluation, hooks.BestCheckpointer(2, saves, "task/score", mode)])
    trainer.train(0, 8)
    assert saves.iterations == saved_at


def test_writers_write_every_period_and_after_the_last_iteration(tmp_path):
    cfg = run_config(tmp_path, iterations=45)
    TinyTrainer(cfg).train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [19, 39, 44]
    assert {"total_loss", "lr", "data_time", "time"} <= lines[0].keys()


def test_a_loss_that_is_not_finite_stops_simple_trainer():
    model = Regression()
    nn.init.constant_(model.linear.bias, math.inf)
    with pytest.raises(FloatingPointError):
        simple_trainer(model).train(0, 1)


def test_trainer_steps_down_the_gradient():
    # Weight 0.5, 0.5, bias 0; errors 0.5 and 0: d/dw = mean(2 * error * x) = 0.5 * (1, 2), d/db = 0.5; rate 0.1.
    trainer = simple_trainer()
    trainer.train(0, 1)
    torch.testing.assert_close(trainer.model.linear.weight, torch.tensor([[0.45, 0.4]]))
    torch.testing.assert_close(trainer.model.linear.bias, torch.tensor([-0.05]))


# Checkpoints


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    whole = TinyTrainer(run_config(tmp_path / "whole", iterations=8))
    whole.train()
    TinyTrainer(run_config(tmp_path / "parts", iterations=4)).train()
    resumed = TinyTrainer(run_config(tmp_path / "parts", iterations=8))
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 4
    resumed.train()
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)


def test_training_starts_anew_without_resume(tmp_path):
    TinyTrainer(run_config(tmp_path, iterations=4)).train()
    trainer = TinyTrainer(run_config(tmp_path, iterations=4))
    trainer.resume_or_load(resume=False)
    assert trainer.start_iter == 0


def test_resuming_brings_back_rate_and_scheduler(tmp_path):
    first = simple_trainer()
    scheduler = torch.optim.lr_scheduler.StepLR(first.optimizer, step_size=2)
    saver = Checkpointer(first.model, str(tmp_path), trainer=first)
    first.register_hooks([hooks.LRScheduler(scheduler=scheduler), hooks.PeriodicCheckpointer(saver, 5)])
    first.train(0, 5)

    second = simple_trainer()
    scheduler = torch.optim.lr_scheduler.StepLR(second.optimizer, step_size=2)
    second.register_hooks([hooks.LRScheduler(scheduler=scheduler)])
    Checkpointer(second.model, str(tmp_path), trainer=second).resume_or_load("")
    assert (second.iter, scheduler.last_epoch) == (4, 5)
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)  # 0.1 dropped at steps 2 and 4


# Evaluation


class Watcher(DatasetEvaluator):
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.seen: list[int] = [-1]

    def reset(self) -> None:
        self.seen = []

    def process(self, inputs, outputs) -> None:
        assert not self.model.training and not outputs.requires_grad
        self.seen.append(inputs)

    def evaluate(self) -> dict[str, dict[str, int]]:
        return {"task": {"sum": sum(self.seen)}}


class Scale(nn.Linear):
    def forward(self, x: int) -> torch.Tensor:
        return self.weight * x


def test_inference_shows_every_batch_to_the_evaluator_without_gradients():
    model = Scale(1, 1)
    assert inference_on_dataset(model, [1, 2, 3], Watcher(model)) == {"task": {"sum": 6}}


@pytest.mark.parametrize("training", [True, False])
def test_inference_gives_back_the_mode_that_the_model_was_in(training):
    model = Scale(1, 1).train(training)
    inference_on_dataset(model, [1, 2], None)
    assert model.training is training


def test_callbacks_frame_inference():
    calls: list[str] = []
    moments = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {moment: lambda moment=moment: calls.append(moment) for moment in moments}
    inference_on_dataset(Scale(1, 1), [1, 2], None, callbacks)
    assert calls == [moments[0], *moments[1:3], *moments[1:3], moments[3]]


def test_no_evaluator_means_an_empty_result(tmp_path):
    class NoData(TinyTrainer):
        @classmethod
        def build_test_loader(cls, cfg, dataset_name):  # noqa: ARG003
            return []

    cfg = run_config(tmp_path, iterations=1)
    cfg.DATASETS.TEST = ("a", "b")
    assert NoData.test(cfg, Regression()) == {"a": {}, "b": {}}


def test_expected_results_stop_the_run_if_they_are_missed():
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = [["segm", "AP", 40.0, 0.5]]
    assert verify_results(cfg, {"segm": {"AP": 40.4}})
    with pytest.raises(SystemExit):
        verify_results(cfg, {"segm": {"AP": 40.6}})


def test_results_are_flattened_by_slashes():
    assert flatten_results_dict({"a": {"b": {"c": 1}}, "d": 2}) == {"a/b/c": 1, "d": 2}


def test_printed_results_leave_single_classes_out(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(logging.getLogger("detectron2.evaluation.testing"), "info", lines.append)
    print_csv_format({"segm": {"AP": 12.5, "AP-cat": 1.0}})
    assert lines == ["copypaste: Task: segm", "copypaste: AP", "copypaste: 12.5000"]


# Set-up and processes


def test_a_config_for_eight_processes_is_scaled_to_sixteen():
    cfg = solver_config(REFERENCE_WORLD_SIZE=8, IMS_PER_BATCH=16, BASE_LR=0.1, MAX_ITER=5000, STEPS=(4000,))
    scaled = DefaultTrainer.auto_scale_workers(cfg, 16).SOLVER
    assert (scaled.IMS_PER_BATCH, scaled.BASE_LR, scaled.MAX_ITER, scaled.STEPS) == (32, 0.2, 2500, (2000,))
    assert cfg.SOLVER.IMS_PER_BATCH == 16


def test_arguments_end_with_overrides():
    line = "--config-file a.yaml --num-gpus 2 --eval-only SOLVER.BASE_LR 0.1"
    args = default_argument_parser().parse_args(line.split())
    assert (args.config_file, args.num_gpus, args.eval_only, args.resume) == ("a.yaml", 2, True, False)
    assert args.opts == ["SOLVER.BASE_LR", "0.1"]


def test_set_up_writes_the_config_and_seeds(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path), "SEED", 7])
    drawn = []
    for _ in range(2):
        default_setup(cfg, default_argument_parser().parse_args([]))
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]
    assert get_cfg().load_yaml_with_base(str(tmp_path / "config.yaml"))["SEED"] == 7


def write_sum_of_ranks(folder: str) -> None:
    total = torch.tensor([comm.get_rank() + 1.0])
    torch.distributed.all_reduce(total)
    Path(folder, str(comm.get_rank())).write_text(f"{total.item()} of {comm.get_world_size()}")


@pytest.mark.slow
@without_gpu
def test_launch_runs_two_cpu_processes_that_reduce_a_sum(tmp_path):
    launch(write_sum_of_ranks, 2, dist_url="auto", args=(str(tmp_path),))
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["3.0 of 2", "3.0 of 2"]


def test_launch_of_one_process_calls_the_function_here():
    called = []
    launch(called.append, 1, args=(os.getpid(),))
    assert called == [os.getpid()]


@pytest.mark.slow
@without_gpu
@pytest.mark.skipif(not EMBEDDED, reason="launch of the real Detectron2 does not know torchrun")
def test_launch_joins_the_processes_that_torchrun_has_started(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom detectron2.engine import launch\nfrom test_embedded_engine import write_sum_of_ranks\n"
        "launch(write_sum_of_ranks, 1, args=(sys.argv[1],))\n"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    subprocess.run([*torchrun, str(script), str(tmp_path)], check=True, env={**os.environ, "PYTHONPATH": path})
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["3.0 of 2", "3.0 of 2"]


@pytest.mark.slow
def test_evaluators_serve_a_script_that_has_registered_its_own_swin(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from detectron2.modeling import BACKBONE_REGISTRY\n"
        "def D2SwinTransformer(): pass\n"
        "BACKBONE_REGISTRY.register(D2SwinTransformer)\n"
        "import mask2former_ext.evaluation.truth\n"
        "assert BACKBONE_REGISTRY.get('D2SwinTransformer') is D2SwinTransformer\n"
    )
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, str(script)], check=True, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.slow
@pytest.mark.skipif(not EMBEDDED, reason="the real Detectron2 knows nothing of this package")
def test_evaluators_and_visualizer_serve_a_script_with_names_of_its_own(tmp_path):
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, str(ROOT / "tests" / "public_style_script.py"), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["sem_seg 100", "panoptic_seg 100", "bbox 100", "segm 100", "drawn"]
