"""What feature maps and masks hold inside boxes, without rounding to pixels (Mask R-CNN, arXiv 1703.06870, section 3).

Shapes: B images; C channels; R boxes; S cells of the result's side; N masks; H, W pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torchvision.ops import box_area, roi_align

# Masks that are converted to float32 at a time, in bytes.
CHUNK_BYTES = 64 * 2**20
BOXES_OF_A_PART = 32  # that a thread reads at a time


class PyramidRoIAlign(nn.Module):
    """RoIAlign on the level of a pyramid that suits a box's size (arXiv 1612.03144, equation 1).

    A box of `canonical_size` (pixels, the root of the area) is read at level 4, that is stride 16; one of half the size
    a level finer, as far as there are levels. `aligned` puts the center of a pixel at .5 (Detectron2's ROIAlignV2);
    without it coordinates are half a pixel off (the older ROIAlign). `sampling_ratio` squared samples make a cell; 0:
    as many as the cell has pixels.
    """

    canonical_size = 224
    canonical_level = 4

    def __init__(self, output_size: int, *, strides: Sequence[int], sampling_ratio: int, aligned: bool) -> None:
        super().__init__()
        self.output_size, self.strides = output_size, list(strides)
        self.sampling_ratio, self.aligned = sampling_ratio, aligned
        self.first_level, self.last_level = int(math.log2(self.strides[0])), int(math.log2(self.strides[-1]))
        if self.strides != [2**level for level in range(self.first_level, self.last_level + 1)]:
            raise ValueError(
                f"maps for RoIAlign must have strides that double from one to the next, got {self.strides}"
            )

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """A map (B, C, h, w) per level and boxes (R_i, 4) per image -> (R, C, S, S), the first image's boxes first."""
        image = torch.cat([box.new_full((len(box), 1), index) for index, box in enumerate(boxes)])
        rois = torch.cat((image, torch.cat(list(boxes))), dim=1)
        position = self.positions(rois[:, 1:]) if len(features) > 1 else torch.zeros_like(image[:, 0])
        pooled = features[0].new_zeros(len(rois), features[0].shape[1], self.output_size, self.output_size)
        levels = [torch.nonzero(position == number).flatten() for number in range(len(features))]
        if not all(_may_thread(feature) for feature in features):
            for feature, stride, chosen in zip(features, self.strides, levels, strict=True):
                pooled[chosen] = self._align(feature, rois[chosen], stride)
            return pooled
        # On a CPU torchvision's operator keeps to one core. Small parts come and go beside the result.
        parts = [
            (feature, stride, chosen)
            for feature, stride, level in zip(features, self.strides, levels, strict=True)
            for chosen in level.split(BOXES_OF_A_PART)
        ]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            aligned = pool.map(lambda part: self._align(part[0], rois[part[2]], part[1]), parts)
            for (_, _, chosen), values in zip(parts, aligned, strict=True):
                pooled[chosen] = values
        return pooled

    def positions(self, boxes: Tensor) -> Tensor:
        """(R, 4) -> which of the maps each box is read from (R,) int64, 0 the finest."""
        relative = box_area(boxes).sqrt() / self.canonical_size
        level = torch.floor(self.canonical_level + torch.log2(relative + 1e-8))
        return level.clamp(self.first_level, self.last_level).long() - self.first_level

    def _align(self, feature: Tensor, rois: Tensor, stride: int) -> Tensor:
        return roi_align(feature, rois, self.output_size, 1 / stride, self.sampling_ratio, self.aligned)


def _may_thread(feature: Tensor) -> bool:
    """Not on a GPU, nor where a gradient as large as the map would be kept for each thread, nor where threads are not
    seen (a tracer) or do not see all (autocast)."""
    needs_gradient = torch.is_grad_enabled() and feature.requires_grad
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return feature.device.type == "cpu" and feature.dtype == torch.float32 and not (needs_gradient or traced)


def crop_masks(masks: Tensor, index: Tensor, boxes: Tensor, size: int) -> Tensor:
    """bool (N, H, W), (R,), (R, 4) -> bool (R, size, size): mask index[r] inside boxes[r], True where at least half of
    a cell is covered."""
    cropped = torch.zeros(len(boxes), size, size, dtype=torch.bool, device=boxes.device)
    step = max(1, CHUNK_BYTES // (4 * max(masks[0].numel(), 1))) if len(masks) else 1
    for start in range(0, len(masks), step):
        chosen = torch.nonzero((index >= start) & (index < start + step)).flatten()
        rois = torch.cat(((index[chosen, None] - start).to(boxes.dtype), boxes[chosen]), dim=1)
        cover = roi_align(masks[start : start + step, None].float(), rois, size, sampling_ratio=0, aligned=True)
        cropped[chosen] = cover[:, 0] >= 0.5
    return cropped
