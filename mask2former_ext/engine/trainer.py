"""Detectron2's trainer with this package's data, optimizer, training step and evaluation."""

from __future__ import annotations

import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, hooks
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.projects.deeplab import build_lr_scheduler
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from mask2former_ext.config.checks import check_proposals
from mask2former_ext.contract import ANSWERS, Contract, TaskByTask, bare_model, classes_of, contract_of
from mask2former_ext.data import Mapper, build_train_loader, check_datasets
from mask2former_ext.engine.checkpointer import Checkpointer
from mask2former_ext.engine.optimizer import build_optimizer, full_model_max_norm
from mask2former_ext.engine.progress import ProgressWriter
from mask2former_ext.engine.setup import precision
from mask2former_ext.engine.step import TrainingStep
from mask2former_ext.evaluation import build_evaluator
from mask2former_ext.interop.weights import WeightFile, fitted_to, load_weights
from mask2former_ext.safe_reading.weight_files import read_file

logger = logging.getLogger(__name__)

_WRITER_PERIOD = 20  # steps between two lines of the log


class Trainer(TrainerBase):
    """Use as Detectron2's DefaultTrainer: `trainer = Trainer(cfg); trainer.resume_or_load(resume); trainer.train()`.

    Subclasses override the same methods: `build_*`, `test`, `train`, `resume_or_load`. It is no DefaultTrainer, which
    puts every model on GPU number `rank` and knows only its own steps. `cfg`, `model`, `optimizer`, `data_loader`,
    `scheduler` and `checkpointer` are at hand; `last_results` has the scores of the last evaluation (the end of
    training is one), and is empty before it.
    Several processes are one joint batch: images, sampled points and normalizers are those that one process with the
    whole batch would have.
    """

    def __init__(self, cfg: CfgNode):
        super().__init__()
        check_proposals(cfg)
        check_datasets(cfg)
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self._weights = WeightFile(cfg.MODEL.WEIGHTS)
        model = self.build_model(fitted_to(cfg, self._weights))
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        self._trainer = TrainingStep(
            _distributed(model),
            data_loader,
            optimizer,
            precision=precision(cfg),
            max_norm=full_model_max_norm(cfg),
            norm_type=cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE,
            max_nonfinite_steps=cfg.SOLVER.MAX_NONFINITE_STEPS,
            by_gradient=contract_of(cfg).trained_by_gradient,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(
            self._trainer.model, cfg.OUTPUT_DIR, classes=classes_of(cfg), trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.last_results: Mapping[str, Any] = {}
        self.register_hooks(self.build_hooks())

    @property
    def model(self) -> nn.Module:
        return self._trainer.model

    @property
    def data_loader(self) -> Iterable[list[dict]]:
        return self._trainer.data_loader

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self._trainer.optimizer

    def train(self) -> Mapping[str, Any] | None:
        """Train to the end. Returns the last scores, checked, where TEST.EXPECTED_RESULTS says what to expect."""
        super().train(self.start_iter, self.max_iter)
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        if not self.last_results:
            raise ValueError("TEST.EXPECTED_RESULTS is given, but DATASETS.TEST is empty: nothing was evaluated")
        verify_results(self.cfg, self.last_results)
        return self.last_results

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        state = {**super().state_dict(), "_trainer": self._trainer.state_dict()}
        model = bare_model(self.model)
        return {**state, "model": model.resume_state()} if isinstance(model, Contract) else state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
        model = bare_model(self.model)
        if isinstance(model, Contract) and "model" in state_dict:  # which checkpoints of before the contract lack
            model.load_resume_state(state_dict["model"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
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
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None
    ) -> OrderedDict:
        """The scores on DATASETS.TEST, in one pass, by one evaluator a data set (None: those of `build_evaluator`).

        Task -> metric -> score if there is one data set, else data set -> task -> metric -> score; empty in all but the
        main process, and of a model that answers no task. A model that reads its task answers each that is scored.
        """
        contract, names = contract_of(cfg), cfg.DATASETS.TEST
        if not contract.answered_tasks(cfg):
            logger.info("%s answers no task: nothing is evaluated", cfg.MODEL.META_ARCHITECTURE)
            return OrderedDict()
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is None:
            evaluators = [cls.build_evaluator(cfg, name) for name in names]
        if len(evaluators) != len(names):
            raise ValueError(f"{len(evaluators)} evaluators for the {len(names)} sets of DATASETS.TEST {names}")
        if contract.reads_task:
            scored = {task for evaluator in evaluators for task in getattr(evaluator, "tasks", ANSWERS)}
            model = TaskByTask(model, [task for task in contract.answered_tasks(cfg) if task in scored])
        results: OrderedDict = OrderedDict()
        for name, evaluator in zip(names, evaluators, strict=True):
            results[name] = inference_on_dataset(model, cls.build_test_loader(cfg, name), evaluator)
            if comm.is_main_process():
                print_csv_format(results[name])
        if len(results) == 1:
            results = next(iter(results.values()))
        if comm.is_main_process():
            logger.info("results\n%s", results_table(results))
        return results

    def build_hooks(self) -> list[HookBase]:
        """In this order: a checkpoint holds the scheduler's new state, the last one the finished model, and what is
        written holds the evaluation."""
        cfg, main_process = self.cfg, comm.is_main_process()
        chosen: list[HookBase] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            loader = self.build_train_loader(cfg)
            chosen.append(hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER))
        chosen.append(_FinishTraining())
        if main_process:
            chosen.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
        chosen.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate))
        if main_process:
            chosen.append(hooks.PeriodicWriter(self.build_writers(), period=_WRITER_PERIOD))
        return chosen

    def _evaluate(self) -> Mapping[str, Any]:
        self.last_results = self.test(self.cfg, self.model)
        return self.last_results

    def build_writers(self) -> list[EventWriter]:
        folder = self.cfg.OUTPUT_DIR
        os.makedirs(folder, exist_ok=True)
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
            _load_checkpoint(self.checkpointer)
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
            load_weights(self.checkpointer.model, self._weights, self.cfg.INPUT.FORMAT)
            self._weights = WeightFile(self.cfg.MODEL.WEIGHTS)  # the tensors need not stay in memory


