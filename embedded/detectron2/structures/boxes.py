"""Axis-aligned boxes and the ways to write one down.

Shapes: N boxes, M other boxes. Coordinates are absolute, in pixels; x to the right, y down.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Any, List, Tuple  # noqa: UP035  (TorchScript reads these)

import numpy as np
import torch
from torch import Tensor
from torch import device as Device  # noqa: N812  (TorchScript knows no dotted names)


def _corners_to_size(box: Tensor) -> Tensor:
    return torch.cat([box[:, :2], box[:, 2:] - box[:, :2]], dim=1)


def _size_to_corners(box: Tensor) -> Tensor:
    return torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], dim=1)


def _size_to_rotated(box: Tensor) -> Tensor:
    centers = box[:, :2].double() + box[:, 2:].double() / 2
    return torch.cat([centers, box[:, 2:].double(), torch.zeros_like(centers[:, :1])], dim=1).to(box.dtype)


def _rotated_to_corners(box: Tensor) -> Tensor:
    """Smallest upright box around each (x_center, y_center, width, height, degrees)."""
    center, size, angle = box[:, :2].double(), box[:, 2:4].double(), torch.deg2rad(box[:, 4:].double())
    half = (angle.cos().abs() * size + angle.sin().abs() * size.flip(1)) / 2
    return torch.cat([center - half, center + half], dim=1).to(box.dtype)


@unique
class BoxMode(IntEnum):
    """How a box is written. Relative modes have coordinates in [0, 1] and cannot be converted."""

    XYXY_ABS = 0
    XYWH_ABS = 1
    XYXY_REL = 2
    XYWH_REL = 3
    XYWHA_ABS = 4  # x and y of the center, width, height, degrees counter-clockwise

    @staticmethod
    def convert(box: Any, from_mode: BoxMode | int, to_mode: BoxMode | int) -> Any:
        """One box as list or tuple, or an (N, 4 or 5) array or tensor, in another mode and of the same type."""
        if from_mode == to_mode:
            return box
        source, target = BoxMode(from_mode), BoxMode(to_mode)
        if (source, target) not in _CONVERSIONS:
            raise NotImplementedError(f"boxes cannot be converted from {source.name} to {target.name}")
        width = 5 if source == BoxMode.XYWHA_ABS else 4
        single = isinstance(box, (list, tuple))
        tensor = torch.as_tensor([box]) if single else torch.as_tensor(box)
        if tensor.dim() != 2 or tensor.shape[1] != width:
            raise ValueError(f"a box in mode {source.name} has {width} numbers; got shape {tuple(tensor.shape)}")
        converted = _CONVERSIONS[source, target](tensor)
        if single:
            return type(box)(converted[0].tolist())
        return converted.numpy() if isinstance(box, np.ndarray) else converted


_CONVERSIONS = {
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): _corners_to_size,
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): _size_to_corners,
    (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS): _size_to_rotated,
    (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS): _rotated_to_corners,
}


class Boxes:
    """N boxes as a float32 tensor (N, 4) of x1, y1, x2, y2, in `tensor`. Works in TorchScript."""

    def __init__(self, tensor: Tensor) -> None:
        if not isinstance(tensor, Tensor):
            tensor = torch.as_tensor(tensor, dtype=torch.float32)
        else:
            tensor = tensor.to(torch.float32)
        if tensor.numel() == 0:
            tensor = tensor.reshape((-1, 4))
        assert tensor.dim() == 2 and tensor.size(-1) == 4, f"boxes have shape (N, 4), not {tensor.size()}"
        self.tensor = tensor

    def clone(self) -> Boxes:
        return Boxes(self.tensor.clone())

    def to(self, device: Device) -> Boxes:
        return Boxes(self.tensor.to(device=device))

    def area(self) -> Tensor:
        """(N,) areas."""
        size = self.tensor[:, 2:] - self.tensor[:, :2]
        return size[:, 0] * size[:, 1]

    def clip(self, box_size: Tuple[int, int]) -> None:  # noqa: UP006
        """Cut, in place, to x in [0, width] and y in [0, height]; `box_size` is (height, width)."""
        assert torch.isfinite(self.tensor).all(), "boxes hold infinite or NaN coordinates"
        height, width = box_size
        x1, y1, x2, y2 = self.tensor.unbind(dim=1)
        self.tensor = torch.stack(
            (x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), dim=-1
        )

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """(N,) bool: both sides longer than `threshold`."""
        size = self.tensor[:, 2:] - self.tensor[:, :2]
        return (size > threshold).all(dim=1)

    def __getitem__(self, item) -> Boxes:  # noqa: ANN001  (TorchScript infers it, and would read a "type:" comment)
        """Boxes at an index, a slice, or an index or bool tensor; one index gives one box, (1, 4)."""
        if isinstance(item, int):
            return Boxes(self.tensor[item].view(1, -1))
        chosen = self.tensor[item]
        assert chosen.dim() == 2, f"indexing boxes with {item} gives shape {chosen.shape}, not (N, 4)"
        return Boxes(chosen)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return "Boxes(" + str(self.tensor) + ")"

    def get_centers(self) -> Tensor:
        """(N, 2) of x, y."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply, in place, x by one factor and y by the other."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: List[Boxes]) -> Boxes:  # noqa: UP006
        if len(boxes_list) == 0:
            return cls(torch.empty(0))
        return cls(torch.cat([b.tensor for b in boxes_list], dim=0))

    @property
    def device(self) -> Device:
        return self.tensor.device

    @torch.jit.unused
    def __iter__(self):  # unannotated: TorchScript has no word for an iterator
        yield from self.tensor


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) areas of overlap."""
    first, second = boxes1.tensor[:, None], boxes2.tensor[None]
    size = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    return size.clamp(min=0).prod(dim=2)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where there is no part (also of nothing)."""
    return torch.where(part > 0, part / whole, torch.zeros((), dtype=part.dtype, device=part.device))


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) intersection over union, in [0, 1]."""
    overlap = pairwise_intersection(boxes1, boxes2)
    return _ratio(overlap, boxes1.area()[:, None] + boxes2.area() - overlap)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """(N, M) intersection over the area of the second box, in [0, 1]."""
    return _ratio(pairwise_intersection(boxes1, boxes2), boxes2.area())
