"""Detectron2's drawing interface over `mask2former_ext.inference.drawing`. Finer methods: the real one's."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

import cv2
import numpy as np
import torch
from detectron2._left_out import left_out_message, stand_ins
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager

__getattr__ = stand_ins(__name__)


@unique
class ColorMode(Enum):
    """Colours of instances: each its own, by class, or each its own on a grey picture."""

    IMAGE = 0
    SEGMENTATION = 1
    IMAGE_BW = 2


class VisImage:
    """A drawn picture, RGB uint8."""

    def __init__(self, img: np.ndarray, scale: float = 1.0) -> None:
        self.scale = scale
        self.img = img

    def get_image(self) -> np.ndarray:
        """(H, W, 3) RGB uint8."""
        return cv2.resize(self.img, None, fx=self.scale, fy=self.scale) if self.scale != 1 else self.img

    def save(self, filepath: str) -> None:
        """Write it in the format that the file's name says."""
        from PIL import Image

        with PathManager.open(filepath, "wb") as file:
            Image.fromarray(self.get_image()).save(file, format=Image.registered_extensions()[_extension(filepath)])


def _extension(path: str) -> str:
    return "." + path.rpartition(".")[2].lower()


class Visualizer:
    """Draws predictions on one RGB image. Each call starts from the given image; small ones come out enlarged."""

    def __init__(
        self,
        img_rgb: np.ndarray,
        metadata: Any = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
    ) -> None:
        from detectron2.data import MetadataCatalog

        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.metadata = MetadataCatalog.get("__nonexist__") if metadata is None else metadata
        self._instance_mode = instance_mode
        self.output = VisImage(self.img, scale)

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("draw_", "overlay_")):
            raise ImportError(left_out_message(f"{__name__}.Visualizer.{name}"))
        raise AttributeError(name)

    def _background(self) -> np.ndarray:
        if self._instance_mode != ColorMode.IMAGE_BW:
            return self.img
        return np.repeat(self.img.astype(np.float32).mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)

    def draw_instance_predictions(self, predictions: Instances) -> VisImage:
        """Instances with pred_classes, scores and pred_masks, whatever their scores."""
        from mask2former_ext.classes import from_metadata
        from mask2former_ext.inference.drawing import draw_instances

        table = from_metadata(self.metadata)
        color_by = "class" if self._instance_mode == ColorMode.SEGMENTATION else "instance"
        self.output.img = draw_instances(
            self._background(), predictions, table, min_score=float("-inf"), color_by=color_by
        )
        return self.output

    def draw_sem_seg(self, sem_seg: torch.Tensor | np.ndarray) -> VisImage:
        """(H, W) of classes; numbers that are no class (the ignored label) stay uncoloured."""
        from mask2former_ext.classes import from_metadata
        from mask2former_ext.inference.drawing import UNLABELLED, draw_semantic

        classes = np.asarray(torch.as_tensor(sem_seg).cpu()).astype(np.int64)
        num_classes = len(self.metadata.get("stuff_classes") or []) or classes.max() + 1
        classes[(classes >= num_classes) | (classes == self.metadata.get("ignore_label"))] = UNLABELLED
        self.output.img = draw_semantic(self.img, classes, from_metadata(self.metadata))
        return self.output

    def draw_panoptic_seg(
        self, panoptic_seg: torch.Tensor | np.ndarray, segments_info: Sequence[dict[str, Any]]
    ) -> VisImage:
        """Segment ids (H, W) and what is known of each segment."""
        from mask2former_ext.classes import from_metadata
        from mask2former_ext.inference.drawing import draw_panoptic

        table = from_metadata(self.metadata)
        self.output.img = draw_panoptic(self._background(), (panoptic_seg, segments_info), table)
        return self.output

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def get_output(self) -> VisImage:
        return self.output
