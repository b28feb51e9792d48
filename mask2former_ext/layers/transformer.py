"""Attention layers and the sine position encoding that the mask-classification decoders share.

Letters: B batch, N query tokens, M memory tokens, C channels, h, w map size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sine_position_encoding(
    size: tuple[int, int], channels: int, valid: Tensor | None = None, *, device: torch.device | None = None
) -> Tensor:
    """The two-dimensional sine encoding of DETR (arXiv 2005.12872, appendix A.4), coordinates scaled to (0, 2 pi].

    The first half of the channels encodes y, the second x. `valid` (B, 2) is the valid (height, width) of each map, of
    which the rest is padding; None means that the whole map is valid. Returns (B, C, h, w) float32, B = 1 without it.
    """
    if channels % 4:
        raise ValueError(f"a sine position encoding needs a channel number divisible by 4, got {channels}")
    if valid is None:
        valid = torch.tensor([size], device=device)
    half = channels // 2
    frequency = 10000.0 ** (torch.arange(0, half, 2, dtype=torch.float32, device=valid.device) / half)

    def encode(length: int, valid_length: Tensor) -> Tensor:
        steps = torch.arange(1, length + 1, dtype=torch.float32, device=valid.device)
        steps = torch.minimum(steps, valid_length[:, None].float()) / (valid_length[:, None] + 1e-6) * (2 * math.pi)
        angle = steps[..., None] / frequency
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(2).transpose(1, 2)

    batch, (height, width) = len(valid), size
    y = encode(height, valid[:, 0])[..., None].expand(batch, half, height, width)
    x = encode(width, valid[:, 1])[:, :, None].expand(batch, half, height, width)
    return torch.cat((y, x), dim=1)


class Attention(nn.Module):
    """Multi-head attention with the parameters of `torch.nn.MultiheadAttention`, batch first, with a mask."""

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided over {num_heads} attention heads")
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """query (B, N, C), key and value (B, M, C), allowed bool broadcastable to (B, heads, N, M) -> (B, N, C)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class _ResidualLayer(nn.Module):
    """A residual branch with its LayerNorm before (`pre_norm`) or after the sum."""

    def __init__(self, channels: int, pre_norm: bool):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, *args: Tensor | None) -> Tensor:
        if self.pre_norm:
            return x + self.branch(self.norm(x), *args)
        return self.norm(x + self.branch(x, *args))

    def branch(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        raise NotImplementedError


class SelfAttentionLayer(_ResidualLayer):
    """Queries attend to each other; positions are added to query and key."""

    def __init__(self, channels: int, num_heads: int, pre_norm: bool = False):
        super().__init__(channels, pre_norm)
        self.self_attn = Attention(channels, num_heads)

    def branch(self, x: Tensor, position: Tensor) -> Tensor:
        """x, position (B, N, C)."""
        located = x + position
        return self.self_attn(located, located, x)


class CrossAttentionLayer(_ResidualLayer):
    """Queries attend to the memory where `allowed` says so."""

    def __init__(self, channels: int, num_heads: int, pre_norm: bool = False):
        super().__init__(channels, pre_norm)
        self.multihead_attn = Attention(channels, num_heads)

    def branch(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """x, position (B, N, C); key (the memory with its position added) and value (B, M, C)."""
        return self.multihead_attn(x + position, key, value, allowed)


class FeedForwardLayer(_ResidualLayer):
    """Two linear layers with a ReLU between."""

    def __init__(self, channels: int, hidden_channels: int, pre_norm: bool = False):
        super().__init__(channels, pre_norm)
        self.linear1 = nn.Linear(channels, hidden_channels)
        self.linear2 = nn.Linear(hidden_channels, channels)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def branch(self, x: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(x)))


class MLP(nn.Module):
    """`num_layers` linear layers, ReLU between."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int):
        super().__init__()
        widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [out_channels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
