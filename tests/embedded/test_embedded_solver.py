"""Schedules and optimizers of Detectron2, whichever one is installed."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.solver import build_lr_scheduler, build_optimizer, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter
from torch import nn

from tests.configs import solver_config


def learning_rates(iterations: int, **keys) -> list[float]:
    """Rates at iterations 0, 1, ... under these SOLVER keys, with a base rate of 1 and no warm-up unless given."""
    cfg = solver_config(**{"BASE_LR": 1.0, "WARMUP_ITERS": 0, "MAX_ITER": iterations, **keys})
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(iterations - 1):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


# Schedules


def test_multi_step_schedule_warms_up_and_drops_at_its_steps():
    # Warm-up from 0.5 to 1 over two iterations, then tenfold drops at 4 and 6.
    rates = learning_rates(8, STEPS=(4, 6), GAMMA=0.1, WARMUP_ITERS=2, WARMUP_FACTOR=0.5)
    assert rates == pytest.approx([0.5, 0.75, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant_warm_up_jumps_at_its_end():
    rates = learning_rates(4, STEPS=(), WARMUP_ITERS=2, WARMUP_FACTOR=0.25, WARMUP_METHOD="constant")
    assert rates == pytest.approx([0.25, 0.25, 1, 1])


def test_steps_beyond_the_end_are_ignored():
    assert learning_rates(3, STEPS=(2, 9), GAMMA=0.1) == pytest.approx([1, 1, 0.1])


def test_cosine_schedule_falls_to_its_end_value():
    # (1 + cos(pi t / 4)) / 2 at t = 0, 1, 2, 3, between 1 and 0.2: 0.2 + 0.8 x it.
    rates = learning_rates(4, LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR_END=0.2)
    assert rates == pytest.approx([1, 0.2 + 0.8 * 0.8535534, 0.6, 0.2 + 0.8 * 0.1464466])


def test_step_schedule_with_fixed_gamma_divides_training_evenly():
    # Two decays cut six iterations in three parts.
    rates = learning_rates(6, LR_SCHEDULER_NAME="WarmupStepWithFixedGammaLR", NUM_DECAYS=2, GAMMA=0.5)
    assert rates == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(("method", "factors"), [("linear", [0.1, 0.55, 1.0]), ("constant", [0.1, 0.1, 1.0])])
def test_the_warm_up_that_schedules_of_other_repositories_call(method: str, factors: list[float]):
    # From 0.1 to 1 in 10 iterations: 0.1 + 0.9 * 5 / 10 at the fifth.
    assert [_get_warmup_factor_at_iter(method, t, 10, 0.1) for t in (0, 5, 10)] == pytest.approx(factors)


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(ValueError, match="NoSuchLR"):
        learning_rates(2, LR_SCHEDULER_NAME="NoSuchLR")


# Optimizer


def test_norm_layers_and_overrides_get_their_own_weight_decay():
    model = nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1), nn.Embedding(1, 1))
    groups = get_default_optimizer_params(
        model, base_lr=1.0, weight_decay=0.1, weight_decay_norm=0.0, overrides={"bias": {"lr": 3.0}}
    )
    settings = {parameter: (g["lr"], g["weight_decay"]) for g in groups for parameter in g["params"]}
    assert settings[model[0].weight] == settings[model[2].weight] == (1.0, 0.1)
    assert settings[model[0].bias] == (3.0, 0.1)
    assert settings[model[1].weight] == (1.0, 0.0)


def test_a_shared_parameter_is_optimized_once_and_a_frozen_one_never():
    shared, frozen = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False).requires_grad_(False)
    groups = get_default_optimizer_params(nn.ModuleList([shared, frozen, nn.Sequential(shared)]), base_lr=1.0)
    assert [parameter for group in groups for parameter in group["params"]] == [shared.weight]


def step_with_gradient(gradient: list[float], **clip) -> torch.Tensor:
    """The step that SGD with rate 1 takes from 0."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    cfg = solver_config(BASE_LR=1.0, MOMENTUM=0.0, WEIGHT_DECAY=0.0, CLIP_GRADIENTS=CfgNode({"ENABLED": True, **clip}))
    optimizer = build_optimizer(cfg, model)
    model.weight.grad = torch.tensor([gradient])
    optimizer.step()
    return -model.weight.detach()[0]


def test_norm_clipping_scales_the_gradient_of_a_parameter():
    step = step_with_gradient([3.0, 4.0], CLIP_TYPE="norm", CLIP_VALUE=1.0, NORM_TYPE=2.0)
    torch.testing.assert_close(step, torch.tensor([0.6, 0.8]), rtol=1e-5, atol=0)


def test_value_clipping_bounds_each_element():
    step = step_with_gradient([3.0, -0.5], CLIP_TYPE="value", CLIP_VALUE=1.0)
    torch.testing.assert_close(step, torch.tensor([1.0, -0.5]))


def test_clipping_of_an_unknown_type_is_an_error():
    with pytest.raises(ValueError, match="median"):
        step_with_gradient([1.0, 1.0], CLIP_TYPE="median")


def test_an_optimizer_class_is_left_alone_without_clipping():
    assert maybe_add_gradient_clipping(get_cfg(), torch.optim.AdamW) is torch.optim.AdamW
