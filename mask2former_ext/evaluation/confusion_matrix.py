"""Semantic segmentation scores from a running confusion matrix.

Shapes: H, W pixels of an image; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class ConfusionMatrix:
    """`matrix` (K, K) int64 counts pixels, truth by row and prediction by column; ignored pixels are left out.

    The matrices of two sets of images add up to that of their union.
    """

    def __init__(self, num_classes: int, ignore_label: int | None = 255) -> None:
        """`ignore_label` marks pixels of the truth that do not count; None: every pixel counts."""
        if num_classes < 1:
            raise ValueError(f"a confusion matrix needs at least one class, got {num_classes}")
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.matrix = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, pred: NDArray[np.integer], truth: NDArray[np.integer], name: str = "image") -> None:
        """Add one image of labels (H, W); `name` is the file that an error message blames.

        ValueError if the sizes differ, or if a label that counts lies outside [0, K).
        """
        if pred.shape != truth.shape:
            raise ValueError(f"{name}: the prediction is {pred.shape} pixels, the truth {truth.shape}; both are (H, W)")
        counted = np.ones(truth.shape, dtype=bool) if self.ignore_label is None else truth != self.ignore_label
        truth, pred = truth[counted].astype(np.int64), pred[counted].astype(np.int64)
        for whose, labels in (("truth", truth), ("prediction", pred)):
            outside = np.unique(labels[(labels < 0) | (labels >= self.num_classes)])
            if outside.size:
                raise ValueError(
                    f"{name}: labels {outside.tolist()} of the {whose} are outside [0, {self.num_classes})"
                    f" and are not the ignore label {self.ignore_label}"
                )
        codes = truth * self.num_classes + pred
        self.matrix += np.bincount(codes, minlength=self.matrix.size).reshape(self.matrix.shape)

    def compute(self, class_names: Sequence[str]) -> dict[str, float]:
        """Scores in percent: mIoU, fwIoU, IoU-<class>, mACC, pACC, ACC-<class>.

        A class without a pixel in the truth is nan and in no mean, even where it was predicted: such a prediction
        counts against the class that the truth has there. Without any pixel in the truth all scores are nan.
        """
        if len(class_names) != self.num_classes:
            raise ValueError(f"{len(class_names)} class names for a confusion matrix of {self.num_classes} classes")
        hits = self.matrix.diagonal().astype(float)
        in_truth = self.matrix.sum(axis=1).astype(float)
        in_union = in_truth + self.matrix.sum(axis=0) - hits
        seen = in_truth > 0
        accuracy, iou = np.full((2, self.num_classes), np.nan)
        accuracy[seen] = hits[seen] / in_truth[seen]
        iou[seen] = hits[seen] / in_union[seen]
        share = in_truth / max(in_truth.sum(), 1)

        def mean(values: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> float:
            return float(100 * np.average(values, weights=weights)) if seen.any() else float("nan")

        return {
            "mIoU": mean(iou[seen]),
            "fwIoU": mean(iou[seen], share[seen]),
            **{f"IoU-{name}": float(100 * value) for name, value in zip(class_names, iou, strict=True)},
            "mACC": mean(accuracy[seen]),
            "pACC": mean(accuracy[seen], share[seen]),
            **{f"ACC-{name}": float(100 * value) for name, value in zip(class_names, accuracy, strict=True)},
        }
