"""Masks of the objects of one image: as bitmaps, as polygons, or as small squares over boxes.

Shapes: N objects; H, W pixels of the image. A polygon is x0, y0, x1, y1, ... in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures.boxes import Boxes
from torch import Tensor
from torchvision.ops import roi_align


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Area inside the closed polygon, by the shoelace formula."""
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """(H, W) bool: pixels that COCO's rasteriser puts inside any of the polygons."""
    if len(polygons) == 0:
        return np.zeros((height, width), dtype=bool)
    coordinates = [np.asarray(polygon, dtype=np.float64).tolist() for polygon in polygons]
    parts = mask_util.frPyObjects(coordinates, height, width)
    return mask_util.decode(mask_util.merge(parts)).astype(bool)


def rasterize_polygons_within_box(polygons: list[np.ndarray], box: np.ndarray, mask_size: int) -> Tensor:
    """(mask_size, mask_size) bool: the part inside `box` (x1, y1, x2, y2), stretched to the square."""
    corner, size = np.asarray(box[:2], dtype=np.float64), np.asarray(box[2:], dtype=np.float64) - box[:2]
    scale = mask_size / np.maximum(size, 0.1)  # a box without width would need an infinite scale
    stretched = [((np.asarray(polygon).reshape(-1, 2) - corner) * scale).reshape(-1) for polygon in polygons]
    return torch.from_numpy(polygons_to_bitmask(stretched, mask_size, mask_size))


