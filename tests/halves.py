"""What a stand-in predictor answers: left half dog 0.9, right half cat 0.4, in the form of a model's results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from detectron2.structures import Boxes, Instances


def result_of_halves(
    size: tuple[int, int], tasks: Iterable[str], threshold: float, *, is_covered: bool = False
) -> dict[str, Any]:
    """Of an image of `size` (height, width). is_covered: of instances, the cat fills it and the dog covers its half."""
    height, width = size
    left = torch.zeros(height, width, dtype=torch.bool)
    left[:, : width // 2] = True
    masks, scores = torch.stack([left, ~left]), torch.tensor([0.9, 0.4])
    result: dict[str, Any] = {}
    if "semantic" in tasks:
        result["sem_seg"] = masks * scores[:, None, None]
    if "panoptic" in tasks:
        kept = [i for i in (0, 1) if scores[i] > threshold]
        ids = torch.zeros(height, width, dtype=torch.int32)
        for i in kept:
            ids[masks[i]] = i + 1
        segments = [{"id": i + 1, "category_id": i, "isthing": True, "score": float(scores[i])} for i in kept]
        result["panoptic_seg"] = (ids, segments)
    if "instance" in tasks:
        boxes = Boxes(torch.tensor([[0.0, 0, width // 2, height], [width // 2, 0, width, height]]))
        covered = torch.stack([left, ~left | is_covered])
        fields = {"pred_masks": covered, "pred_boxes": boxes, "scores": scores, "pred_classes": torch.tensor([0, 1])}
        result["instances"] = Instances(size, **fields)
    return result
