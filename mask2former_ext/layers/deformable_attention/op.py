"""The operators `mask2former_ext::multi_scale_deformable_attention` and `..._backward`, and the function over them.

`torch.compile` and `torch.export` see one node. Shapes as in `reference.py`.

On CPUs the kernel is `cpu.py`, elsewhere `reference.py`. Sums are taken in the widest type among the arguments,
at least float32, and the result has the type of `value`; so under autocast half-precision values may meet locations
and weights in float32, and no cast is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .cpu import backward_by_embedding_bag, forward_by_embedding_bag
from .reference import backward_by_grid_sample, forward_by_grid_sample

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_FORWARD = "mask2former_ext::multi_scale_deformable_attention"
_ARGUMENTS = "Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations, Tensor attention_weights"


def multi_scale_deformable_attention(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples of all levels (arXiv 2010.04159, section 4.1).

    value (B, S, H, D); spatial_shapes (height, width) of L levels, whose cells sum up to S; sampling_locations
    (B, N, H, L, P, 2) as (x, y), 0..1 from edge to edge of a level, zeros outside; attention_weights (B, N, H, L, P).
    Returns (B, N, H * D) in the type of `value`. Differentiable once in the three tensors.

    Raises ValueError for shapes that do not fit together, other types than float16, bfloat16, float32 and float64,
    and tensors on different devices.
    """
    for name, tensor in (("sampling_locations", sampling_locations), ("attention_weights", attention_weights)):
        if tensor.device != value.device:
            raise ValueError(f"{name} is on {tensor.device}, but value on {value.device}; all must be on one device")
    for shape in spatial_shapes:
        if len(shape) != 2:
            raise ValueError(f"spatial_shapes: each level is (height, width), got {tuple(shape)}")
    flat = [size for shape in spatial_shapes for size in shape]
    return _forward(value, flat, sampling_locations, attention_weights)


@torch.library.custom_op(_FORWARD, mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor")
def _forward(
    value: Tensor, spatial_shapes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    levels = _checked_levels(value, spatial_shapes, sampling_locations, attention_weights)
    if 0 in sampling_locations.shape or value.shape[-1] == 0:
        return _empty_output(value, spatial_shapes, sampling_locations, attention_weights).zero_()
    kernel = forward_by_embedding_bag if value.device.type == "cpu" else forward_by_grid_sample
    return kernel(value, levels, sampling_locations, attention_weights)


@torch.library.custom_op(
    f"{_FORWARD}_backward", mutates_args=(), schema=f"(Tensor grad_output, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)"
)
def _backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    levels = _checked_levels(value, spatial_shapes, sampling_locations, attention_weights)
    if 0 in sampling_locations.shape or value.shape[-1] == 0:
        empty = _empty_gradients(grad_output, value, spatial_shapes, sampling_locations, attention_weights)
        return empty[0].zero_(), empty[1].zero_(), empty[2].zero_()
    kernel = backward_by_embedding_bag if value.device.type == "cpu" else backward_by_grid_sample
    return kernel(grad_output, value, levels, sampling_locations, attention_weights)


@_forward.register_fake
def _empty_output(
    value: Tensor, _spatial_shapes: Sequence[int], sampling_locations: Tensor, _weights: Tensor
) -> Tensor:
    batch, queries, heads = sampling_locations.shape[:3]
    return value.new_empty(batch, queries, heads * value.shape[3])


@_backward.register_fake
def _empty_gradients(
    _grad_output: Tensor, value: Tensor, _spatial_shapes: Sequence[int], sampling_locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        value.new_empty(value.shape),
        sampling_locations.new_empty(sampling_locations.shape),
        weights.new_empty(weights.shape),
    )


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  passed by this name
    value, ctx.spatial_shapes, sampling_locations, attention_weights = inputs
    ctx.save_for_backward(value, sampling_locations, attention_weights)


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, sampling_locations, attention_weights = ctx.saved_tensors
    grad_value, grad_locations, grad_weights = _backward(
        grad_output, value, ctx.spatial_shapes, sampling_locations, attention_weights
    )
    return grad_value, None, grad_locations, grad_weights


_forward.register_autograd(_differentiate, setup_context=_save_for_backward)


def _checked_levels(
    value: Tensor, spatial_shapes: Sequence[int], sampling_locations: Tensor, attention_weights: Tensor
) -> list[tuple[int, int]]:
    """The levels as (height, width) pairs; ValueError if the arguments do not fit together."""
    tensors = {"value": value, "sampling_locations": sampling_locations, "attention_weights": attention_weights}
    for (name, tensor), dimensions in zip(tensors.items(), (4, 6, 5), strict=True):
        if tensor.dim() != dimensions:
            raise ValueError(f"{name} must have {dimensions} dimensions, got the shape {tuple(tensor.shape)}")
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"{name} must be float16, bfloat16, float32 or float64, got {tensor.dtype}")

    levels = list(zip(spatial_shapes[::2], spatial_shapes[1::2], strict=True))
    if not levels or min(spatial_shapes) < 1:
        raise ValueError(f"spatial_shapes needs a level or more, each of height and width 1 or more, got {levels}")
    batch, cells, heads, _ = value.shape
    level_cells = sum(height * width for height, width in levels)
    if level_cells != cells:
        raise ValueError(f"value has {cells} cells in dimension 1, but spatial_shapes {levels} has {level_cells}")
    queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    expected = (batch, queries, heads, len(levels), points, 2)
    if sampling_locations.shape != expected:
        raise ValueError(
            f"sampling_locations must be (batch, queries, heads, levels, points, 2) = {expected} to fit value "
            f"{tuple(value.shape)} and {len(levels)} levels, got {tuple(sampling_locations.shape)}"
        )
    if attention_weights.shape != expected[:-1]:
        raise ValueError(
            f"attention_weights must be {expected[:-1]} to fit sampling_locations, got {tuple(attention_weights.shape)}"
        )
    return levels
