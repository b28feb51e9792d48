"""The default way to train and to predict from a configuration, and the set-up that every script begins with."""

from __future__ import annotations

import argparse
import logging
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2._left_out import left_out_message
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader, build_detection_train_loader
from detectron2.data import transforms as T
from detectron2.engine import hooks
from detectron2.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.solver import LRScheduler, build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

_logger = logging.getLogger(__name__)

_WRITER_PERIOD = 20  # iterations between two lines in the log


def create_ddp_model(model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> nn.Module:
    """`model` itself in a single process, else wrapped in DistributedDataParallel with `kwargs`.

    A model on a GPU gets this process's GPU as its device. `fp16_compression` sends gradients in half precision.
    """
    if comm.get_world_size() == 1:
        return model
    if any(parameter.is_cuda for parameter in model.parameters()):
        kwargs.setdefault("device_ids", [comm.get_local_rank()])
    parallel = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

        parallel.register_comm_hook(state=None, hook=fp16_compress_hook)
    return parallel


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Arguments of training scripts: configuration, resume, evaluation only, processes, and overrides at the end."""
    parser = argparse.ArgumentParser(epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="configuration to run")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    parser.add_argument("--eval-only", action="store_true", help="evaluate the weights, do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes per machine, one GPU each if it has any")
    parser.add_argument("--num-machines", type=int, default=1, help="machines that train together")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    # A port per user: the same one in every run, so that a forgotten process shows itself as a port in use.
    user = os.getuid() if hasattr(os, "getuid") else 1
    url = f"tcp://127.0.0.1:{49152 + user % 16384}"
    parser.add_argument("--dist-url", default=url, help="where the processes meet; 'auto' takes a free port here")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="configuration overrides, as pairs KEY VALUE")
    return parser


def default_setup(cfg: CfgNode, args: Any) -> None:
    """Begin a run: loggers, environment and configuration in the log, config.yaml in the output folder, seed, cudnn."""
    if not isinstance(cfg, CfgNode):
        raise ImportError(left_out_message("A lazy configuration (default_setup with something else than a CfgNode)"))
    output_dir, rank = cfg.OUTPUT_DIR, comm.get_rank()
    if comm.is_main_process() and output_dir:
        PathManager.mkdirs(output_dir)
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    logger = setup_logger(output_dir, distributed_rank=rank)
    logger.info(f"Rank of current process: {rank}. World size: {comm.get_world_size()}")
    logger.info(f"Environment info:\n{collect_env_info()}")
    logger.info(f"Command line arguments: {args}")
    config_file = getattr(args, "config_file", "")
    if config_file:
        with PathManager.open(config_file, "r") as file:
            logger.info(f"Contents of {config_file}:\n{file.read()}")
    if comm.is_main_process() and output_dir:
        path = os.path.join(output_dir, "config.yaml")
        with PathManager.open(path, "w") as file:
            file.write(cfg.dump())
        logger.info(f"Running with the full config, also saved to {path}:\n{cfg.dump()}")

    seed_all_rng(cfg.SEED + rank if cfg.SEED >= 0 else None)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    precision = cfg.get("FLOAT32_PRECISION", "")
    if torch.cuda.is_available() and precision:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Writers to the log, to `output_dir`/metrics.json and, for TensorBoard, to `output_dir`."""
    PathManager.mkdirs(output_dir)
    metrics_file = os.path.join(output_dir, "metrics.json")
    return [CommonMetricPrinter(max_iter), JSONWriter(metrics_file), TensorboardXWriter(output_dir)]


class DefaultPredictor:
    """The model of a configuration with its weights, for one image at a time.

    Resizes as in testing. `metadata` is that of the first test set, if there is one.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg)
        self.model.eval()
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        short_edge = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST)
        self.aug = T.ResizeShortestEdge(short_edge, cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT: DefaultPredictor reads RGB or BGR, not {self.input_format!r}")

    @torch.no_grad()
    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """The model's output for an image (H, W, 3), uint8, in BGR order."""
        image = original_image if self.input_format == "BGR" else original_image[:, :, ::-1]
        height, width = image.shape[:2]
        resized = self.aug.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return self.model([{"image": tensor, "height": height, "width": width}])[0]


def _of_step_trainer(name: str) -> property:
    """An attribute that a DefaultTrainer shares with the trainer that runs its steps."""
    return property(lambda self: getattr(self._trainer, name), lambda self, value: setattr(self._trainer, name, value))


class DefaultTrainer(TrainerBase):
    """Trains what the configuration says. Each part comes from a classmethod `build_*`, to be overridden in subclasses.

    `cfg`, `model`, `optimizer`, `data_loader`, `scheduler` and `checkpointer` are at hand. After construction call
    `resume_or_load`, then `train`.
    """

    model = _of_step_trainer("model")
    data_loader = _of_step_trainer("data_loader")
    optimizer = _of_step_trainer("optimizer")

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.max_iter = cfg.SOLVER.MAX_ITER
        bare_model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, bare_model)
        loader = self.build_train_loader(cfg)
        model = create_ddp_model(bare_model, broadcast_buffers=False)
        self._trainer = _step_trainer(cfg, bare_model)(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """With `resume` and a last checkpoint in OUTPUT_DIR, take up everything from it and go on with the iteration
        after it; otherwise load the weights of MODEL.WEIGHTS alone and start from iteration 0."""
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Timer, learning rate, BN statistics where on, checkpoints, evaluation, writers: in this order, so that a
        checkpoint holds the scheduler's new state and the writers see the evaluation."""
        test_cfg = self.cfg.TEST
        main_process = comm.is_main_process()
        result: list[hooks.HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if test_cfg.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            result.append(self._build_precise_bn())
        if main_process:
            result.append(hooks.PeriodicCheckpointer(self.checkpointer, self.cfg.SOLVER.CHECKPOINT_PERIOD))
        result.append(hooks.EvalHook(test_cfg.EVAL_PERIOD, self._evaluate_and_keep))
        if main_process:
            result.append(hooks.PeriodicWriter(self.build_writers(), period=_WRITER_PERIOD))
        return result

    def _build_precise_bn(self) -> hooks.PreciseBN:
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0
        loader = self.build_train_loader(cfg)
        return hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER)

    def _evaluate_and_keep(self) -> dict[str, Any]:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def build_writers(self) -> list[EventWriter]:
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> dict[str, Any] | None:  # type: ignore[override]
        """Train to the end. Gives the last evaluation, checked, where TEST.EXPECTED_RESULTS says what to expect."""
        super().train(self.start_iter, self.max_iter)
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        assert hasattr(self, "_last_eval_results"), "TEST.EXPECTED_RESULTS is set, but training evaluated nothing"
        verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        model = build_model(cfg)
        _logger.info(f"Model:\n{model}")
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """No default: what to measure depends on the data. Without it, training does not evaluate."""
        raise NotImplementedError(f"{cls.__name__}.build_evaluator has to say how {dataset_name} is evaluated")

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None
    ) -> dict[str, Any]:
        """Evaluate on DATASETS.TEST with `evaluators`, one per set, or those of `build_evaluator`.

        Gives task -> metric -> value if there is one set, else set -> task -> metric -> value; {} for a set without
        evaluator and, where only the main process knows the results, in the others.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise ValueError(f"{len(evaluators)} evaluators for the {len(names)} sets of DATASETS.TEST {tuple(names)}")
        results: dict[str, Any] = {}
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = cls.build_evaluator(cfg, name) if evaluators is None else evaluators[index]
            except NotImplementedError as error:
                _logger.warning(f"{name} is not evaluated: {error}")
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                assert isinstance(results[name], dict), f"the evaluator of {name} gave {results[name]!r}, not a dict"
                _logger.info(f"Evaluation results for {name} in csv format:")
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Fit a schedule made for SOLVER.REFERENCE_WORLD_SIZE processes (0: leave it) to `num_workers` of them.

        With s = num_workers / reference: batch size and learning rate x s, all iteration counts / s
        (the linear scaling rule of arXiv 1706.02677).
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        if cfg.SOLVER.IMS_PER_BATCH % reference:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} is not a multiple of REFERENCE_WORLD_SIZE {reference}"
            )
        was_frozen, cfg = cfg.is_frozen(), cfg.clone()
        cfg.defrost()
        scale, solver = num_workers / reference, cfg.SOLVER
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR *= scale
        for key in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
            solver[key] = round(solver[key] / scale)
        cfg.TEST.EVAL_PERIOD = round(cfg.TEST.EVAL_PERIOD / scale)
        solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
        solver.REFERENCE_WORLD_SIZE = num_workers
        _logger.info(f"Scaled from {reference} to {num_workers} processes, which gives this SOLVER:\n{solver}")
        if was_frozen:
            cfg.freeze()
        return cfg


def _step_trainer(cfg: CfgNode, model: nn.Module) -> type[SimpleTrainer]:
    """AMPTrainer where mixed precision is on and the model is on a GPU."""
    if not cfg.SOLVER.AMP.ENABLED:
        return SimpleTrainer
    if not any(parameter.is_cuda for parameter in model.parameters()):
        _logger.warning("SOLVER.AMP.ENABLED has no effect: the model is not on a CUDA device. Training in fp32")
        return SimpleTrainer
    return AMPTrainer
