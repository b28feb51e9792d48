"""Which part of a feature map is image, where images of several sizes share a padded canvas.

Letters: B batch, h, w map size. An image lies in the top left of its canvas.
"""

from __future__ import annotations

import torch
from torch import Tensor


def map_size(x: Tensor) -> tuple[int, int]:
    """(..., h, w) -> (h, w)."""
    return x.shape[-2], x.shape[-1]


def valid_size(size: tuple[int, int], fraction: Tensor) -> Tensor:
    """(B, 2) fractions of a canvas -> valid (height, width) of a map of `size`, rounded up, int64 (B, 2)."""
    exact = fraction * fraction.new_tensor(size)
    return (exact - 1e-4).ceil().long()


def inside(size: tuple[int, int], valid: Tensor) -> Tensor:
    """bool (B, h, w): True on the valid top left (B, 2) part."""
    rows = torch.arange(size[0], device=valid.device) < valid[:, :1]
    columns = torch.arange(size[1], device=valid.device) < valid[:, 1:]
    return rows[:, :, None] & columns[:, None, :]
