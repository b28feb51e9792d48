"""Optimizer, its parameter groups and the learning-rate schedule, from the SOLVER part of a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.solver.lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler
from fvcore.common import param_scheduler as curves
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.optim import SGD, Optimizer

_NORM_LAYERS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
_CLIP_TYPES = ("value", "norm")
_SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")

ParamGroup = dict[str, Any]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """SGD over the trainable parameters of `model`, with clipping if SOLVER.CLIP_GRADIENTS says so."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    momentum = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    optimizer = SGD(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, foreach=True, **momentum)
    return maybe_add_gradient_clipping(cfg, optimizer)


def maybe_add_gradient_clipping(cfg: CfgNode, optimizer: Any) -> Any:
    """Make `optimizer` (an Optimizer or a class of them) clip each parameter's gradient before every step.

    CLIP_TYPE "value" bounds each element by CLIP_VALUE, "norm" the NORM_TYPE-norm of each parameter's gradient.
    A class gives a new class; an instance is given a new class in place. Unchanged if CLIP_GRADIENTS.ENABLED is off.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return optimizer
    if clip.CLIP_TYPE == "value":
        clip_gradient: Callable[..., Any] = partial(nn.utils.clip_grad_value_, clip_value=clip.CLIP_VALUE)
    elif clip.CLIP_TYPE == "norm":
        clip_gradient = partial(nn.utils.clip_grad_norm_, max_norm=clip.CLIP_VALUE, norm_type=clip.NORM_TYPE)
    else:
        raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE: {clip.CLIP_TYPE!r} is none of {_CLIP_TYPES}")
    if isinstance(optimizer, Optimizer):
        optimizer.__class__ = _clipping_subclass(type(optimizer), clip_gradient)
        return optimizer
    return _clipping_subclass(optimizer, clip_gradient)


def _clipping_subclass(base: type[Optimizer], clip_gradient: Callable[[Tensor], Any]) -> type[Optimizer]:
    class ClippingOptimizer(base):  # type: ignore[misc, valid-type]
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    clip_gradient(parameter)
            return super().step(closure)

    ClippingOptimizer.__name__ = ClippingOptimizer.__qualname__ = base.__name__ + "WithGradientClip"
    return ClippingOptimizer


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[ParamGroup]:
    """Parameter groups of all trainable parameters, each parameter once, as few groups as there are settings.

    None leaves a setting to the optimizer. `weight_decay_norm` is for normalization layers, `bias_lr_factor` and
    `weight_decay_bias` for parameters called "bias". `lr_factor_func` maps a parameter's full name to a factor of its
    learning rate. `overrides` maps the last part of a parameter's name to settings and beats all others.
    """
    if base_lr is None and (lr_factor_func is not None or bias_lr_factor not in (None, 1.0)):
        raise ValueError("bias_lr_factor and lr_factor_func scale the base learning rate: give base_lr with them")
    named_settings = _with_bias_settings(overrides or {}, base_lr, bias_lr_factor, weight_decay_bias)
    common = {key: value for key, value in (("lr", base_lr), ("weight_decay", weight_decay)) if value is not None}
    groups: list[ParamGroup] = []
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            settings = dict(common)
            if weight_decay_norm is not None and isinstance(module, _NORM_LAYERS):
                settings["weight_decay"] = weight_decay_norm
            if lr_factor_func is not None:
                settings["lr"] *= lr_factor_func(f"{module_name}.{name}")
            groups.append({"params": [parameter], **settings, **named_settings.get(name, {})})
    return reduce_param_groups(groups)


def _with_bias_settings(
    overrides: dict[str, dict[str, float]],
    base_lr: float | None,
    bias_lr_factor: float | None,
    weight_decay_bias: float | None,
) -> dict[str, dict[str, float]]:
    bias: dict[str, float] = {}
    if base_lr is not None and bias_lr_factor not in (None, 1.0):
        bias["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        bias["weight_decay"] = weight_decay_bias
    if bias and "bias" in overrides:
        raise ValueError(f"'bias' is set twice: {overrides['bias']} in overrides and {bias} by the bias arguments")
    return {**overrides, "bias": bias} if bias else overrides


def _expand_param_groups(params: list[ParamGroup]) -> list[ParamGroup]:
    """One group per parameter, in order of first appearance; a later group's settings win over an earlier one's."""
    expanded: dict[Any, ParamGroup] = {}
    for group in params:
        settings = {key: value for key, value in group.items() if key not in ("params", "param_names")}
        names = group.get("param_names", [None] * len(group["params"]))
        for parameter, name in zip(group["params"], names, strict=True):
            single = expanded.setdefault(parameter, {"params": [parameter]})
            single.update(settings)
            if name is not None:
                single["param_names"] = [name]
    return list(expanded.values())


def reduce_param_groups(params: list[ParamGroup]) -> list[ParamGroup]:
    """The same parameters and settings in as few groups as possible: the fused optimizers run once per group."""
    merged: dict[tuple[Any, ...], ParamGroup] = {}
    for single in _expand_param_groups(params):
        lists = {key: single.pop(key) for key in ("params", "param_names") if key in single}
        group = merged.setdefault(tuple(single.items()), dict(single))
        for key, values in lists.items():
            group.setdefault(key, []).extend(values)
    return list(merged.values())


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """The schedule SOLVER.LR_SCHEDULER_NAME, with warm-up, over SOLVER.MAX_ITER iterations."""
    solver = cfg.SOLVER
    share = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
    warmup = solver.WARMUP_FACTOR, share, solver.WARMUP_METHOD, solver.RESCALE_INTERVAL
    return LRMultiplier(optimizer, WarmupParamScheduler(_build_curve(cfg), *warmup), solver.MAX_ITER)


def _build_curve(cfg: CfgNode) -> curves.ParamScheduler:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
        if len(steps) < len(solver.STEPS):
            logging.getLogger(__name__).warning(
                f"SOLVER.STEPS {tuple(solver.STEPS)}: those beyond SOLVER.MAX_ITER {solver.MAX_ITER} have no effect"
            )
        values = [solver.GAMMA**drops for drops in range(len(steps) + 1)]
        return curves.MultiStepParamScheduler(values, milestones=steps, num_updates=solver.MAX_ITER)
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        if not 0 <= solver.BASE_LR_END <= solver.BASE_LR:
            raise ValueError(f"SOLVER.BASE_LR_END: {solver.BASE_LR_END} is not in [0, BASE_LR = {solver.BASE_LR}]")
        return curves.CosineParamScheduler(1, solver.BASE_LR_END / solver.BASE_LR)
    if solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR":
        return curves.StepWithFixedGammaParamScheduler(1.0, solver.NUM_DECAYS, solver.GAMMA, solver.MAX_ITER)
    raise ValueError(f"SOLVER.LR_SCHEDULER_NAME: {solver.LR_SCHEDULER_NAME!r} is none of {_SCHEDULES}")
