"""Sampling maps at points (PointRend, arXiv 1912.08193).

Shapes: N maps, C channels, H, W pixels; P points with x, y in [0, 1] of the map or box; R boxes.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2._left_out import left_out
from detectron2.structures import Boxes
from torch import Tensor

__all__ = [
    "generate_regular_grid_point_coords",
    "get_point_coords_wrt_image",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
    "point_sample_fine_grained_features",
    "sample_point_labels",
]

(sample_point_labels,) = left_out(__name__, "sample_point_labels")


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
    if oversample_ratio < 1 or not 0 <= importance_sample_ratio <= 1:
        raise ValueError(
            f"oversample_ratio is {oversample_ratio}, importance_sample_ratio {importance_sample_ratio}; "
            "they are at least 1, and in [0, 1]"
        )
    maps, device = coarse_logits.shape[0], coarse_logits.device
    candidates = torch.rand(maps, int(num_points * oversample_ratio), 2, device=device)
    uncertainty = uncertainty_func(point_sample(coarse_logits, candidates))[:, 0]
    num_uncertain = int(importance_sample_ratio * num_points)
    chosen = uncertainty.topk(num_uncertain, dim=1).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    return torch.cat([uncertain, torch.rand(maps, num_points - num_uncertain, 2, device=device)], dim=1)


def get_uncertain_point_coords_on_grid(uncertainty_map: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
    """(N, 1, H, W) -> indices (N, P) into H * W and coordinates (N, P, 2) of the P most uncertain pixels' centers."""
    height, width = uncertainty_map.shape[-2:]
    indices = uncertainty_map.flatten(1).topk(min(height * width, num_points), dim=1).indices
    row, column = torch.div(indices, width, rounding_mode="floor"), indices % width
    return indices, torch.stack([(column + 0.5) / width, (row + 0.5) / height], dim=-1).float()


def get_point_coords_wrt_image(boxes_coords: Tensor, point_coords: Tensor) -> Tensor:
    """(R, 4) boxes, (R, P, 2) points in them -> (R, P, 2) in pixels of the image."""
    corner, size = boxes_coords[:, None, :2], boxes_coords[:, None, 2:] - boxes_coords[:, None, :2]
    return corner + point_coords.detach() * size


def point_sample_fine_grained_features(
    features_list: Sequence[Tensor], feature_scales: Sequence[float], boxes: Sequence[Boxes], point_coords: Tensor
) -> tuple[Tensor, Tensor]:
    """Features of several levels at (R, P, 2) points of the boxes of all images, R in all.

    `feature_scales`: size of each level (N, C_i, H_i, W_i) relative to the image. Returns (R, sum of C_i, P), and the
    points in pixels of the image, (R, P, 2).
    """
    in_image = get_point_coords_wrt_image(Boxes.cat(list(boxes)).tensor, point_coords)
    per_image = in_image.split([len(each) for each in boxes])
    levels = []
    for features, scale in zip(features_list, feature_scales, strict=True):
        size = in_image.new_tensor([features.shape[-1], features.shape[-2]]) / scale
        sampled = [
            point_sample(features[number : number + 1], (points / size)[None])[0].transpose(0, 1)
            for number, points in enumerate(per_image)
        ]
        levels.append(torch.cat(sampled, dim=0))
    return torch.cat(levels, dim=1), in_image
