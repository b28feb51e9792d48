"""Choose the evaluators of a data set: every metric that it has truth for and that the model answers to."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from mask2former_ext.classes import APART
from mask2former_ext.contract import contract_of
from mask2former_ext.evaluation.evaluators import InstanceEvaluator, PanopticEvaluator, SemanticEvaluator
from mask2former_ext.evaluation.truth import DatasetTruth

logger = logging.getLogger(__name__)


class TaskEvaluators(DatasetEvaluators):
    """The evaluators of several tasks as one; `tasks` names them."""

    def __init__(self, evaluator_of: dict[str, DatasetEvaluator]) -> None:
        super().__init__(list(evaluator_of.values()))
        self.tasks = tuple(evaluator_of)


def build_evaluator(cfg: CfgNode, dataset_name: str, output_dir: str | None = None) -> TaskEvaluators:
    """Evaluators of the tasks that the model answers; none for a model that answers none.

    AP looks at the cfg.TEST.DETECTIONS_PER_IMAGE best predictions. Predictions are written where `output_dir` says.
    ValueError if the data set has no truth for any of the tasks.
    """
    contract = contract_of(cfg)
    tasks = contract.answered_tasks(cfg)
    if not tasks:
        return TaskEvaluators({})
    truth = DatasetTruth(dataset_name, separated=contract.numbering == APART)
    evaluator_of: dict[str, DatasetEvaluator] = {}
    if "panoptic" in tasks and truth.panoptic is not None:
        evaluator_of["panoptic"] = PanopticEvaluator(truth, output_dir)
    if "instance" in tasks and truth.has_instances:
        max_dets = cfg.TEST.DETECTIONS_PER_IMAGE
        evaluator_of["instance"] = InstanceEvaluator(truth, output_dir, max_dets_per_image=max_dets)
    if "semantic" in tasks and truth.has_semantic:
        evaluator_of["semantic"] = SemanticEvaluator(truth, output_dir)
    if not evaluator_of:
        answered = ", ".join(tasks)
        raise ValueError(f"data set {dataset_name} has no truth for any task that the model answers: {answered}")
    without = [task for task in tasks if task not in evaluator_of]
    if without:
        logger.info("data set %s has no truth for %s: not scored", dataset_name, ", ".join(without))
    return TaskEvaluators(evaluator_of)
