"""Put the small square masks of a mask head into the image (Mask R-CNN, arXiv 1703.06870, section 3.1).

Shapes: N masks of M x M cells; H, W pixels of the image. A box is x0, y0, x1, y1 in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Enlarged masks, in bytes, that lie in memory at a time: what the cache of a processor holds, and a part of a GPU.
CPU_CHUNK_BYTES = 2**20
GPU_CHUNK_BYTES = 256 * 2**20


@torch.no_grad()
def paste_masks(mask_probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """(N, M, M) probabilities, (N, 4) -> bool (N, *size): where the mask, stretched over its box, reaches `threshold`.

    Bilinear between the centres of cells, 0 beyond the mask, sampled at the centres of pixels inside the box.
    """
    # Bilinear interpolation on a regular grid is a product: rows (h, M) x mask (M, M) x columns (M, w). It gives the
    # numbers of a general sampler without coordinates for every pixel, and several times faster.
    with torch.autocast(mask_probs.device.type, enabled=False):
        probs, boxes = mask_probs.float(), boxes.float()
        rows = _interpolation(boxes[:, 1], boxes[:, 3], probs.shape[-2], size[0])
        columns = _interpolation(boxes[:, 0], boxes[:, 2], probs.shape[-1], size[1])
        widened = probs @ columns.transpose(1, 2)  # (N, M, W)
        if probs.device.type == "cpu":
            return _paste_inside_boxes(rows, widened, boxes, size, threshold)
        pasted = torch.empty(len(probs), *size, dtype=torch.bool, device=probs.device)
        step = max(1, GPU_CHUNK_BYTES // (4 * size[0] * size[1]))
        for start in range(0, len(probs), step):
            part = slice(start, start + step)
            torch.ge(rows[part] @ widened[part], threshold, out=pasted[part])
        return pasted


def _interpolation(start: Tensor, end: Tensor, num_cells: int, length: int) -> Tensor:
    """Weights (N, length, M) by which the M cells between `start` and `end` (N,) give the value at each pixel's centre.

    A row holds the at most two cells around the pixel; rows of pixels outside [start, end] are zero.
    """
    centre = torch.arange(length, device=start.device) + 0.5
    position = (centre - start[:, None]) / (end - start)[:, None] * num_cells - 0.5  # 0: centre of the first cell
    inside = (centre >= start[:, None]) & (centre <= end[:, None])
    distance = (position[:, :, None] - torch.arange(num_cells, device=start.device)).abs()
    return torch.where(inside[:, :, None], (1 - distance).clamp(min=0), 0)


def _paste_inside_boxes(
    rows: Tensor, widened: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float
) -> Tensor:
    """One mask after the other, and of each only its box: most of the image is never touched."""
    # NumPy's zeros are pages that the system hands out when they are first written to; PyTorch's are written at once.
    pasted = torch.from_numpy(np.zeros((len(boxes), *size), dtype=bool))
    for image, row, wide, (x0, y0, x1, y1) in zip(pasted, rows, widened, boxes.tolist(), strict=True):
        left, right = max(int(x0), 0), min(int(x1) + 1, size[1])
        top, bottom = max(int(y0), 0), min(int(y1) + 1, size[0])
        if left >= right:
            continue
        step = max(1, CPU_CHUNK_BYTES // (4 * (right - left)))
        for first in range(top, bottom, step):
            last = min(first + step, bottom)
            torch.ge(row[first:last] @ wide[:, left:right], threshold, out=image[first:last, left:right])
    return pasted
