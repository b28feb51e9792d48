"""Evaluators and the loop that feeds them."""

from __future__ import annotations

from detectron2.evaluation.coco_evaluation import COCOEvaluator
from detectron2.evaluation.evaluator import DatasetEvaluator, DatasetEvaluators, inference_context, inference_on_dataset
from detectron2.evaluation.testing import print_csv_format, verify_results
