"""Average precision of boxes and masks by the COCO rules."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from detectron2._left_out import left_out_message
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.evaluation.evaluator import DatasetEvaluator
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

_TASKS = ("bbox", "segm")
_MAX_DETS = (1, 10, 100)  # pycocotools' limits of results per image; precision is read at the last


class COCOEvaluator(DatasetEvaluator):
    """ "bbox" and "segm": AP, AP50, AP75, APs, APm, APl and AP-<class>, in percent, nan where nothing can be computed.

    The truth is the set's `json_file`; without one the registered records are converted to a json in `output_dir`.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
    ) -> None:
        """`tasks` None: "bbox", and "segm" if there are masks. `distributed`: results of all processes are gathered.
        `output_dir` gets the predictions. `max_dets_per_image` best results of an image count (100)."""
        from mask2former_ext.evaluation.average_precision import load_coco

        if kpt_oks_sigmas:
            raise ImportError(left_out_message("The evaluation of keypoints (kpt_oks_sigmas)"))
        self._logger = logging.getLogger(__name__)
        self._tasks = None if isinstance(tasks, CfgNode) else tasks  # scripts of old pass the configuration here
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets_per_image = [*_MAX_DETS[:2], max_dets_per_image or _MAX_DETS[2]]
        self._use_fast_impl = use_fast_impl
        self._kpt_oks_sigmas = kpt_oks_sigmas
        self._metadata = MetadataCatalog.get(dataset_name)
        if self._metadata.get("json_file") is None:
            if output_dir is None:
                raise ValueError(f"{dataset_name} has no json_file: COCOEvaluator needs an output_dir to write one")
            path = os.path.join(output_dir, f"{dataset_name}_coco_format.json")
            convert_to_coco_json(dataset_name, path, allow_cached=allow_cached_coco)
            self._metadata.json_file = path
        self._coco_api = load_coco(PathManager.get_local_path(self._metadata.json_file))
        self._do_evaluation = "annotations" in self._coco_api.dataset

    def reset(self) -> None:
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes "image_id" of the inputs and "instances" of the outputs."""
        for image, output in zip(inputs, outputs, strict=True):
            if "proposals" in output:
                raise ImportError(left_out_message("The evaluation of box proposals"))
            if "instances" in output:
                found = instances_to_coco_json(output["instances"].to("cpu"), image["image_id"])
                self._predictions.append({"image_id": image["image_id"], "instances": found})

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, dict[str, float]]:
        """Task -> metric -> value, over `img_ids` (all). {} in other processes than the main one."""
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(chain.from_iterable(comm.gather(predictions, dst=0)))
            if not comm.is_main_process():
                return {}
        if not predictions:
            self._logger.warning("COCOEvaluator has received no predictions")
            return {}
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            with PathManager.open(os.path.join(self._output_dir, "instances_predictions.pth"), "wb") as file:
                torch.save(predictions, file)
        self._results: dict[str, dict[str, float]] = {}
        self._eval_predictions(predictions, img_ids=img_ids)
        return copy.deepcopy(self._results)

    def _tasks_from_predictions(self, predictions: list[dict[str, Any]]) -> list[str]:
        has_masks = any("segmentation" in prediction for prediction in predictions)
        return ["bbox", "segm"] if has_masks else ["bbox"]

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: Sequence[int] | None = None) -> None:
        """Fill `_results` from what `process` has kept."""
        found = list(chain.from_iterable(prediction["instances"] for prediction in predictions))
        self._to_dataset_ids(found)
        if self._output_dir:
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            with PathManager.open(path, "w") as file:
                json.dump(found, file)
            self._logger.info(f"Predictions in COCO's form are in {path}")
        if not self._do_evaluation:
            self._logger.info("There is no truth to compare with.")
            return
        for task in self._tasks or self._tasks_from_predictions(found):
            if task not in _TASKS:
                raise ImportError(left_out_message(f"The evaluation task {task!r} (here: {_TASKS})"))
            limits: dict[str, Any] = {"img_ids": img_ids, "max_dets_per_image": self._max_dets_per_image}
            evaluation = _evaluate_predictions_on_coco(self._coco_api, found, task, **limits) if found else None
            self._results[task] = self._derive_coco_results(evaluation, task, self._metadata.get("thing_classes"))

    def _to_dataset_ids(self, found: list[dict[str, Any]]) -> None:
        """Contiguous class numbers to the category ids of the json, in place."""
        to_contiguous = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_contiguous is None:
            return
        to_dataset = {contiguous: dataset_id for dataset_id, contiguous in to_contiguous.items()}
        count = len(to_dataset)
        assert set(to_dataset) == set(range(count)), f"thing classes are not numbered 0..{count - 1}: {to_contiguous}"
        for result in found:
            number = result["category_id"]
            assert number in to_dataset, f"predicted class {number} is not among the {count} classes of the data"
            result["category_id"] = to_dataset[number]

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Metrics of an accumulated COCOeval; all nan for None, which stands for no prediction at all."""
        from mask2former_ext.evaluation.average_precision import SCORE_NAMES, average_precision_scores

        if coco_eval is None:
            self._logger.warning("The model has predicted nothing.")
            return dict.fromkeys(SCORE_NAMES, float("nan"))
        scores = average_precision_scores(coco_eval, class_names)
        main = {name: scores[name] for name in SCORE_NAMES}
        self._logger.info(f"Evaluation results for {iou_type}:\n{create_small_table(main)}")
        return scores


def instances_to_coco_json(instances: Instances, img_id: int) -> list[dict[str, Any]]:
    """Instances on the CPU -> COCO's results: image_id, category_id, bbox (x, y, w, h), score, segmentation (RLE)."""
    from mask2former_ext.data.targets.masks import encode_mask

    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    results = [
        {"image_id": img_id, "category_id": category, "bbox": box, "score": score}
        for category, box, score in zip(instances.pred_classes.tolist(), boxes, instances.scores.tolist(), strict=True)
    ]
    if instances.has("pred_masks"):
        for result, mask in zip(results, instances.pred_masks, strict=True):
            result["segmentation"] = encode_mask(mask.numpy())
    return results


def _evaluate_predictions_on_coco(
    coco_gt: COCO,
    coco_results: list[dict[str, Any]],
    iou_type: str,
    kpt_oks_sigmas: Sequence[float] | None = None,
    cocoeval_fn: type[COCOeval] = COCOeval,
    img_ids: Sequence[int] | None = None,
    max_dets_per_image: Sequence[int] | None = None,
    use_fast_impl: bool | None = None,  # noqa: ARG001  older scripts choose by it; there is one implementation here
) -> COCOeval:
    """Run pycocotools on results in COCO's form, of which there is at least one; gives the summarized evaluation."""
    assert coco_results, "pycocotools cannot evaluate an empty list of results"
    if kpt_oks_sigmas:
        raise ImportError(left_out_message("The evaluation of keypoints (kpt_oks_sigmas)"))
    if iou_type == "segm":  # with a box at hand pycocotools takes its area, not the mask's, for the object's size
        coco_results = [{key: value for key, value in result.items() if key != "bbox"} for result in coco_results]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = cocoeval_fn(coco_gt, coco_gt.loadRes(copy.deepcopy(coco_results)), iou_type)
        evaluation.params.maxDets = list(max_dets_per_image or _MAX_DETS)
        if img_ids is not None:
            evaluation.params.imgIds = list(img_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
