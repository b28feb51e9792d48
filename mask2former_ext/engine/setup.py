"""From the command line to a frozen configuration, a log and a banner that says what will run."""

from __future__ import annotations

import argparse
import logging
import os

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from mask2former_ext.config import add_import_option, import_own_files, load_config
from mask2former_ext.config.checks import adapt, check_model, check_training
from mask2former_ext.contract import contract_of
from mask2former_ext.data import class_table, learned_classes, prepare_data, records_of
from mask2former_ext.data.sets.published import check_images_are_there, check_registered
from mask2former_ext.data.targets.table import target_kind
from mask2former_ext.env import detectron2_provider
from mask2former_ext.folders import open_folder
from mask2former_ext.inference.runs import use_own_weights

logger = logging.getLogger(__name__)


def argument_parser() -> argparse.ArgumentParser:
    """Detectron2's parser and more: --config-file F [--weights W] [--import FILE.py] [...] KEY VALUE ..."""
    parser = default_argument_parser()
    same = {"default": argparse.SUPPRESS, "metavar": "FILE"}
    parser.add_argument("--config", dest="config_file", help="the same as --config-file", **same)
    parser.add_argument("--weights", help="the same as MODEL.WEIGHTS FILE among the overrides", **same)
    add_import_option(parser)
    return parser


def setup(args: argparse.Namespace) -> CfgNode:
    """Run the files of --import, read the configuration, register its data sets, open OUTPUT_DIR and the log, seed,
    print the banner.

    Raises ValueError for a key, value, data set or folder that cannot work.
    """
    cfg, training = checked_configuration(args, comm.get_world_size()), not args.eval_only
    open_folder(cfg.OUTPUT_DIR, "OUTPUT_DIR")
    for name in ("fvcore", "detectron2", "mask2former_ext"):
        short = "m2f" if name == "mask2former_ext" else None
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name=name, abbrev_name=short)
    adapt(cfg, training)
    _set_up_torch(cfg, training)
    cfg.freeze()
    if comm.is_main_process():
        with open(os.path.join(cfg.OUTPUT_DIR, "config.yaml"), "w") as file:
            file.write(cfg.dump(default_flow_style=None))
        logger.info("\n%s", banner(cfg, args.eval_only))
    return cfg


def checked_configuration(args: argparse.Namespace, num_processes: int) -> CfgNode:
    """The configuration of a run, its data sets registered; all that can be known to be wrong without reading an image.

    Raises ValueError for a key, a value or a data set that cannot work.
    """
    if not args.config_file:
        raise ValueError("--config-file names the configuration and must be given")
    given = vars(args)  # a parser of Detectron2's own knows neither --import nor --weights
    import_own_files(given.get("imports", []))
    weights = ["MODEL.WEIGHTS", given["weights"]] if "weights" in given else []
    overrides = [*weights, *args.opts]
    cfg = load_config(args.config_file, overrides)
    if args.eval_only:
        use_own_weights(cfg, args.config_file, overrides)
    check_model(cfg)
    if not args.eval_only:
        check_training(cfg, num_processes)
    prepare_data(cfg)
    for name in [*([] if args.eval_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST]:
        check_registered(name)
        check_images_are_there(name)
    return cfg


def _set_up_torch(cfg: CfgNode, training: bool) -> None:
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and training
    if cfg.get("FLOAT32_PRECISION", "") and torch.cuda.is_available():
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.backends.cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"


def precision(cfg: CfgNode) -> torch.dtype:
    """The type of SOLVER.AMP: bfloat16 where the GPU has it, else float16; float32 without AMP or on a CPU."""
    if not cfg.SOLVER.AMP.ENABLED or not cfg.MODEL.DEVICE.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def banner(cfg: CfgNode, eval_only: bool) -> str:
    """Architecture, task, data, classes, Detectron2, device and precision, a line each; for joint training of several
    tasks also which of them each data set teaches. Raises ValueError if one teaches none.
    """
    names = cfg.DATASETS.TEST if eval_only else cfg.DATASETS.TRAIN
    answered = contract_of(cfg).answered_tasks(cfg)
    amp_on_cpu = cfg.SOLVER.AMP.ENABLED and precision(cfg) == torch.float32
    lines = {
        "architecture": f"{cfg.MODEL.META_ARCHITECTURE} on {cfg.MODEL.BACKBONE.NAME}",
        "task": f"trained on {cfg.INPUT.TARGETS} truth; answers {', '.join(answered) or 'no task'}",
        **({} if eval_only else _taught_tasks(cfg)),
        "data": f"train {', '.join(cfg.DATASETS.TRAIN) or '-'}; test {', '.join(cfg.DATASETS.TEST) or '-'}",
        "classes": _classes(cfg, names[0] if names else None),
        "detectron2": detectron2_provider(),
        "device": f"{cfg.MODEL.DEVICE}, {comm.get_world_size()} process(es)",
        "precision": str(precision(cfg)).removeprefix("torch.")
        + (" (SOLVER.AMP is for GPUs; on a CPU training is in float32)" if amp_on_cpu else ""),
        "weights": cfg.MODEL.WEIGHTS or "from scratch",
        "output": cfg.OUTPUT_DIR,
    }
    return "\n".join(f"  {name:<13} {value}" for name, value in lines.items())


def _taught_tasks(cfg: CfgNode) -> dict[str, str]:
    """Of each training set, how often each of several tasks is drawn, and which have no truth and are left out."""
    kind, lines = target_kind(cfg), []
    if len(kind.tasks) < 2:
        return {}
    for name in cfg.DATASETS.TRAIN:
        shares = kind.shares(name, records_of(name))
        drawn = ", ".join(f"{task} {share:.2f}" for task, share in shares.items())
        left_out = ", ".join(task for task in kind.tasks if task not in shares)
        lines.append(f"{name}: {drawn}" + (f"; no truth for {left_out}: left out" if left_out else ""))
    return {"teaches": ("\n" + " " * 16).join(lines)}


def _classes(cfg: CfgNode, dataset_name: str | None) -> str:
    heads = contract_of(cfg).class_heads(cfg)
    if dataset_name is None:
        return ", ".join(str(cfg.MODEL[head].NUM_CLASSES) for head in heads)
    table = class_table(dataset_name)
    num_things = 0 if table is None else len(table.things)
    noun_of = {"all": f" ({num_things} things)", "things": " things", "labels": " labels"}
    listed = "; ".join(
        f"{len(names)}{noun_of[heads[head]]}: {', '.join(names[:8])}" + (", ..." if len(names) > 8 else "")
        for head, names in learned_classes(cfg, dataset_name).items()
    )
    return listed or "-"  # a model may count no classes
