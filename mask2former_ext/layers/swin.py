"""Swin Transformer (arXiv 2103.14030) as a backbone for dense prediction, with the published parameter names and rules.

What differs from a Swin for classification: any image size, by padding maps to whole windows and to even sides; odd
blocks are always shifted, even where one window covers the map; each output has its own norm; a stage ends, not begins,
with the downsampling that leads to the next.

Shapes: B images; H, W rows and columns of a map; C channels; w window side in cells; N = w * w cells of a window;
M windows of a map; h heads. Maps are (B, H, W, C), windows (B * M, N, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from mask2former_ext.layers.partly_frozen import PartlyFrozen

# Added to the attention logit of two cells that a cyclic shift has brought together from opposite sides of the map.
_FAR_APART = -100.0


def split_into_windows(x: Tensor, side: int) -> Tensor:
    """(B, H, W, C) -> (B * M, N, C), H and W multiples of `side`."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // side, side, width // side, side, channels)
    return x.transpose(2, 3).reshape(-1, side * side, channels)


def join_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """(B * M, N, C) -> (B, height, width, C): the inverse of `split_into_windows`."""
    channels = windows.shape[-1]
    x = windows.view(-1, height // side, width // side, side, side, channels)
    return x.transpose(2, 3).reshape(-1, height, width, channels)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """(B, H, W, C) with zeros below and on the right, up to the next multiple."""
    height, width = x.shape[1:3]
    below, right = -height % multiple, -width % multiple
    return F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x


def shifted_window_mask(height: int, width: int, side: int, shift: int, like: Tensor) -> Tensor:
    """(M, N, N) for a map shifted by (-shift, -shift): 0 between cells that were neighbors before, `_FAR_APART` else.

    Along each axis the last window holds two parts: what lies there and what was moved round from the front.
    """

    def part(length: int) -> Tensor:
        position = torch.arange(length, device=like.device)
        return (position >= length - side).int() + (position >= length - shift).int()

    parts = part(height)[:, None] * 3 + part(width)
    cells = split_into_windows(parts[None, :, :, None], side).squeeze(-1)
    return (cells[:, :, None] != cells[:, None, :]).to(like.dtype) * _FAR_APART


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows, with a learned bias for each relative position (section 3.2)."""

    relative_position_index: Tensor

    def __init__(
        self,
        channels: int,
        window_size: int,
        num_heads: int,
        *,
        qkv_bias: bool,
        qk_scale: float | None,
        attention_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = qk_scale
        self.attention_dropout = attention_dropout
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_positions(window_size))
        self.qkv = nn.Linear(channels, channels * 3, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """(B * M, N, C), (M, N, N) -> (B * M, N, C)."""
        num_windows, cells, _ = windows.shape
        query, key, value = self.qkv(windows).view(num_windows, cells, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=self.bias(mask, num_windows).to(query.dtype),
            dropout_p=self.attention_dropout if self.training else 0.0,
            scale=self.scale,
        )
        return self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))

    def bias(self, mask: Tensor | None, num_windows: int) -> Tensor:
        """What is added to the logits: (1, h, N, N) without a mask, (B * M, h, N, N) with one (M, N, N)."""
        cells = self.relative_position_index.shape[0]
        position = self.relative_position_bias_table[self.relative_position_index.flatten()]
        position = position.view(cells, cells, self.num_heads).permute(2, 0, 1).unsqueeze(0)
        if mask is None:
            return position
        combined = position + mask.unsqueeze(1)
        return combined.expand(num_windows // mask.shape[0], *combined.shape).flatten(0, 1)


def relative_positions(window_size: int) -> Tensor:
    """(N, N): index into the bias table of the relative position of each two cells of a window."""
    steps = torch.arange(window_size)
    rows, columns = steps.repeat_interleave(window_size), steps.repeat(window_size)
    down = rows[:, None] - rows + window_size - 1
    right = columns[:, None] - columns + window_size - 1
    return down * (2 * window_size - 1) + right


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, channels: int, hidden_channels: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class SwinBlock(nn.Module):
    """Window attention and MLP, each after a norm and beside a shortcut (figure 3b); `shift` 0: regular windows."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window_size: int,
        shift: int,
        *,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        dropout: float,
        attention_dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.window_size, self.shift = window_size, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(
            channels,
            window_size,
            num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attention_dropout=attention_dropout,
            dropout=dropout,
        )
        self.drop_path = StochasticDepth(drop_path, mode="row")
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C), (M, N, N) -> (B, H, W, C); `mask` counts in shifted blocks only."""
        x = x + self.drop_path(self.attend(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attention within the windows of the padded and, in shifted blocks, rolled map."""
        height, width = x.shape[1:3]
        x = pad_to_multiple(x, self.window_size)
        padded_height, padded_width = x.shape[1:3]
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = self.attn(split_into_windows(x, self.window_size), mask if self.shift else None)
        x = join_windows(windows, self.window_size, padded_height, padded_width)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Halve the map: 2 x 2 neighbors become one cell of twice the channels. Odd sides are padded with zeros."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2 * C)."""
        x = pad_to_multiple(x, 2)
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels)
        # The weights count on this order of the four: down the left column, then down the right one.
        x = x.permute(0, 1, 3, 4, 2, 5).reshape(batch, height // 2, width // 2, 4 * channels)
        return self.reduction(self.norm(x))


class SwinStage(nn.Module):
    """The blocks of one resolution, every second one shifted by half a window, and the way to the next resolution."""

    def __init__(
        self,
        blocks: Sequence[SwinBlock],
        downsample: PatchMerging | None,
        window_size: int,
        use_checkpoint: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
        self.window_size = window_size
        self.use_checkpoint = use_checkpoint

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> the stage's own map (B, H, W, C), and the next stage's input, the same if it is the last."""
        height, width = (side + -side % self.window_size for side in x.shape[1:3])
        mask = shifted_window_mask(height, width, self.window_size, self.window_size // 2, like=x)
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        return x, x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """The image cut into patches, each projected to a cell; the image is padded with zeros to whole patches."""

    def __init__(self, patch_size: int, in_channels: int, channels: int, patch_norm: bool) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, channels, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(channels) if patch_norm else None

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, image height, image width) -> (B, H, W, C)."""
        height, width = image.shape[-2:]
        image = F.pad(image, (0, -width % self.patch_size, 0, -height % self.patch_size))
        x = self.proj(image).permute(0, 2, 3, 1)
        return x if self.norm is None else self.norm(x)


class SwinTransformer(PartlyFrozen):
    """The backbone. The defaults are Swin-T; `num_features` and `strides` hold, by output name, channels and stride.

    `out_features`: of res2 (stride `patch_size`), res3, res4, ...; stages behind the last of them are not built.
    `qk_scale`: factor of the attention logits, None for 1 / sqrt(channels of a head). `drop_path_rate`: probability to
    skip a branch, rising linearly from 0 in the first block to this in the last. `ape`: add a learned position
    embedding of `pretrain_img_size` pixels' width and height, resized to the image. `use_checkpoint`: in training,
    recompute each block in the backward pass to save memory. `freeze_at`: 1 freezes the patch embedding, 2 also the
    stage of res2, and so on; 0 nothing.
    """

    def __init__(
        self,
        *,
        pretrain_img_size: int = 224,
        patch_size: int = 4,
        in_channels: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        ape: bool = False,
        patch_norm: bool = True,
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        use_checkpoint: bool = False,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        names = [f"res{stage + 2}" for stage in range(len(depths))]
        _check_sizes(embed_dim, depths, num_heads, window_size, names, out_features)
        self.num_features = {name: embed_dim * 2**stage for stage, name in enumerate(names) if name in out_features}
        self.strides = {name: patch_size * 2**stage for stage, name in enumerate(names) if name in out_features}

        self.patch_embed = PatchEmbed(patch_size, in_channels, embed_dim, patch_norm)
        self.absolute_pos_embed = None
        if ape:
            side = pretrain_img_size // patch_size
            self.absolute_pos_embed = nn.Parameter(torch.empty(1, embed_dim, side, side))
        self.pos_drop = nn.Dropout(drop_rate)

        drop_paths = [drop_path_rate * block / max(sum(depths) - 1, 1) for block in range(sum(depths))]
        options: dict[str, Any] = {"mlp_ratio": mlp_ratio, "qkv_bias": qkv_bias, "qk_scale": qk_scale}
        options |= {"dropout": drop_rate, "attention_dropout": attn_drop_rate}
        self.layers = nn.ModuleList()
        num_stages = max(names.index(name) for name in out_features) + 1
        for stage in range(num_stages):
            channels = embed_dim * 2**stage
            stage_drop_paths = drop_paths[sum(depths[:stage]) : sum(depths[: stage + 1])]
            blocks = _stage_blocks(channels, num_heads[stage], window_size, stage_drop_paths, options)
            downsample = PatchMerging(channels) if stage + 1 < num_stages else None
            self.layers.append(SwinStage(blocks, downsample, window_size, use_checkpoint))
            if names[stage] in out_features:
                self.add_module(f"norm{stage}", nn.LayerNorm(channels))
        self.reset_parameters()
        if not 0 <= freeze_at <= num_stages + 1:
            raise ValueError(f"freeze_at must be 0 to {num_stages + 1}, got {freeze_at}")
        self.freeze([self.patch_embed, *self.layers][:freeze_at])
        if freeze_at and self.absolute_pos_embed is not None:
            self.absolute_pos_embed.requires_grad_(False)

    def reset_parameters(self) -> None:
        """Linear weights and position embedding from a normal distribution of deviation 0.02, biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> for each output (B, channels, ceil(H / stride), ceil(W / stride))."""
        x = self.patch_embed(image)
        if self.absolute_pos_embed is not None:
            positions = F.interpolate(self.absolute_pos_embed, size=x.shape[1:3], mode="bicubic")
            x = x + positions.permute(0, 2, 3, 1)
        x = self.pos_drop(x)
        outputs = {}
        for stage, layer in enumerate(self.layers):
            own, x = layer(x)
            if f"res{stage + 2}" in self.num_features:
                norm = self.get_submodule(f"norm{stage}")
                outputs[f"res{stage + 2}"] = norm(own).permute(0, 3, 1, 2).contiguous()
        return outputs


def _stage_blocks(
    channels: int, num_heads: int, window_size: int, drop_paths: Sequence[float], options: dict[str, Any]
) -> list[SwinBlock]:
    """One block for each of `drop_paths`, regular and shifted in turn."""
    return [
        SwinBlock(
            channels,
            num_heads,
            window_size,
            shift=window_size // 2 if position % 2 else 0,
            drop_path=drop_path,
            **options,
        )
        for position, drop_path in enumerate(drop_paths)
    ]


def _check_sizes(
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window_size: int,
    names: Sequence[str],
    out_features: Sequence[str],
) -> None:
    if len(depths) != len(num_heads):
        raise ValueError(f"depths and num_heads must be of one length, got {list(depths)} and {list(num_heads)}")
    for stage, heads in enumerate(num_heads):
        if embed_dim * 2**stage % heads:
            raise ValueError(f"stage {stage} has {embed_dim * 2**stage} channels, which {heads} heads do not divide")
    if window_size < 2:
        raise ValueError(f"window_size must be 2 or more, since half of it is the shift; got {window_size}")
    unknown = [name for name in out_features if name not in names]
    if unknown or not out_features:
        raise ValueError(f"out_features must be some of {list(names)}, got {list(out_features)}")
