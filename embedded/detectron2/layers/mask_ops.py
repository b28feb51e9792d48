"""Put the small square masks of a mask head into the image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _within(start: float, end: float, limit: int) -> tuple[int, int]:
    """First pixel, and one past the last, that a mask stretched over [start, end] can reach."""
    return max(int(start) - 1, 0), min(int(end) + 2, limit)


def paste_masks_in_image(masks: Tensor, boxes: Tensor, image_shape: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """(N, M, M) probabilities, (N, 4) boxes -> (N, H, W) in an image of (height, width).

    bool where the bilinearly stretched mask is at least `threshold`; uint8 of 0..255 if the threshold is negative.
    A pixel is sampled at its center; outside its box a mask is 0.
    """
    assert masks.shape[-1] == masks.shape[-2], f"only square masks can be pasted, got {tuple(masks.shape)}"
    boxes = getattr(boxes, "tensor", boxes)
    assert len(boxes) == len(masks), f"{len(masks)} masks need as many boxes, got {len(boxes)}"
    height, width = image_shape
    soft = threshold < 0
    pasted = torch.zeros(len(masks), height, width, dtype=torch.uint8 if soft else torch.bool, device=masks.device)
    for target, mask, box, corners in zip(pasted, masks, boxes, boxes.tolist(), strict=True):
        left, right = _within(corners[0], corners[2], width)
        top, bottom = _within(corners[1], corners[3], height)
        if left >= right or top >= bottom:
            continue
        x = torch.arange(left, right, device=masks.device, dtype=torch.float32) + 0.5
        y = torch.arange(top, bottom, device=masks.device, dtype=torch.float32) + 0.5
        x = (x - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (y - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
        values = F.grid_sample(mask[None, None].float(), grid[None], align_corners=False)[0, 0]
        target[top:bottom, left:right] = (values * 255).to(torch.uint8) if soft else values >= threshold
    return pasted
