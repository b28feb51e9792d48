"""What fails in silence when it is wired wrongly: groups, clipping, skipped steps, joint batches."""

from __future__ import annotations

import argparse

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.utils.events import EventStorage, get_event_storage
from torch import nn

from mask2former_ext import add_config
from mask2former_ext.engine.optimizer import build_optimizer, full_model_max_norm, parameter_groups
from mask2former_ext.engine.step import TrainingStep
from mask2former_ext.folders import open_folder


def solver_config(**solver):
    cfg = get_cfg()
    add_config(cfg)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.BACKBONE_MULTIPLIER = 1e-3, 0.05, 0.1
    for key, value in solver.items():
        cfg.merge_from_list([f"SOLVER.{key.replace('__', '.')}", value])
    return cfg


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2, bias=False), nn.LayerNorm(2))
        self.head = nn.Linear(2, 1, bias=False)
        self.query = nn.Embedding(3, 2)
        self.twin = self.head  # the same module under a second name


def rate_and_decay(model: nn.Module, parameter: nn.Parameter, **solver) -> tuple[float, float]:
    groups = parameter_groups(solver_config(**solver), model)
    return rate_and_decay_in(groups, parameter)


def rate_and_decay_in(groups: list[dict], parameter: nn.Parameter) -> tuple[float, float]:
    (group,) = [g for g in groups if any(p is parameter for p in g["params"])]
    return group["lr"], group["weight_decay"]


def test_parameters_of_the_backbone_learn_at_the_multiplied_rate():
    model = Parts()
    assert rate_and_decay(model, model.backbone[0].weight) == (pytest.approx(1e-4), 0.05)
    assert rate_and_decay(model, model.head.weight) == (1e-3, 0.05)


@pytest.mark.parametrize("name", ["task_mlp", "class_input_proj", "class_transformer"])
def test_what_oneformers_queries_start_from_learns_at_its_own_rate(name: str):
    model = nn.ModuleDict({"predictor": nn.ModuleDict({name: nn.Linear(2, 2), "mask_embed": nn.Linear(2, 2)})})
    cfg = solver_config(INITIAL_QUERIES_MULTIPLIER=0.5)
    cfg.MODEL.META_ARCHITECTURE = "OneFormer"
    groups = parameter_groups(cfg, model)
    rates = [rate_and_decay_in(groups, layer.weight)[0] for layer in model["predictor"].values()]
    assert rates == [pytest.approx(5e-4), 1e-3]


def test_norms_and_embeddings_have_their_own_weight_decay():
    model = Parts()
    assert rate_and_decay(model, model.backbone[1].weight) == (pytest.approx(1e-4), 0.0)
    assert rate_and_decay(model, model.query.weight) == (1e-3, 0.0)


def test_biases_have_their_own_rate_and_weight_decay_in_norms_too():
    model = Parts()
    own = {"BIAS_LR_FACTOR": 2.0, "WEIGHT_DECAY_BIAS": 0.3}
    assert rate_and_decay(model, model.backbone[1].bias, **own) == (pytest.approx(2e-4), 0.3)
    assert rate_and_decay(model, model.backbone[1].weight, **own) == (pytest.approx(1e-4), 0.0)


def test_a_parameter_with_two_names_is_in_one_group():
    params = [p for group in parameter_groups(solver_config(), Parts()) for p in group["params"]]
    assert len(params) == len({id(p) for p in params}) == 5


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="SOLVER.OPTIMIZER is 'ADAGRAD'"):
        build_optimizer(solver_config(OPTIMIZER="ADAGRAD"), Parts())


def test_only_full_model_clipping_is_the_steps_own():
    clip = "CLIP_GRADIENTS__"
    full = {clip + "ENABLED": True, clip + "CLIP_TYPE": "full_model", clip + "CLIP_VALUE": 0.01}
    assert full_model_max_norm(solver_config(**full)) == 0.01
    assert full_model_max_norm(solver_config(**{**full, "CLIP_GRADIENTS__CLIP_TYPE": "norm"})) is None
    assert full_model_max_norm(solver_config()) is None


def test_full_model_clipping_to_zero_means_none():
    clip = {"ENABLED": True, "CLIP_TYPE": "full_model", "CLIP_VALUE": 0.0}
    cfg = solver_config(**{f"CLIP_GRADIENTS__{key}": value for key, value in clip.items()})
    assert full_model_max_norm(cfg) is None and isinstance(build_optimizer(cfg, Parts()), torch.optim.AdamW)


