"""Sampling maps at points (PointRend, arXiv 1912.08193).

Shapes: N maps, C channels, H, W pixels; P points with x, y in [0, 1] of the map or box; R boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def point_sample(input: Tensor, point_coords: Tensor, **kwargs: Any) -> Tensor:
    """(N, C, H, W) at (N, P, 2) or (N, h, w, 2) points -> (N, C, P) or (N, C, h, w); kwargs go to F.grid_sample.

    0 and 1 are the outer edges of the map, not the centers of its border pixels, unless align_corners=True.
    """
    listed = point_coords.dim() == 3
    grid = point_coords.unsqueeze(2) if listed else point_coords
    sampled = F.grid_sample(input, 2.0 * grid - 1.0, **{"align_corners": False, **kwargs})
    return sampled.squeeze(3) if listed else sampled


def generate_regular_grid_point_coords(R: int, side_size: int, device: torch.device) -> Tensor:  # noqa: N803
    """(R, side_size ** 2, 2): the centers of a square grid, row by row."""
    centers = (torch.arange(side_size, device=device, dtype=torch.float32) + 0.5) / side_size
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    return torch.stack([x, y], dim=-1).view(1, -1, 2).expand(R, -1, -1)


def get_uncertain_point_coords_with_randomness(
    coarse_logits: Tensor,
    uncertainty_func: Callable[[Tensor], Tensor],
    num_points: int,
    oversample_ratio: float,
    importance_sample_ratio: float,
) -> Tensor:
    """(N, num_points, 2): random points, of which a share is the most uncertain of a larger random set (section 3.1).

    `uncertainty_func` maps the logits (N, C, P) at points to (N, 1, P), higher for less certain. It is applied to
    interpolated logits: interpolated uncertainties would be high in the middle between two sure pixels of one class
    and of the other, where the interpolated logit is sure enough.
    """
    assert oversample_ratio >= 1, f"oversample_ratio is {oversample_ratio}, which is less than 1"
    assert 0 <= importance_sample_ratio <= 1, f"importance_sample_ratio {importance_sample_ratio} is not in [0, 1]"
    maps, device = coarse_logits.shape[0], coarse_logits.device
    candidates = torch.rand(maps, int(num_points * oversample_ratio), 2, device=device)
    uncertainty = uncertainty_func(point_sample(coarse_logits, candidates))[:, 0]
    num_uncertain = int(importance_sample_ratio * num_points)
    chosen = uncertainty.topk(num_uncertain, dim=1).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat([uncertain, torch.rand(maps, num_points - num_uncertain, 2, device=device)], dim=1)


def get_point_coords_wrt_image(boxes_coords: Tensor, point_coords: Tensor) -> Tensor:
    """(R, 4) boxes, (R, P, 2) points in them -> (R, P, 2) in pixels of the image."""
    corner, size = boxes_coords[:, None, :2], boxes_coords[:, None, 2:] - boxes_coords[:, None, :2]
    return corner + point_coords.detach() * size
