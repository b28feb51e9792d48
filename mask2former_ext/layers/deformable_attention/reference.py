"""Multi-scale deformable attention by `grid_sample`: short, for any device; faster kernels are held against it.

Shapes: B images; S cells of all levels, level after level, each row by row; H heads; D channels of a head; N queries;
L levels; P sampling points. Cell centers lie at (column + 0.5) / width, (row + 0.5) / height; outside a level is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LevelShapes = Sequence[tuple[int, int]]


def level_slices(level_shapes: LevelShapes) -> Iterator[slice]:
    """The part of S that each level (height, width) takes."""
    start = 0
    for height, width in level_shapes:
        yield slice(start, start + height * width)
        start += height * width


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The type in which sums are taken: the widest among `tensors`, at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def forward_by_grid_sample(
    value: Tensor, level_shapes: LevelShapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """(B, S, H, D), (B, N, H, L, P, 2), (B, N, H, L, P) -> (B, N, H * D) in the type of `value`."""
    batch, _, heads, channels = value.shape
    queries = sampling_locations.shape[1]
    dtype = compute_dtype(value, sampling_locations, attention_weights)
    output = value.new_zeros(batch * heads, channels, queries, dtype=dtype)
    for plane, grid, weights in _heads_first(value, level_shapes, sampling_locations, attention_weights, dtype):
        sampled = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        output += sampled.mul_(weights.unsqueeze(1)).sum(dim=-1)
    output = output.view(batch, heads, channels, queries).permute(0, 3, 1, 2)
    return output.reshape(batch, queries, heads * channels).to(value.dtype)


def backward_by_grid_sample(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: LevelShapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, sampling_locations and attention_weights for `grad_output` (B, N, H * D)."""
    batch, queries, heads, _, points, _ = sampling_locations.shape
    channels = value.shape[-1]
    dtype = compute_dtype(value, sampling_locations, attention_weights)
    grad_value = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    grad_locations = sampling_locations.new_empty(sampling_locations.shape)
    grad_weights = attention_weights.new_empty(attention_weights.shape)
    grad_heads = grad_output.to(dtype).view(batch, queries, heads, channels).permute(0, 2, 3, 1)
    grad_heads = grad_heads.reshape(batch * heads, channels, queries, 1)

    planes = _heads_first(value, level_shapes, sampling_locations, attention_weights, dtype)
    for level, (cells, (plane, grid, weights)) in enumerate(zip(level_slices(level_shapes), planes, strict=True)):
        sampled = F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        grad_level_weights = sampled.mul_(grad_heads).sum(dim=1)
        # 0, 0, False: bilinear, zeros, align_corners=False; both gradients are wanted.
        grad_plane, grad_grid = torch.ops.aten.grid_sampler_2d_backward(
            grad_heads * weights.unsqueeze(1), plane, grid, 0, 0, False, [True, True]
        )
        grad_value[:, cells] = grad_plane.view(batch, heads, channels, -1).permute(0, 3, 1, 2)
        per_head = grad_grid.mul_(2).view(batch, heads, queries, points, 2)
        grad_locations[:, :, :, level] = per_head.transpose(1, 2)
        grad_weights[:, :, :, level] = grad_level_weights.view(batch, heads, queries, points).transpose(1, 2)
    return grad_value, grad_locations, grad_weights


def _heads_first(
    value: Tensor,
    level_shapes: LevelShapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    dtype: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Per level: plane (B * H, D, h, w), grid (B * H, N, P, 2) in [-1, 1], weights (B * H, N, P)."""
    batch, _, heads, channels = value.shape
    for level, cells in enumerate(level_slices(level_shapes)):
        height, width = level_shapes[level]
        plane = value[:, cells].to(dtype).permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = sampling_locations[:, :, :, level].to(dtype).transpose(1, 2).flatten(0, 1) * 2 - 1
        weights = attention_weights[:, :, :, level].to(dtype).transpose(1, 2).flatten(0, 1)
        yield plane, grid, weights
