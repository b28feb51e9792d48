"""Boxes as differences to other boxes (R-CNN, arXiv 1311.2524, appendix C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Box2BoxTransform:
    """(dx, dy, dw, dh): shift of the center in sizes of the source, and the logarithm of the change of size.

    Each is multiplied by its weight.
    """

    def __init__(self, weights: tuple[float, float, float, float], scale_clamp: float = math.log(1000.0 / 16)) -> None:
        """`scale_clamp`: dw and dh are at most this, so that no box becomes endless."""
        self.weights = weights
        self.scale_clamp = scale_clamp

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """(N, 4) and (N, 4) corners -> (N, 4) that take the first to the second."""
        (source, size), (target, target_size) = _center_and_size(src_boxes), _center_and_size(target_boxes)
        assert bool((size > 0).all()), "source boxes without area have no differences"
        deltas = torch.cat([(target - source) / size, (target_size / size).log()], dim=1)
        return deltas * deltas.new_tensor(self.weights)

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """(N, k * 4) differences to each of (N, 4) boxes -> (N, k * 4) boxes."""
        deltas = deltas.float()
        center, size = _center_and_size(boxes.to(deltas.dtype))
        parts = deltas.view(deltas.shape[0], -1, 4) / deltas.new_tensor(self.weights)
        center = center[:, None] + parts[..., :2] * size[:, None]
        half = size[:, None] * parts[..., 2:].clamp(max=self.scale_clamp).exp() / 2
        return torch.cat([center - half, center + half], dim=2).reshape(deltas.shape)


def _center_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
