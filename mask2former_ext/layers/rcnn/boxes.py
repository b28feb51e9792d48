"""Boxes that are predicted relative to others: how they are written, matched to the truth, sampled and scored.

Shapes: N boxes; G truth boxes. A box is x0, y0, x1, y1 in pixels, x to the right, y down, float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

# A box grows to at most 1000 / 16 times its reference: beyond that the exponential of a wild delta would overflow.
MAX_LOG_SCALE = math.log(1000 / 16)
# Pairs of boxes whose overlap is worked out at a time (some 100 MB with what box_iou keeps on the way).
MAX_PAIRS = 2**22

IGNORED = -1  # label of a box that is no example of anything

_IOU_LOSSES = {"giou": generalized_box_iou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}
REGRESSION_LOSSES = ("smooth_l1", *_IOU_LOSSES)


def larger_than(boxes: Tensor, min_size: float) -> Tensor:
    """(N, 4) -> bool (N,): both sides exceed `min_size`; False where a coordinate is NaN."""
    return (boxes[:, 2:] - boxes[:, :2] > min_size).all(dim=1)


def touching(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 4) -> bool (N,): finite, and with some area inside a picture of `size` (height, width)."""
    height, width = size
    corners = boxes.new_tensor([width, height])
    inside = torch.cat((boxes[:, :2].clamp(min=0), torch.minimum(boxes[:, 2:], corners)), dim=1)
    return boxes.isfinite().all(dim=1) & larger_than(inside, 0)


@dataclass(frozen=True)
class BoxCoder:
    """A box as four deltas to a reference box (R-CNN, arXiv 1311.2524, appendix C), and the loss of predicted deltas.

    Deltas are the shift of the center in widths and heights of the reference, and the logarithm of the ratio of the
    sizes, times `weights` (x, y, width, height). `loss_type`: "smooth_l1" of the deltas, quadratic below `beta` (0:
    plain L1), or "giou" (arXiv 1902.09630), "diou", "ciou" (arXiv 1911.08287) of the boxes.
    """

    weights: Sequence[float]
    loss_type: str = "smooth_l1"
    beta: float = 0.0

    def __post_init__(self) -> None:
        if len(self.weights) != 4 or min(self.weights) <= 0:
            raise ValueError(f"BBOX_REG_WEIGHTS are {list(self.weights)}, but must be four positive numbers")
        if self.loss_type not in REGRESSION_LOSSES:
            raise ValueError(f"BBOX_REG_LOSS_TYPE is {self.loss_type!r}; known are {', '.join(REGRESSION_LOSSES)}")
        if self.beta < 0:
            raise ValueError(f"SMOOTH_L1_BETA is {self.beta}, but must not be negative")

    def encode(self, boxes: Tensor, reference: Tensor) -> Tensor:
        """Boxes (..., 4) and references (..., 4), both of positive size -> deltas (..., 4)."""
        reference_size, size = reference[..., 2:] - reference[..., :2], boxes[..., 2:] - boxes[..., :2]
        shift = (boxes[..., :2] + boxes[..., 2:] - reference[..., :2] - reference[..., 2:]) / 2 / reference_size
        return torch.cat((shift, torch.log(size / reference_size)), dim=-1) * shift.new_tensor(self.weights)

    def decode(self, deltas: Tensor, reference: Tensor) -> Tensor:
        """Deltas (..., 4) and references that broadcast to them -> boxes (..., 4)."""
        size = reference[..., 2:] - reference[..., :2]
        deltas = deltas.float() / size.new_tensor(self.weights)
        center = reference[..., :2] + size * (0.5 + deltas[..., :2])
        half = size * deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp() / 2
        return torch.cat((center - half, center + half), dim=-1)

    def loss(self, deltas: Tensor, reference: Tensor, truth: Tensor) -> Tensor:
        """Sum over N predictions: deltas, references and truth (N, 4) -> scalar; 0 with a gradient for none."""
        if self.loss_type == "smooth_l1":
            return F.smooth_l1_loss(deltas.float(), self.encode(truth, reference), beta=self.beta, reduction="sum")
        return _IOU_LOSSES[self.loss_type](self.decode(deltas, reference), truth, reduction="sum")


@dataclass(frozen=True)
class ExampleSampler:
    """Which boxes are examples of what, and which of them are trained on.

    A box takes `labels`[i] (1 object, 0 background, -1 ignored) where its best overlap with the truth lies between
    `thresholds`[i - 1] and `thresholds`[i], the lower one included. Of an image `num_samples` boxes are drawn, at most
    the share `positive_fraction` of them objects; where objects are fewer, background fills up.
    """

    thresholds: Sequence[float]
    labels: Sequence[int]
    num_samples: int
    positive_fraction: float

    def __post_init__(self) -> None:
        if list(self.thresholds) != sorted(self.thresholds) or len(self.labels) != len(self.thresholds) + 1:
            raise ValueError(
                f"IOU_THRESHOLDS {list(self.thresholds)} must ascend, and IOU_LABELS {list(self.labels)} be one more"
            )
        if not set(self.labels) <= {IGNORED, 0, 1}:
            raise ValueError(f"IOU_LABELS are {list(self.labels)}; each must be -1 (ignored), 0 (background) or 1")
        if self.num_samples < 1 or not 0 <= self.positive_fraction <= 1:
            raise ValueError(
                f"BATCH_SIZE_PER_IMAGE is {self.num_samples} and POSITIVE_FRACTION {self.positive_fraction}, but they "
                "must be at least 1, and in [0, 1]"
            )

    def match(self, boxes: Tensor, truth: Tensor, *, every_truth: bool = False) -> tuple[Tensor, Tensor]:
        """(N, 4), (G, 4) -> the truth that each box overlaps most (N,) int64, 0 if none, and its label (N,) int64.

        With `every_truth` the boxes that overlap a truth box most are objects whatever the thresholds say
        (Faster R-CNN, arXiv 1506.01497, section 3.1.2).
        """
        best = boxes.new_zeros(len(boxes))
        index = torch.zeros_like(best, dtype=torch.int64)
        nearest = torch.zeros_like(best, dtype=torch.bool)
        step = max(1, MAX_PAIRS // max(len(boxes), 1))
        for start in range(0, len(truth), step):
            overlap = box_iou(truth[start : start + step], boxes)  # (g, N)
            value, position = overlap.max(dim=0)
            index = torch.where(value > best, position + start, index)
            best = torch.maximum(value, best)
            if every_truth:
                # A truth box that no box overlaps has no nearest ones: all are equally far.
                of_truth = overlap.amax(dim=1, keepdim=True)
                nearest |= ((overlap == of_truth) & (of_truth > 0)).any(dim=0)
        interval = torch.bucketize(best, best.new_tensor(self.thresholds), right=True)
        label = torch.tensor(self.labels, device=boxes.device)[interval]
        return index, label.masked_fill(nearest, 1)

    def sample(self, classes: Tensor, *, background: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Classes (N,) with -1 for ignored boxes -> indices of the objects and of the background that are drawn.

        `generator` may fix the choice.
        """
        objects = torch.nonzero((classes != IGNORED) & (classes != background)).flatten()
        others = torch.nonzero(classes == background).flatten()
        num_objects = min(int(self.num_samples * self.positive_fraction), len(objects))
        num_others = min(self.num_samples - num_objects, len(others))
        return _draw(objects, num_objects, generator), _draw(others, num_others, generator)


def _draw(items: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    return items[torch.randperm(len(items), generator=generator, device=items.device)[:count]]