class Scripted(nn.Module):
    """Loss = factor of the batch x weight; "raise" raises what the matcher raises, "root" has a gradient of nan."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, batch):
        factor = batch[0]["factor"]
        if factor == "raise":
            raise FloatingPointError("matching cost is not finite")
        if factor == "root":
            return {"loss_ce": (0 * self.weight).sqrt().sum()}
        return {"loss_ce": factor * self.weight.sum(), "loss_mask": 0 * self.weight.sum()}


def run_steps(factors: list, storage: EventStorage | None = None, **options) -> Scripted:
    model = Scripted()
    batches = [[{"factor": factor, "file_name": f"{index}.jpg"}] for index, factor in enumerate(factors)]
    step = TrainingStep(model, batches, torch.optim.SGD(model.parameters(), lr=1.0), **options)
    model.train()
    with storage or EventStorage(0) as storage:
        for step.iter in range(len(factors)):
            storage.iter = step.iter
            step.run_step()
    return model


def test_full_model_clipping_bounds_the_total_norm():
    # gradient (6, 6) has norm 8.49; clipped to 2 it moves the weight by sqrt(2) in each coordinate
    model = run_steps([6.0], max_norm=2.0)
    torch.testing.assert_close(model.weight.data, torch.tensor([3 - 2**0.5, 4 - 2**0.5]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("norm_type", "moved"), [(1.0, 1.0), (2.0, 2**0.5), (float("inf"), 2.0)])
def test_norm_type_is_the_norm_that_full_model_clipping_bounds(norm_type: float, moved: float):
    # gradient (6, 6): |6| + |6| = 12, sqrt(72) = 8.49, max 6; of norm 2 it is (1, 1), (sqrt(2), sqrt(2)), (2, 2)
    model = run_steps([6.0], max_norm=2.0, norm_type=norm_type)
    torch.testing.assert_close(model.weight.data, torch.tensor([3 - moved, 4 - moved]), rtol=1e-4, atol=1e-4)


def test_a_step_without_gradient_shows_the_batch_and_changes_nothing():
    with EventStorage(0) as storage:
        model = run_steps([6.0], by_gradient=False, storage=storage)
        assert model.weight.tolist() == [3.0, 4.0] and storage.latest()["total_loss"][0] == 42.0  # 6 (3 + 4)


def test_build_optimizer_takes_a_model_without_parameters():
    optimizer = build_optimizer(solver_config(), nn.ReLU())
    optimizer.step()
    assert [group["params"] for group in optimizer.param_groups] == [[]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "raise", "root"])
def test_a_step_that_is_not_finite_changes_nothing_and_training_goes_on(bad):
    model = run_steps([bad, 1.0])
    assert model.weight.tolist() == [2.0, 3.0]


def test_a_skipped_step_is_logged_with_its_terms_and_images(caplog):
    with caplog.at_level("WARNING"):
        run_steps([float("nan"), 1.0])
    assert "step 0 skipped, 1 in a row: losses ['loss_ce'] are not finite" in caplog.text and "0.jpg" in caplog.text


def test_too_many_skipped_steps_in_a_row_stop_training():
    run_steps([float("nan"), 1.0, float("nan"), 1.0], max_nonfinite_steps=2)
    with pytest.raises(FloatingPointError, match="SOLVER.MAX_NONFINITE_STEPS is 2"):
        run_steps([1.0, float("nan"), float("nan")], max_nonfinite_steps=2)


def test_in_float16_a_gradient_counts_as_not_finite_once_the_scale_is_1():
    # The scale starts at 2 ** 16 and is halved 16 times, in steps 0 to 15; steps 16 and 17 are the two that count.
    with pytest.raises(FloatingPointError, match="step 17 skipped, 2 in a row: the gradient's norm is nan"):
        run_steps(["root"] * 20, max_nonfinite_steps=2, precision=torch.float16)


def test_losses_reach_the_event_storage():
    model = Scripted().train()
    step = TrainingStep(model, [[{"factor": 2.0}]], torch.optim.SGD(model.parameters(), lr=1.0))
    with EventStorage(0):
        step.iter = 0
        step.run_step()
        assert get_event_storage().latest()["total_loss"][0] == 14.0


def test_the_last_step_has_one_line(caplog):
    from mask2former_ext.engine.progress import ProgressWriter

    writer = ProgressWriter(max_iter=2, images_per_step=1)
    with EventStorage(0) as storage, caplog.at_level("INFO"):
        for storage.iter in (1, 2):
            writer.write()
    assert [line.split("iter ")[1].split()[0] for line in caplog.messages] == ["2/2"]


def test_amp_on_a_cpu_trains_in_float32_and_says_so():
    from mask2former_ext.engine.setup import banner, precision

    cfg = solver_config(AMP__ENABLED=True)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES = 3
    assert precision(cfg) == torch.float32
    assert "float32 (SOLVER.AMP is for GPUs" in banner(cfg, eval_only=False)


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="OUTPUT_DIR .*file/model.* cannot be written"):
        open_folder(str(tmp_path / "file" / "model"), "OUTPUT_DIR")


def test_several_machines_without_gpus_are_refused(monkeypatch):
    from mask2former_ext.engine import launch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = argparse.Namespace(num_gpus=2, num_machines=2, machine_rank=0, dist_url="auto")
    with pytest.raises(ValueError, match="--num-machines 2 needs GPUs"):
        launch(print, args)
