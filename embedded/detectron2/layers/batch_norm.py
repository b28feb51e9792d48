"""Normalization layers by name. Shapes: N images, C channels, H, W pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.utils import comm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch normalization with fixed statistics and affine parameters, all of them buffers."""

    _version = 3
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor | None

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features) - eps)  # a fresh layer is the identity
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        if not x.requires_grad:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        # For the backward pass a product and a sum need less memory than batch_norm.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.view(1, -1, 1, 1).to(x.dtype) + shift.view(1, -1, 1, 1).to(x.dtype)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict, *args: Any, **kwargs: Any
    ) -> None:
        """Files from before version 2 hold only weight and bias: their statistics are 0 and 1."""
        if (local_metadata.get("version") or 0) < 2:
            state_dict.setdefault(prefix + "running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(prefix + "running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)

    def __repr__(self) -> str:
        return f"FrozenBatchNorm2d(num_features={self.num_features}, eps={self.eps})"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """The module with every BatchNorm2d and SyncBatchNorm in it, or itself, replaced by a frozen copy."""
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            frozen = cls(module.num_features, module.eps)
            for name, value in module.state_dict().items():  # num_batches_tracked keeps its place in the state dict
                setattr(frozen, name, value.detach().clone())
            return frozen
        for name, child in module.named_children():
            setattr(module, name, cls.convert_frozen_batchnorm(child))
        return module


class NaiveSyncBatchNorm(nn.BatchNorm2d):
    """Batch normalization over all processes, by averaging their means and mean squares.

    `stats_mode` "": every process counts the same; "N": by its number of images, which may be zero.
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if stats_mode not in ("", "N"):
            raise ValueError(f"NaiveSyncBatchNorm: stats_mode is {stats_mode!r}; it is '' or 'N'")
        self._stats_mode = stats_mode

    def forward(self, input: Tensor) -> Tensor:
        if comm.get_world_size() == 1 or not self.training:
            return super().forward(input)
        half = input.dtype in (torch.float16, torch.bfloat16)
        x = input.float() if half else input
        images, channels = x.shape[0], x.shape[1]
        if images == 0:
            own = torch.zeros(2, channels, dtype=x.dtype, device=x.device) + x.sum() * 0
        else:
            own = torch.stack([x.mean(dim=(0, 2, 3)), (x * x).mean(dim=(0, 2, 3))])
        momentum = self.momentum
        if self._stats_mode == "N":
            counted = torch.cat([own.flatten() * images, own.new_tensor([float(images)])])
            counted = differentiable_all_reduce(counted)
            total = counted[-1].detach()
            momentum = momentum * total.clamp(max=1)  # no image in any process: keep the statistics
            mean, mean_square = (counted[:-1] / total.clamp(min=1)).view(2, channels)
        else:
            assert images > 0, "SyncBatchNorm of stats_mode '' does not take an empty batch"
            mean, mean_square = differentiable_all_reduce(own) / dist.get_world_size()
        variance = mean_square - mean * mean
        self.running_mean += momentum * (mean.detach() - self.running_mean)
        self.running_var += momentum * (variance.detach() - self.running_var)
        scale = self.weight * (variance + self.eps).rsqrt()
        out = x * scale.view(1, -1, 1, 1) + (self.bias - mean * scale).view(1, -1, 1, 1)
        return out.to(input.dtype) if half else out


class LayerNorm(nn.Module):
    """Layer normalization over the channels of (N, C, H, W)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": lambda channels: NaiveSyncBatchNorm(channels, stats_mode="N"),
    "GN": lambda channels: nn.GroupNorm(32, channels),
    "LN": LayerNorm,
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """The layer for `out_channels` that a name (or a function of the channels) stands for; None for None and ""."""
    if norm is None or norm == "":
        return None
    if isinstance(norm, str):
        if norm not in _NORMS:
            raise ValueError(f"unknown normalization {norm!r}; known: {sorted(_NORMS)}")
        norm = _NORMS[norm]
    return norm(out_channels)
