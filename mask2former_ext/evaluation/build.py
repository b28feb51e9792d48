"""Choose the evaluators of a data set: every metric that it has truth for and that the model answers to."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluators

from mask2former_ext.evaluation.evaluators import InstanceEvaluator, PanopticEvaluator, SemanticEvaluator
from mask2former_ext.evaluation.truth import DatasetTruth


def build_evaluator(cfg: CfgNode, dataset_name: str, output_dir: str | None = None) -> DatasetEvaluators:
    """Evaluators of the tasks that cfg.MODEL.MASK_CLASSIFIER.{PANOPTIC,INSTANCE,SEMANTIC}_ON switch on.

    AP looks at the cfg.TEST.DETECTIONS_PER_IMAGE best predictions. Predictions are written where `output_dir` says.
    ValueError if the data set has no truth for any of the tasks.
    """
    tasks = cfg.MODEL.MASK_CLASSIFIER
    truth = DatasetTruth(dataset_name)
    evaluators: list = []
    if tasks.PANOPTIC_ON and truth.panoptic is not None:
        evaluators.append(PanopticEvaluator(truth, output_dir))
    if tasks.INSTANCE_ON and truth.has_instances:
        max_dets = cfg.TEST.DETECTIONS_PER_IMAGE
        evaluators.append(InstanceEvaluator(truth, output_dir, max_dets_per_image=max_dets))
    if tasks.SEMANTIC_ON and truth.has_semantic:
        evaluators.append(SemanticEvaluator(truth, output_dir))
    if not evaluators:
        on = [task for task in ("PANOPTIC", "INSTANCE", "SEMANTIC") if tasks[f"{task}_ON"]]
        raise ValueError(
            f"data set {dataset_name} has no truth for what the model is asked: {', '.join(on) or 'nothing'}"
        )
    return DatasetEvaluators(evaluators)
