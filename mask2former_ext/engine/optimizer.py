"""Parameter groups as the published models train them, in few groups so that the optimizer's fused step is used."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from mask2former_ext.contract import contract_of

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)
# Learned positions take no weight decay, wherever they stand.
_POSITIONS = ("relative_position_bias_table", "absolute_pos_embed", "pos_embed")


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict]:
    """Trainable parameters, each once, grouped by (learning rate, weight decay); one empty group if there are none.

    The learning rate is BASE_LR times the factor that the model of `cfg` names (`Contract.learning_rate_factor`). Norms
    take WEIGHT_DECAY_NORM, embeddings WEIGHT_DECAY_EMBED, learned positions none. What is called `bias` learns at
    BIAS_LR_FACTOR times the rate and, unless it is None, with WEIGHT_DECAY_BIAS, in norms too (Detectron2's rule).
    """
    solver, contract = cfg.SOLVER, contract_of(cfg)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            rate = solver.BASE_LR * contract.learning_rate_factor(f"{module_name}.{name}", cfg)
            if isinstance(module, nn.Embedding):
                decay = solver.WEIGHT_DECAY_EMBED
            elif isinstance(module, _NORMS):
                decay = solver.WEIGHT_DECAY_NORM
            elif name in _POSITIONS:
                decay = 0.0
            else:
                decay = solver.WEIGHT_DECAY
            if name == "bias":
                rate *= solver.BIAS_LR_FACTOR
                decay = decay if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
            groups.setdefault((rate, decay), []).append(parameter)
    groups = groups or {(solver.BASE_LR, solver.WEIGHT_DECAY): []}  # PyTorch wants one
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SOLVER.OPTIMIZER over `parameter_groups`. Full-model clipping is the training step's (`full_model_max_norm`);
    Detectron2's per-parameter types are applied here."""
    groups, solver = parameter_groups(cfg, model), cfg.SOLVER
    optimizer: torch.optim.Optimizer
    if solver.OPTIMIZER == "ADAMW":
        optimizer = torch.optim.AdamW(groups, solver.BASE_LR, fused=True)
    elif solver.OPTIMIZER == "SGD":
        optimizer = torch.optim.SGD(groups, solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV)
    else:
        raise ValueError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}: ADAMW and SGD are known")
    if solver.CLIP_GRADIENTS.CLIP_TYPE != "full_model":
        return maybe_add_gradient_clipping(cfg, optimizer)
    return optimizer


def full_model_max_norm(cfg: CfgNode) -> float | None:
    """The bound on the norm of all gradients together, if SOLVER.CLIP_GRADIENTS asks for that type."""
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if clip.ENABLED and clip.CLIP_TYPE == "full_model" and clip.CLIP_VALUE > 0:
        return clip.CLIP_VALUE
    return None
