"""Evaluators and the loop that feeds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectron2.evaluation.coco_evaluation import COCOEvaluator
from detectron2.evaluation.evaluator import DatasetEvaluator, DatasetEvaluators, inference_context, inference_on_dataset
from detectron2.evaluation.testing import print_csv_format, verify_results

if TYPE_CHECKING:  # loaded when used, see `_left_out`
    from detectron2.evaluation.cityscapes_evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
    from detectron2.evaluation.panoptic_evaluation import COCOPanopticEvaluator
    from detectron2.evaluation.sem_seg_evaluation import SemSegEvaluator
