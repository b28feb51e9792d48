"""What the tests of demo/demo.py share: a stand-in predictor in the place of a trained model."""

from __future__ import annotations

import numpy as np
from detectron2.config import CfgNode

from mask2former_ext.contract import TASKS
from tests.halves import result_of_halves

SIZE = (40, 60)


class StandInPredictor:
    """Left half dog 0.9, right half cat 0.4, in every task that the configuration switches on."""

    classes = None
    channels = "RGB"

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.MODEL.MASK_CLASSIFIER

    def shown(self, image: np.ndarray) -> np.ndarray:
        return image[:, :, :3]

    def __call__(self, images: np.ndarray | list[np.ndarray], *, threshold: float | None = None) -> dict | list[dict]:
        if isinstance(images, list):
            return [self(image, threshold=threshold) for image in images]
        least = self.cfg.MIN_CLASS_PROB if threshold is None else threshold
        tasks = [task for task in TASKS if self.cfg[f"{task.upper()}_ON"]]
        return result_of_halves(images.shape[:2], tasks, least)


def run(demo, inputs: list, output, *more: str) -> int:
    arguments = ["--config-file", "any.yaml", "--input", *map(str, inputs), "--output", str(output), *more]
    return demo.main(arguments)
