"""What the tests of demo/demo.py share: a stand-in predictor in the place of a trained model."""

from __future__ import annotations

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances

SIZE = (40, 60)


class StandInPredictor:
    """Left half dog 0.9, right half cat 0.4, in every task that the configuration switches on."""

    classes = None
    channels = "RGB"

    def __init__(self, cfg: CfgNode) -> None:
        self.tasks = cfg.MODEL.MASK_CLASSIFIER

    def shown(self, image: np.ndarray) -> np.ndarray:
        return image[:, :, :3]

    def __call__(self, images: np.ndarray | list[np.ndarray], *, threshold: float | None = None) -> dict | list[dict]:
        if isinstance(images, list):
            return [self(image, threshold=threshold) for image in images]
        image, least = images, self.tasks.MIN_CLASS_PROB if threshold is None else threshold
        left = torch.zeros(image.shape[:2], dtype=torch.bool)
        left[:, : image.shape[1] // 2] = True
        masks, scores = torch.stack([left, ~left]), torch.tensor([0.9, 0.4])
        result = {}
        if self.tasks.SEMANTIC_ON:
            result["sem_seg"] = masks * scores[:, None, None]
        if self.tasks.INSTANCE_ON:
            boxes = Boxes(torch.tensor([[0.0, 0, 30, 40], [30, 0, 60, 40]]))
            fields = {"pred_masks": masks, "pred_boxes": boxes, "scores": scores, "pred_classes": torch.tensor([0, 1])}
            result["instances"] = Instances(image.shape[:2], **fields)
        if self.tasks.PANOPTIC_ON:
            kept = [i for i in (0, 1) if scores[i] > least]
            ids = sum((i + 1) * masks[i].int() for i in kept)
            segments = [{"id": i + 1, "category_id": i, "isthing": True, "score": float(scores[i])} for i in kept]
            result["panoptic_seg"] = (ids, segments)
        return result


def run(demo, inputs: list, output, *more: str) -> int:
    arguments = ["--config-file", "any.yaml", "--input", *map(str, inputs), "--output", str(output), *more]
    return demo.main(arguments)
