"""Panoptic quality."""

from __future__ import annotations

import json
import logging
import os
from itertools import chain
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation.evaluator import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from numpy.typing import NDArray

_logger = logging.getLogger(__name__)


class COCOPanopticEvaluator(DatasetEvaluator):
    """ "panoptic_seg": PQ, SQ, RQ of all classes, of things (_th) and of stuff (_st), in percent.

    The truth is the set's `panoptic_json` with the PNGs in `panoptic_root`. `output_dir` gets predictions.json.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        from mask2former_ext.evaluation.truth import PanopticTruth

        self._metadata = MetadataCatalog.get(dataset_name)
        self._thing_contiguous_id_to_dataset_id = _inverse(self._metadata.thing_dataset_id_to_contiguous_id)
        self._stuff_contiguous_id_to_dataset_id = _inverse(self._metadata.stuff_dataset_id_to_contiguous_id)
        self._output_dir = output_dir
        if output_dir is not None:
            PathManager.mkdirs(output_dir)
        local_path = PathManager.get_local_path
        self._truth = PanopticTruth(local_path(self._metadata.panoptic_json), local_path(self._metadata.panoptic_root))

    def reset(self) -> None:
        from mask2former_ext.evaluation.panoptic_quality import PanopticQuality

        self._quality = PanopticQuality(self._truth.is_thing)
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes "image_id" and "file_name" of the inputs and "panoptic_seg" (ids (H, W), segments) of the outputs.

        Without segments (None) an id is category x `label_divisor` + instance, and -1 is void.
        """
        for image, output in zip(inputs, outputs, strict=True):
            id_map, segments = output["panoptic_seg"]
            ids = id_map.cpu().numpy()
            if segments is None:
                ids, segments = self._segments_of_labels(ids)
            segments = [self._convert_category_id(segment) for segment in segments]
            truth = self._truth.read(image["image_id"])
            self._quality.update(ids, segments, truth.ids, truth.segments, image["file_name"])
            if self._output_dir is not None:
                name = os.path.splitext(os.path.basename(image["file_name"]))[0] + ".png"
                self._predictions.append({"image_id": image["image_id"], "file_name": name, "segments_info": segments})

    def _segments_of_labels(self, labels: NDArray[Any]) -> tuple[NDArray[Any], list[dict[str, Any]]]:
        """Labels (-1 void) -> ids that begin with 1 (0 void), and their segments."""
        segments = []
        for label in np.unique(labels[labels != -1]).tolist():
            category = label // self._metadata.label_divisor
            is_thing = category in self._thing_contiguous_id_to_dataset_id
            segments.append({"id": label + 1, "category_id": category, "isthing": is_thing})
        return labels + 1, segments

    def _convert_category_id(self, segment_info: dict[str, Any]) -> dict[str, Any]:
        """The segment with the data set's category id; one that does not say "isthing" has it already."""
        segment = dict(segment_info)
        is_thing = segment.pop("isthing", None)
        if is_thing is not None:
            to_dataset = (
                self._thing_contiguous_id_to_dataset_id if is_thing else self._stuff_contiguous_id_to_dataset_id
            )
            segment["category_id"] = to_dataset[segment["category_id"]]
        return segment

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """{"panoptic_seg": metric -> value}; None in other processes than the main one."""
        comm.synchronize()
        states, predictions = comm.gather(self._quality.state), comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        self._quality.state = sum(states)
        if self._output_dir is not None:
            self._save(self._output_dir, list(chain.from_iterable(predictions)))
        scores = self._quality.compute()
        _logger.info(f"Panoptic Evaluation Results: {scores}")
        return {"panoptic_seg": scores}

    def _save(self, folder: str, predictions: list[dict[str, Any]]) -> None:
        """predictions.json: the truth's json with the predicted segments in place of its annotations."""
        with PathManager.open(self._metadata.panoptic_json, "r") as file:
            content = json.load(file)
        content["annotations"] = predictions
        with PathManager.open(os.path.join(folder, "predictions.json"), "w") as file:
            json.dump(content, file)


def _inverse(mapping: dict[int, int]) -> dict[int, int]:
    return {value: key for key, value in mapping.items()}
