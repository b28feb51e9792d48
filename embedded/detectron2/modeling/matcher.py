"""Which ground truth each prediction belongs to, by the quality of the match."""

from __future__ import annotations

from typing import List, Tuple  # noqa: UP035  (TorchScript reads these)

import torch
from torch import Tensor


class Matcher:
    """Gives each of N predictions the best of M ground truths, and a label by how good that match is."""

    def __init__(
        self,
        thresholds: List[float],  # noqa: UP006
        labels: List[int],  # noqa: UP006
        allow_low_quality_matches: bool = False,
    ) -> None:
        """`thresholds` (ascending, > 0) part the qualities in ranges, and `labels` are theirs: 1 positive, 0 negative,
        -1 ignored. With `allow_low_quality_matches` the best predictions of each ground truth become positive."""
        assert len(labels) == len(thresholds) + 1, f"{len(thresholds)} thresholds part {len(labels)} ranges"
        assert len(thresholds) == 0 or thresholds[0] > 0, f"thresholds are above 0, got {thresholds}"
        for low, high in zip(thresholds[:-1], thresholds[1:]):  # noqa: B905  (TorchScript knows no strict=)
            assert low <= high, f"thresholds ascend, got {thresholds}"
        for label in labels:
            assert label in [-1, 0, 1], f"labels are -1, 0 or 1, got {labels}"
        self.thresholds = thresholds
        self.labels = labels
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        """(M, N) qualities >= 0, IoU for example -> (N,) index of a ground truth, (N,) int8 label; without ground truth
        all are 0 and of the first label."""
        assert match_quality_matrix.dim() == 2, f"qualities are (M, N), got {match_quality_matrix.shape}"
        device = match_quality_matrix.device
        if match_quality_matrix.numel() == 0:
            count = match_quality_matrix.size(1)
            matches = torch.zeros([count], dtype=torch.int64, device=device)
            return matches, torch.full([count], self.labels[0], dtype=torch.int8, device=device)
        assert bool(torch.all(match_quality_matrix >= 0)), "qualities are at least 0"
        best, matches = match_quality_matrix.max(dim=0)
        labels = torch.full([best.size(0)], self.labels[0], dtype=torch.int8, device=device)
        for index in range(len(self.thresholds)):
            labels[best >= self.thresholds[index]] = self.labels[index + 1]
        if self.allow_low_quality_matches:
            best_of_truth = match_quality_matrix.max(dim=1).values
            labels[(match_quality_matrix == best_of_truth[:, None]).any(dim=0)] = 1
        return matches, labels