class BitMasks:
    """N masks as a bool tensor (N, H, W), in `tensor`."""

    def __init__(self, tensor: Tensor | np.ndarray) -> None:
        tensor = torch.as_tensor(tensor).to(torch.bool)
        assert tensor.dim() == 3, f"bitmasks have shape (N, H, W), not {tuple(tensor.shape)}"
        self.image_size = tensor.shape[1:]
        self.tensor = tensor

    def to(self, *args: Any, **kwargs: Any) -> BitMasks:
        return BitMasks(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __getitem__(self, item: int | slice | Tensor) -> BitMasks:
        """Masks at an index (giving N = 1), a slice, or an index or bool tensor."""
        chosen = self.tensor[item]
        if isinstance(item, int):
            chosen = chosen[None]
        assert chosen.dim() == 3, f"indexing bitmasks with {item} gives shape {tuple(chosen.shape)}, not (N, H, W)"
        return BitMasks(chosen)

    def __iter__(self) -> Iterator[Tensor]:
        yield from self.tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def nonempty(self) -> Tensor:
        """(N,) bool: has at least one pixel."""
        return self.tensor.flatten(1).any(dim=1)

    @staticmethod
    def from_polygon_masks(polygon_masks: PolygonMasks | list[list[np.ndarray]], height: int, width: int) -> BitMasks:
        polygons = polygon_masks.polygons if isinstance(polygon_masks, PolygonMasks) else polygon_masks
        masks = np.zeros((len(polygons), height, width), dtype=bool)
        for index, parts in enumerate(polygons):
            masks[index] = polygons_to_bitmask(parts, height, width)
        return BitMasks(torch.from_numpy(masks))

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """(N, mask_size, mask_size) bool: each mask inside its own box (N, 4), by RoIAlign, at least half covered."""
        assert len(boxes) == len(self), f"{len(self)} masks need as many boxes, got {len(boxes)}"
        numbers = torch.arange(len(boxes), dtype=boxes.dtype, device=boxes.device)[:, None]
        masks = self.tensor.to(device=boxes.device, dtype=torch.float32)
        cropped = roi_align(
            masks[:, None], torch.cat([numbers, boxes], dim=1), (mask_size, mask_size), sampling_ratio=0, aligned=True
        )
        return cropped[:, 0] >= 0.5

    def get_bounding_boxes(self) -> Boxes:
        """Smallest boxes around the masks, x2 and y2 one past the last pixel; all zeros for an empty mask."""
        boxes = torch.zeros(len(self), 4, dtype=torch.float32, device=self.device)
        for first, (kept_dim, size) in enumerate(((1, self.tensor.shape[2]), (2, self.tensor.shape[1]))):
            occupied = self.tensor.any(dim=kept_dim).to(torch.uint8)
            if occupied.numel() == 0:
                continue
            start, past_end = occupied.argmax(dim=1), size - occupied.flip(1).argmax(dim=1)
            boxes[:, first], boxes[:, first + 2] = start, past_end
        return Boxes(boxes * self.nonempty()[:, None])

    @staticmethod
    def cat(bitmasks_list: list[BitMasks]) -> BitMasks:
        assert bitmasks_list, "BitMasks.cat needs at least one element"
        return type(bitmasks_list[0])(torch.cat([masks.tensor for masks in bitmasks_list], dim=0))


class PolygonMasks:
    """N masks, each a list of polygons (float64 arrays), in `polygons`. They live on the CPU."""

    def __init__(self, polygons: Sequence[Sequence[Tensor | np.ndarray]]) -> None:
        if not isinstance(polygons, list):
            raise ValueError(f"polygons must be a list of lists of arrays, not {type(polygons).__name__}")
        self.polygons: list[list[np.ndarray]] = [_checked_parts(parts) for parts in polygons]

    def to(self, *_args: Any, **_kwargs: Any) -> PolygonMasks:
        """Itself: polygons stay where they are."""
        return self

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        boxes = torch.zeros(len(self), 4, dtype=torch.float32)
        for index, parts in enumerate(self.polygons):
            points = np.concatenate([part.reshape(-1, 2) for part in parts]) if parts else np.zeros((1, 2))
            boxes[index] = torch.from_numpy(np.concatenate([points.min(axis=0), points.max(axis=0)]))
        return Boxes(boxes)

    def nonempty(self) -> Tensor:
        """(N,) bool: has at least one polygon."""
        return torch.tensor([len(parts) > 0 for parts in self.polygons], dtype=torch.bool)

    def __getitem__(self, item: int | slice | Sequence[int] | Tensor | np.ndarray) -> PolygonMasks:
        if isinstance(item, int):
            return PolygonMasks([self.polygons[item]])
        if isinstance(item, slice):
            return PolygonMasks(self.polygons[item])
        indices = torch.as_tensor(item)
        assert indices.dim() <= 1, f"polygons are indexed by one dimension, not {indices.dim()}"
        if indices.dtype == torch.bool:
            indices = indices.nonzero().flatten()
        return PolygonMasks([self.polygons[index] for index in indices.reshape(-1).tolist()])

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return iter(self.polygons)

    def __len__(self) -> int:
        return len(self.polygons)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """(N, mask_size, mask_size) bool on the boxes' device: each mask inside its own box (N, 4)."""
        assert len(boxes) == len(self), f"{len(self)} masks need as many boxes, got {len(boxes)}"
        masks = [
            rasterize_polygons_within_box(parts, box, mask_size)
            for parts, box in zip(self.polygons, boxes.detach().cpu().numpy(), strict=True)
        ]
        if not masks:
            return torch.empty(0, mask_size, mask_size, dtype=torch.bool, device=boxes.device)
        return torch.stack(masks).to(boxes.device)

    def area(self) -> Tensor:
        """(N,) areas, the polygons of one mask added up."""
        areas = [sum(polygon_area(part[0::2], part[1::2]) for part in parts) for parts in self.polygons]
        return torch.tensor(areas, dtype=torch.float64)

    @staticmethod
    def cat(polymasks_list: list[PolygonMasks]) -> PolygonMasks:
        assert polymasks_list, "PolygonMasks.cat needs at least one element"
        return type(polymasks_list[0])([list(parts) for masks in polymasks_list for parts in masks.polygons])


def _checked_parts(parts: list[Tensor | np.ndarray]) -> list[np.ndarray]:
    if not isinstance(parts, list):
        raise ValueError(f"the polygons of one mask must be a list of arrays, not {type(parts).__name__}")
    arrays = [np.asarray(part.cpu() if torch.is_tensor(part) else part, dtype=np.float64) for part in parts]
    for array in arrays:
        if array.ndim != 1 or len(array) < 6 or len(array) % 2:
            raise ValueError(f"a polygon has an even number of at least 6 coordinates, got shape {array.shape}")
    return arrays
