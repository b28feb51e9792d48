"""The attention layer around the operator: where each query looks and how much each sample counts are linear in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .op import multi_scale_deformable_attention


class MultiScaleDeformableAttention(nn.Module):
    """Multi-scale deformable attention (arXiv 2010.04159, section 4.1), with the published parameter names.

    Shapes: B images; N queries; C = `embed_dim`; S cells of all L levels, level after level, each row by row.
    """

    def __init__(self, embed_dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        for name, number in (("num_heads", num_heads), ("num_levels", num_levels), ("num_points", num_points)):
            if number < 1:
                raise ValueError(f"{name} must be 1 or more, got {number}")
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dim, samples * 2)
        self.attention_weights = nn.Linear(embed_dim, samples)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """At the start all samples count the same, and point p of a head lies p cells away in the head's direction.

        The directions are spread evenly over the circle, stretched so that the longer coordinate is 1 (appendix of
        the paper: with 8 heads these are the 8 neighbors of a cell).
        """
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1)
        offsets = directions[:, None, None] * distances[:, None]  # (H, 1, P, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        value_input: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, N, C) -> (B, N, C).

        reference_points (B, N, L, 2): (x, y) in 0..1 from edge to edge of the level, around which a query samples.
        value_input (B, S, C): features of the levels, whose (height, width) are `spatial_shapes`.
        padding_mask (B, S): True for cells that hold no image; they count as zero.
        """
        if len(spatial_shapes) != self.num_levels:
            raise ValueError(f"built for {self.num_levels} levels, got spatial_shapes {list(spatial_shapes)}")
        batch, queries, _ = query.shape
        value = self.value_proj(value_input)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask.unsqueeze(-1), 0.0)
        value = value.unflatten(-1, (self.num_heads, -1))

        levels_points = (self.num_levels, self.num_points)
        offsets_cells = self.sampling_offsets(query).view(batch, queries, self.num_heads, *levels_points, 2)
        sizes = [[width, height] for height, width in spatial_shapes]
        cell = 1.0 / torch.tensor(sizes, dtype=reference_points.dtype, device=query.device)
        locations = torch.addcmul(reference_points[:, :, None, :, None], offsets_cells, cell[:, None])
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(dim=-1)
        weights = weights.unflatten(-1, levels_points)
        return self.output_proj(multi_scale_deformable_attention(value, spatial_shapes, locations, weights))