class _FinishTraining(HookBase):
    """Lets the model end its training (`Contract.finish_training`) after the last step."""

    def after_step(self) -> None:
        model = bare_model(self.trainer.model)
        if self.trainer.iter + 1 >= self.trainer.max_iter and isinstance(model, Contract):
            model.finish_training()


def _load_checkpoint(checkpointer: DetectionCheckpointer) -> None:
    """Take up the model, and what else the checkpointer keeps, from the last checkpoint, which is read once.

    Raises ValueError if it lacks a tensor of the model or a state, or holds a tensor in another shape.
    """
    path = checkpointer.get_checkpoint_file()
    content = _read_checkpoint(path, checkpointer)
    report = load_weights(checkpointer.model, WeightFile(path, content))
    if report.missing or report.training_only or report.wrong_shape:
        raise ValueError(
            f"--resume: {path} is of another model than the configuration says; resume with the configuration that it "
            f"was trained with, or train in another OUTPUT_DIR\n{report}"
        )
    for name, part in checkpointer.checkpointables.items():
        if name not in content:
            raise ValueError(f"--resume: {path} holds no '{name}', so it is no checkpoint of a training to go on with")
        part.load_state_dict(content[name])


def _read_checkpoint(path: str, checkpointer: DetectionCheckpointer) -> Any:
    """All that the file holds. Raises ValueError, naming the other checkpoints, if it is absent or damaged."""
    local = PathManager.get_local_path(path)
    try:
        if not os.path.isfile(local):
            raise ValueError(f"{checkpointer.save_dir}/last_checkpoint names {path!r}, which is no file")
        return read_file(local)
    except ValueError as error:
        others = [os.path.basename(other) for other in checkpointer.get_all_checkpoint_files() if other != path]
        raise ValueError(
            f"--resume: {error}. To go on from another checkpoint, write its name into last_checkpoint: "
            f"{', '.join(sorted(others)) or 'there is none'}"
        ) from error


def evaluate(cfg: CfgNode, resume: bool = False) -> OrderedDict:
    """Score MODEL.WEIGHTS, or with `resume` OUTPUT_DIR's last checkpoint, on DATASETS.TEST."""
    check_proposals(cfg)
    check_datasets(cfg, eval_only=True)
    checkpointer = DetectionCheckpointer(nn.Module(), cfg.OUTPUT_DIR)  # it only tells which file is the last
    has_checkpoint = resume and checkpointer.has_checkpoint()
    weights = WeightFile(checkpointer.get_checkpoint_file() if has_checkpoint else cfg.MODEL.WEIGHTS)
    if not weights.path:
        raise ValueError("--eval-only needs MODEL.WEIGHTS, or --resume with a checkpoint in OUTPUT_DIR")
    model = Trainer.build_model(fitted_to(cfg, weights))
    load_weights(model, weights, cfg.INPUT.FORMAT)
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
    if comm.get_world_size() == 1 or not any(p.requires_grad for p in model.parameters()):
        return model
    on_gpu = next(model.parameters()).device.type == "cuda"
    devices = [comm.get_local_rank()] if on_gpu else None
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
