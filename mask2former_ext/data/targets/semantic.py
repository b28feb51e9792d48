"""A class for each pixel: one mask for each class that is present."""

from __future__ import annotations

from typing import Any

import torch

from mask2former_ext.data.targets.kind import PANOPTIC_FILE, SEMANTIC_FILE, Augmented, Source, TargetKind
from mask2former_ext.data.targets.masks import semantic_masks


class SemanticTarget(TargetKind):
    """`sem_seg` int64 (H, W), and the same as `instances`: a mask for each class, in ascending order."""

    name = "semantic"
    needs = ((SEMANTIC_FILE, PANOPTIC_FILE),)
    carries_labels = True
    numberings = ("together",)

    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:
        assert augmented.labels is not None, "carries_labels"
        sem_seg = augmented.padded(torch.from_numpy(augmented.labels), self.ignore_label)
        return {
            "sem_seg": sem_seg,
            "instances": augmented.instances(*semantic_masks(augmented.labels, self.ignore_label)),
        }
