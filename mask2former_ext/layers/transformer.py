"""Attention layers, whole transformers and the sine position encoding that the mask-classification models share.

Two families, by their published parameter names: Mask2Former's layers, one residual branch each, and those of DETR
(arXiv 2005.12872, appendix A.3), several branches each with numbered norms, and dropout.

Letters: B batch, N query tokens, M memory tokens, C channels, h, w map size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former_ext.layers.padding import inside, map_size, valid_size


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


def tokens_of(x: Tensor, valid_fraction: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """A map (B, C, h, w) as tokens (B, M, C), their positions (1 or B, M, C), and where attention may look: bool
    (B, 1, 1, M), False on padding, or None without `valid_fraction` (B, 2), the canvas' share that is image."""
    size = map_size(x)
    valid = None if valid_fraction is None else valid_size(size, valid_fraction)
    position = sine_position_encoding(size, x.shape[1], valid, device=x.device).to(x.dtype)
    allowed = None if valid is None else inside(size, valid).flatten(1)[:, None, None]
    return x.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2), allowed


class Attention(nn.Module):
    """Multi-head attention with the parameters of `torch.nn.MultiheadAttention`, batch first, with a mask."""

    def __init__(self, channels: int, num_heads: int, dropout: float = 0.0):
        """`dropout`: of the attention weights, in training."""
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided over {num_heads} attention heads")
        self.num_heads, self.dropout = num_heads, dropout
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
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def within(self, x: Tensor, position: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Self-attention: tokens and their positions (B, N, C), the latter added to query and key -> (B, N, C)."""
        located = x + position
        return self(located, located, x, allowed)


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
        return self.self_attn.within(x, position)


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


class NumberedNormLayer(nn.Module):
    """Residual branches with dropout and norms `norm1`, `norm2`, ...: before (`pre_norm`) or after the sum."""

    def __init__(self, channels: int, hidden: int, dropout: float, *, num_norms: int, pre_norm: bool = False):
        super().__init__()
        self.pre_norm = pre_norm
        self.dropout = nn.Dropout(dropout)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        for number in range(1, num_norms + 1):
            self.add_module(f"norm{number}", nn.LayerNorm(channels))
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def add(self, x: Tensor, branch: Callable[[Tensor], Tensor], number: int) -> Tensor:
        """x plus what `branch` makes of it, with the norm of that number."""
        norm = getattr(self, f"norm{number}")  # get_submodule cannot be exported by PyTorch 2.6
        if self.pre_norm:
            return x + self.dropout(branch(norm(x)))
        return norm(x + self.dropout(branch(x)))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.relu(self.linear1(x))))


class EncoderLayer(NumberedNormLayer):
    """Self-attention, feed-forward network."""

    def __init__(self, channels: int, *, num_heads: int, hidden: int, dropout: float, pre_norm: bool):
        super().__init__(channels, hidden, dropout, num_norms=2, pre_norm=pre_norm)
        self.self_attn = Attention(channels, num_heads, dropout)

    def forward(self, x: Tensor, position: Tensor, allowed: Tensor | None) -> Tensor:
        x = self.add(x, lambda y: self.self_attn.within(y, position, allowed), 1)
        return self.add(x, self.feed_forward, 2)


class DecoderLayer(NumberedNormLayer):
    """Self-attention of the queries, cross-attention to the memory, feed-forward network."""

    def __init__(self, channels: int, *, num_heads: int, hidden: int, dropout: float, pre_norm: bool):
        super().__init__(channels, hidden, dropout, num_norms=3, pre_norm=pre_norm)
        self.self_attn = Attention(channels, num_heads, dropout)
        self.multihead_attn = Attention(channels, num_heads, dropout)

    def forward(self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
        x = self.add(x, lambda y: self.self_attn.within(y, position), 1)
        x = self.add(x, lambda y: self.multihead_attn(y + position, key, value, allowed), 2)
        return self.add(x, self.feed_forward, 3)


class TransformerEncoder(nn.Module):
    """`num_layers` of `EncoderLayer`; with `pre_norm` a LayerNorm after the last."""

    def __init__(self, channels: int, num_layers: int, *, pre_norm: bool, **layer_options: Any):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(channels, pre_norm=pre_norm, **layer_options) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(channels) if pre_norm else nn.Identity()

    def forward(self, x: Tensor, position: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Tokens and their positions (B, M, C); allowed bool, broadcastable to (B, heads, M, M) -> (B, M, C)."""
        for layer in self.layers:
            x = layer(x, position, allowed)
        return self.norm(x)


class TransformerDecoder(nn.Module):
    """`num_layers` of `DecoderLayer`; what leaves a layer passes one LayerNorm, the same for all."""

    def __init__(self, channels: int, num_layers: int, **layer_options: Any):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(channels, **layer_options) for _ in range(num_layers))
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, x: Tensor, position: Tensor, memory: Tensor, memory_position: Tensor, allowed: Tensor | None = None
    ) -> list[Tensor]:
        """Queries and their positions (B, N, C), memory and its positions (B, M, C) -> (B, N, C) after each layer.

        allowed: bool, broadcastable to (B, heads, N, M).
        """
        key, outputs = memory + memory_position, []
        for layer in self.layers:
            x = layer(x, position, key, memory, allowed)
            outputs.append(self.norm(x))
        return outputs


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
