"""Semantic segmentation scores."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation.evaluator import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from numpy.typing import DTypeLike, NDArray
from PIL import Image


def load_image_into_numpy_array(filename: str, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """The pixels of an image file, converted to `dtype`; a copy that may be written to."""
    with PathManager.open(filename, "rb") as file, Image.open(file) as image:
        return np.array(image, dtype=dtype)


class SemSegEvaluator(DatasetEvaluator):
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
        label come from the metadata; `num_classes` is checked against it, `ignore_label` wins over it."""
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._output_dir = output_dir
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self.input_file_to_gt_file = {
            record["file_name"]: record["sem_seg_file_name"] for record in DatasetCatalog.get(dataset_name)
        }
        metadata = MetadataCatalog.get(dataset_name)
        to_contiguous = metadata.get("stuff_dataset_id_to_contiguous_id")
        self._contiguous_id_to_dataset_id = to_contiguous and {v: k for k, v in to_contiguous.items()}
        self._class_names = metadata.stuff_classes
        self._num_classes = len(self._class_names)
        if num_classes not in (None, self._num_classes):
            raise ValueError(f"num_classes is {num_classes}, but {dataset_name} has {self._num_classes} classes")
        self._ignore_label = metadata.ignore_label if ignore_label is None else ignore_label

    def reset(self) -> None:
        from mask2former_ext.evaluation.confusion_matrix import ConfusionMatrix

        self._confusion = ConfusionMatrix(self._num_classes, self._ignore_label)
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes "file_name" of the inputs and "sem_seg" (K, H, W) of the outputs."""
        for image, output in zip(inputs, outputs, strict=True):
            name = image["file_name"]
            labels = output["sem_seg"].argmax(dim=0).cpu().numpy()
            truth = self.sem_seg_loading_fn(self.input_file_to_gt_file[name], dtype=int)
            self._confusion.update(labels, truth, name)
            if self._output_dir:
                self._predictions.extend(self.encode_json_sem_seg(labels, name))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """{"sem_seg": metric -> value}; None in other processes than the main one."""
        if self._distributed:
            comm.synchronize()
            matrices, predictions = comm.gather(self._confusion.matrix), comm.gather(self._predictions)
            if not comm.is_main_process():
                return None
            self._confusion.matrix = sum(matrices)
            self._predictions = list(chain.from_iterable(predictions))
        scores = self._confusion.compute(self._class_names)
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            with PathManager.open(os.path.join(self._output_dir, "sem_seg_predictions.json"), "w") as file:
                json.dump(self._predictions, file)
            with PathManager.open(os.path.join(self._output_dir, "sem_seg_evaluation.pth"), "wb") as file:
                torch.save(scores, file)
        self._logger.info(f"Evaluation results for sem_seg: {scores}")
        return {"sem_seg": scores}

    def encode_json_sem_seg(self, sem_seg: NDArray[Any], input_file_name: str) -> list[dict[str, Any]]:
        """Labels (H, W) -> COCO stuff results, one RLE per label; labels become the category ids of the data set."""
        from mask2former_ext.data.targets.masks import encode_mask

        results = []
        for label in np.unique(sem_seg).tolist():
            to_dataset = self._contiguous_id_to_dataset_id
            assert to_dataset is None or label in to_dataset, f"label {label} is no class of {self._dataset_name}"
            category = label if to_dataset is None else to_dataset[label]
            rle = encode_mask(sem_seg == label)
            results.append({"file_name": input_file_name, "category_id": category, "segmentation": rle})
        return results
