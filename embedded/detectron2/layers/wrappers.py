"""torch's layers under Detectron2's names; `Conv2d` adds the normalization and activation that follow it."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple  # noqa: UP035  (TorchScript reads these)

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ConvTranspose2d = nn.ConvTranspose2d
interpolate = F.interpolate


class Conv2d(nn.Conv2d):
    """nn.Conv2d with keyword arguments `norm` (a module) and `activation` (a callable), applied to its output."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        norm, activation = kwargs.pop("norm", None), kwargs.pop("activation", None)
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)


def cat(tensors: List[Tensor], dim: int = 0) -> Tensor:  # noqa: UP006
    """torch.cat that gives back a single tensor as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def nonzero_tuple(x: Tensor) -> Tuple[Tensor, ...]:  # noqa: UP006
    """Indices of the nonzero entries, one tensor per dimension."""
    return x.nonzero(as_tuple=True)


def shapes_to_tensor(x: List[int], device: Optional[torch.device] = None) -> Tensor:  # noqa: UP006, UP045
    """Sizes as one tensor; while tracing they may be tensors, and stay connected to them."""
    if torch.jit.is_tracing():
        return torch.stack([torch.as_tensor(size, device=device) for size in x])
    return torch.as_tensor(x, device=device)
