"""Semantic segmentation scores, by this project's evaluator."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from mask2former_ext.evaluation.evaluators import SemanticEvaluator


def load_image_into_numpy_array(filename: str, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """The pixels of an image file, converted to `dtype`; a copy that may be written to."""
    with PathManager.open(filename, "rb") as file, Image.open(file) as image:
        return np.array(image, dtype=dtype)


class SemSegEvaluator(SemanticEvaluator):
    """ "sem_seg": mIoU, fwIoU, mACC, pACC, IoU-<class>, ACC-<class>, in percent; nan for a class without truth."""

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        sem_seg_loading_fn: Callable[..., NDArray[Any]] = load_image_into_numpy_array,
        num_classes: int | None = None,
        ignore_label: int | None = None,
    ) -> None:
        """`distributed`: pixels of all processes count. `output_dir` gets predictions and scores. Classes and ignore
        label are the data set's; `num_classes` is checked against it, `ignore_label` wins over it."""
        super().__init__(dataset_name, output_dir)
        if num_classes not in (None, len(self._names)):
            raise ValueError(f"num_classes is {num_classes}, but {dataset_name} has {len(self._names)} classes")
        if ignore_label is not None:
            self._dataset.classes = replace(self._dataset.classes, ignore_label=ignore_label)
        self._distributed = distributed
        self._logger, self._class_names = logging.getLogger(__name__), self._names  # subclasses of public projects read
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self.input_file_to_gt_file = {r["file_name"]: r["sem_seg_file_name"] for r in DatasetCatalog.get(dataset_name)}
        self.reset()

    def _truth_of(self, image: Mapping[str, Any]) -> tuple[str, NDArray[Any]]:
        path = self.input_file_to_gt_file[image["file_name"]]
        return path, self.sem_seg_loading_fn(path, dtype=int)

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """{"sem_seg": metric -> value}; None in other processes than the main one."""
        if self._distributed:
            return super().evaluate() or None
        return self._results([self._confusion.matrix], [self._written])

    def encode_json_sem_seg(self, sem_seg: NDArray[Any], input_file_name: str) -> list[dict[str, Any]]:
        """Labels (H, W) -> COCO stuff results, one RLE per label; labels become the category ids of the data set."""
        return list(self._as_segments(input_file_name, sem_seg))
