"""Detectron2's trainer with this package's data, optimizer, training step and evaluation."""

from __future__ import annotations

import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.projects.deeplab import build_lr_scheduler
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from mask2former_ext.config.checks import check_proposals
from mask2former_ext.contract import ANSWERS, TaskByTask, contract_of
from mask2former_ext.data import Mapper, build_train_loader, check_datasets
from mask2former_ext.engine.optimizer import build_optimizer, full_model_max_norm
from mask2former_ext.engine.progress import ProgressWriter
from mask2former_ext.engine.setup import precision
from mask2former_ext.engine.step import TrainingStep
from mask2former_ext.evaluation import build_evaluator
from mask2former_ext.interop.weights import load_weights, with_text_part

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Use as Detectron2's DefaultTrainer: `trainer = Trainer(cfg); trainer.resume_or_load(resume); trainer.train()`.

    Several processes are one joint batch: images, sampled points and normalisers are those that one process with the
    whole batch would have.
    """

    def __init__(self, cfg: CfgNode):
        # Not DefaultTrainer's constructor: it puts every model on GPU number `rank` and knows only its own steps.
        TrainerBase.__init__(self)
        check_proposals(cfg)
        check_datasets(cfg)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self._trainer = TrainingStep(
            _distributed(model),
            data_loader,
            optimizer,
            precision=precision(cfg),
            max_norm=full_model_max_norm(cfg),
            max_nonfinite_steps=cfg.SOLVER.MAX_NONFINITE_STEPS,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(self._trainer.model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(with_text_part(cfg))
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        logger.info("%s: %.1f million trainable parameters", cfg.MODEL.META_ARCHITECTURE, trainable / 1e6)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[dict]]:
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
        check_proposals(cfg)
        loader = build_detection_test_loader(cfg, dataset_name, mapper=Mapper(cfg, False))
        return tqdm(loader, desc=f"evaluate {dataset_name}", unit="img", disable=not comm.is_main_process())

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name, output_folder or os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None) -> OrderedDict:
        """The scores on DATASETS.TEST, in one pass; none of a model that answers no task.

        A model that reads its task answers each one that is scored.
        """
        contract = contract_of(cfg)
        if not contract.answered_tasks(cfg):
            logger.info("%s answers no task: nothing is evaluated", cfg.MODEL.META_ARCHITECTURE)
            return OrderedDict()
        if contract.reads_task:
            if isinstance(evaluators, DatasetEvaluator):
                evaluators = [evaluators]
            if evaluators is None:
                evaluators = [cls.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST]
            scored = {task for evaluator in evaluators for task in getattr(evaluator, "tasks", ANSWERS)}
            model = TaskByTask(model, [task for task in contract.answered_tasks(cfg) if task in scored])
        results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            logger.info("results\n%s", results_table(results))
        return results

    @property
    def last_results(self) -> OrderedDict:
        """The scores of the last evaluation that training ran (its end is one)."""
        return self._last_eval_results

    def build_writers(self) -> list[EventWriter]:
        folder = self.cfg.OUTPUT_DIR
        return [
            ProgressWriter(self.max_iter, self.cfg.SOLVER.IMS_PER_BATCH),
            JSONWriter(os.path.join(folder, "metrics.json")),
            TensorboardXWriter(folder),
        ]

    def resume_or_load(self, resume: bool = True) -> None:
        """With `resume`, go on from OUTPUT_DIR's last checkpoint if it has one; else load MODEL.WEIGHTS, if given.

        Raises ValueError if that checkpoint lacks a tensor of this model or holds it in another shape.
        """
        if resume and self.checkpointer.has_checkpoint():
            checkpoint = self.checkpointer.get_checkpoint_file()
            report = load_weights(self.checkpointer.model, checkpoint)
            if report.missing or report.training_only or report.wrong_shape:
                raise ValueError(
                    f"--resume: {checkpoint} is of another model than the configuration says; resume with the "
                    f"configuration that it was trained with, or train in another OUTPUT_DIR\n{report}"
                )
            self.checkpointer.resume_or_load("", resume=True)
            if isinstance(self.scheduler, WarmupPolyLR):
                # The checkpoint has brought its own end of the schedule, beyond which the rate is no number.
                self.scheduler.max_iters = self.max_iter
            self.start_iter = self.iter + 1
            # The images that training goes on with are those it would have seen without the interruption.
            self._trainer.reset_data_loader(lambda: build_train_loader(self.cfg, start_iteration=self.start_iter))
            return
        if resume:
            logger.warning("--resume: OUTPUT_DIR %s has no checkpoint, so training starts anew", self.cfg.OUTPUT_DIR)
        if self.cfg.MODEL.WEIGHTS:
            load_weights(self.checkpointer.model, self.cfg.MODEL.WEIGHTS)


def evaluate(cfg: CfgNode, resume: bool = False) -> OrderedDict:
    """Score MODEL.WEIGHTS, or with `resume` OUTPUT_DIR's last checkpoint, on DATASETS.TEST."""
    check_proposals(cfg)
    check_datasets(cfg, eval_only=True)
    model = Trainer.build_model(cfg)
    checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR)
    weights = checkpointer.get_checkpoint_file() if resume and checkpointer.has_checkpoint() else cfg.MODEL.WEIGHTS
    if not weights:
        raise ValueError("--eval-only needs MODEL.WEIGHTS, or --resume with a checkpoint in OUTPUT_DIR")
    load_weights(model, weights)
    return Trainer.test(cfg, model)


def results_table(results: Mapping[str, Any]) -> str:
    """The headline figures, one line per data set and task. Of tasks that are not ours, all figures."""
    average_precision = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    headlines = {
        "panoptic_seg": ("PQ", "SQ", "RQ", "PQ_th", "PQ_st"),
        "segm": average_precision,
        "bbox": average_precision,
        "sem_seg": ("mIoU", "fwIoU", "mACC", "pACC"),
    }
    lines = []
    for name in [
        *(task for task in headlines if task in results),
        *(name for name in results if name not in headlines),
    ]:
        scores = results[name]
        if any(isinstance(score, Mapping) for score in scores.values()):
            lines.append(f"{name}\n{results_table(scores)}")
        elif scores:
            shown = [key for key in headlines.get(name, scores) if key in scores]
            lines.append(f"  {name:<13}" + "".join(f"{key} {scores[key]:7.3f}   " for key in shown))
    return "\n".join(lines)


def _distributed(model: nn.Module) -> nn.Module:
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).device.type == "cuda"
    devices = [comm.get_local_rank()] if on_gpu else None
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
