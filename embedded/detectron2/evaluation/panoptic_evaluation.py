"""Panoptic quality, by this project's evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.data import MetadataCatalog

from mask2former_ext.evaluation.evaluators import Batch, PanopticEvaluator


class COCOPanopticEvaluator(PanopticEvaluator):
    """ "panoptic_seg": PQ, SQ, RQ of all classes, of things (_th) and of stuff (_st), in percent.

    The truth is the set's `panoptic_json` with the PNGs in `panoptic_root`. `output_dir` gets the predictions.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        super().__init__(dataset_name, output_dir)
        self._metadata = MetadataCatalog.get(dataset_name)

    def reset(self) -> None:
        super().reset()
        self._predictions: list[dict[str, Any]] = []  # for subclasses of public projects, which keep theirs here

    def process(self, inputs: Batch, outputs: Batch) -> None:
        """Takes "image_id" and "file_name" of the inputs and "panoptic_seg" (ids (H, W), segments) of the outputs.

        Without segments (None) an id is category x `label_divisor` + instance, and -1 is void.
        """
        super().process(inputs, [{"panoptic_seg": self._with_segments(*output["panoptic_seg"])} for output in outputs])

    def _with_segments(self, labels: torch.Tensor, segments: list[dict[str, Any]] | None) -> tuple[torch.Tensor, Any]:
        if segments is not None:
            return labels, segments
        segments, things = [], self._dataset.classes.things
        for label in torch.unique(labels[labels != -1]).tolist():
            category = label // self._metadata.label_divisor
            segments.append({"id": label + 1, "category_id": category, "isthing": category in things})
        return labels + 1, segments

    def _category_id(self, segment: Mapping[str, Any], file_name: str) -> int:
        """The data set's category id, which a segment that does not say "isthing" has already."""
        return super()._category_id(segment, file_name) if "isthing" in segment else segment["category_id"]

    def _convert_category_id(self, segment: dict[str, Any]) -> dict[str, Any]:
        """The segment as the data set's json has it, "isthing" removed; for subclasses of public projects."""
        category = self._category_id(segment, f"a segment of {self._dataset.name}")
        return {key: value for key, value in {**segment, "category_id": category}.items() if key != "isthing"}

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """{"panoptic_seg": metric -> value}; None in other processes than the main one."""
        return super().evaluate() or None
