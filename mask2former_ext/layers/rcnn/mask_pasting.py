"""Put the small square masks of a mask head into the image (Mask R-CNN, arXiv 1703.06870, section 3.1).

Shapes: N masks of M x M cells; H, W pixels of the image. A box is x0, y0, x1, y1 in pixels.
"""

from __future__ import annotations

import math
import mmap

import torch
from torch import Tensor

# Enlarged masks, in bytes, that lie in memory at a time: what the cache of a CPU holds, and a part of a GPU.
CPU_CHUNK_BYTES = 2**20
GPU_CHUNK_BYTES = 256 * 2**20


@torch.no_grad()
def paste_masks(mask_probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """(N, M, M) probabilities, (N, 4) -> bool (N, *size): where the mask, stretched over its box, reaches `threshold`.

    Bilinear between the centers of cells, 0 beyond the mask, sampled at the centers of pixels inside the box.
    """
    # Bilinear interpolation on a regular grid is a product: rows (h, M) x mask (M, M) x columns (M, w). It gives the
    # numbers of a general sampler without coordinates for every pixel, and several times faster.
    with torch.autocast(mask_probs.device.type, enabled=False):
        probs, boxes = mask_probs.float(), boxes.float()
        if probs.device.type == "cpu":
            return _paste_inside_boxes(probs, boxes, size, threshold)
        rows = _interpolation(boxes[:, 1], boxes[:, 3], probs.shape[-2], (0, size[0]))
        columns = _interpolation(boxes[:, 0], boxes[:, 2], probs.shape[-1], (0, size[1]))
        widened = probs @ columns.transpose(1, 2)  # (N, M, W)
        pasted = torch.empty(len(probs), *size, dtype=torch.bool, device=probs.device)
        step = max(1, GPU_CHUNK_BYTES // (4 * size[0] * size[1]))
        for start in range(0, len(probs), step):
            part = slice(start, start + step)
            torch.ge(rows[part] @ widened[part], threshold, out=pasted[part])
        return pasted


def _interpolation(start: Tensor, end: Tensor, num_cells: int, pixels: tuple[int, int]) -> Tensor:
    """Weights (N, P, M) by which the M cells between `start` and `end` (N,) give the value at the centers of the P
    `pixels` from the first to before the last.

    A row holds the at most two cells around the pixel; rows of pixels outside [start, end] are zero.
    """
    center = torch.arange(*pixels, device=start.device) + 0.5
    position = (center - start[:, None]) / (end - start)[:, None] * num_cells - 0.5  # 0: center of the first cell
    outside = (center < start[:, None]) | (center > end[:, None])
    position.masked_fill_(outside, -1)  # a cell and more before the first
    distance = position[:, :, None] - torch.arange(num_cells, device=start.device)
    return distance.abs_().neg_().add_(1).clamp_(min=0)


def _paste_inside_boxes(probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """One mask after the other, and of each only its box: most of the image is never touched."""
    pasted = _lazy_zeros(len(probs), *size)
    for image, prob, box, (x0, y0, x1, y1) in zip(pasted, probs, boxes[:, :, None], boxes.tolist(), strict=True):
        left, right = max(int(x0), 0), min(int(x1) + 1, size[1])
        top, bottom = max(int(y0), 0), min(int(y1) + 1, size[0])
        if left >= right or top >= bottom:
            continue
        row = _interpolation(box[1], box[3], len(prob), (top, bottom))[0]
        wide = prob @ _interpolation(box[0], box[2], len(prob), (left, right))[0].T  # (M, w)
        inside = image[top:bottom, left:right]
        step = max(1, CPU_CHUNK_BYTES // (4 * (right - left)))
        for first in range(0, len(row), step):
            torch.ge(row[first : first + step] @ wide, threshold, out=inside[first : first + step])
    return pasted


def _lazy_zeros(*shape: int) -> Tensor:
    """bool zeros in pages that the system hands out when they are first written to.

    PyTorch's zeros are written at once; NumPy's ask for huge pages, which some machines are slow to clear.
    """
    count = math.prod(shape)
    if count == 0:
        return torch.zeros(shape, dtype=torch.bool)
    pages = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=torch.bool).view(shape)
