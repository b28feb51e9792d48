"""Values of a configuration that would fail late and far from their key: each a ValueError of key, value and rule.

What concerns the data is in `data.checks`; keys and types are checked when the file is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from mask2former_ext.contract import Contract, contract_of
from mask2former_ext.data.channels import check_format
from mask2former_ext.data.targets.table import target_kind_class, target_kind_names
from mask2former_ext.interop.config_keys import get_key

logger = logging.getLogger(__name__)

# Keys of Detectron2 that its own trainer and models read, and ours do not -> what happens instead.
_UNREAD = {
    "TEST.AUG.ENABLED": "images are evaluated once, as they are",
}
_UNREAD_BY_OUR_MODELS = {
    "VIS_PERIOD": "no pictures are drawn while a model trains",
    "MODEL.KEYPOINT_ON": "no model here learns keypoints",
}
_SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "WarmupPolyLR")


def check_model(cfg: CfgNode) -> None:
    """The model is known, and so are its device and the channels of its images; no file of proposals is named."""
    check_proposals(cfg)
    _check_choice("MODEL.META_ARCHITECTURE", cfg.MODEL.META_ARCHITECTURE, [name for name, _ in META_ARCH_REGISTRY])
    _check_choice("MODEL.BACKBONE.NAME", cfg.MODEL.BACKBONE.NAME, [name for name, _ in BACKBONE_REGISTRY])
    _check_channels(cfg)
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise ValueError(f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', but must be cpu, cuda or cuda:NUMBER") from error
    if device.type == "cuda" and 0 < torch.cuda.device_count() <= (device.index or 0):
        raise ValueError(f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}', but this machine has {torch.cuda.device_count()} GPUs")


def _check_channels(cfg: CfgNode) -> None:
    """INPUT.FORMAT names channels, and each of them has a mean and a deviation."""
    check_format(cfg.INPUT.FORMAT)
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        values = list(cfg.MODEL[key])
        if len(values) != len(cfg.INPUT.FORMAT):
            raise ValueError(
                f"MODEL.{key} is {values}, but must hold one number for each of the {len(cfg.INPUT.FORMAT)} channels "
                f"of INPUT.FORMAT {cfg.INPUT.FORMAT}"
            )


def check_proposals(cfg: CfgNode) -> None:
    """No file of proposals is named: Detectron2 would unpickle it, which executes what the file says."""
    if cfg.MODEL.LOAD_PROPOSALS:
        raise ValueError(
            f"MODEL.LOAD_PROPOSALS is {cfg.MODEL.LOAD_PROPOSALS!r}, but must be False: files of proposals are pickles, "
            "which can execute anything, and no model here reads them"
        )


def use_available_device(cfg: CfgNode) -> None:
    """Set MODEL.DEVICE to cpu, in place and with a warning, where it asks for a GPU and there is none."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.warning("MODEL.DEVICE asks for a GPU and PyTorch finds none: the CPU is used")
        cfg.MODEL.DEVICE = "cpu"


def adapt(cfg: CfgNode, training: bool) -> None:
    """Set, in place, what this machine cannot do otherwise, and warn of it and of values that have no effect.

    Called once a log is there to hold the warnings.
    """
    use_available_device(cfg)
    if training and cfg.SOLVER.WARMUP_ITERS >= cfg.SOLVER.MAX_ITER:
        logger.warning(
            "SOLVER.WARMUP_ITERS %d is not below SOLVER.MAX_ITER %d: the schedule never ends its warm-up",
            cfg.SOLVER.WARMUP_ITERS,
            cfg.SOLVER.MAX_ITER,
        )
    tell_unread(cfg)


def tell_unread(cfg: CfgNode) -> None:
    """Warn of each key of Detectron2 that is set to something else than its default, and that nothing here reads."""
    defaults = get_cfg()
    is_ours = contract_of(cfg) is not Contract  # a model from elsewhere may read keys of its own
    for key, what_happens in {**_UNREAD, **(_UNREAD_BY_OUR_MODELS if is_ours else {})}.items():
        value = get_key(cfg, key)
        if value != get_key(defaults, key):
            logger.warning("%s is %r, but %s: the key is not read", key, value, what_happens)


def check_training(cfg: CfgNode, num_processes: int) -> None:
    """There is something to train on, for some steps, in batches that `num_processes` can share."""
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty; training needs a data set")
    _check_choice("INPUT.TARGETS", cfg.INPUT.TARGETS, target_kind_names())
    _check_targets_of_model(cfg)
    target_kind_class(cfg).check_config(cfg)
    _check_choice("SOLVER.LR_SCHEDULER_NAME", cfg.SOLVER.LR_SCHEDULER_NAME, _SCHEDULES)
    if cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE <= 0:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.NORM_TYPE is {cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE}, but must be positive: it is p "
            "of the p-norm of the gradients"
        )
    if cfg.SOLVER.MAX_ITER < 1:
        raise ValueError(f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}, but must be at least 1")
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch < 1 or batch % num_processes:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch}, but must be a positive multiple of the number of processes, "
            f"{num_processes}"
        )


def _check_targets_of_model(cfg: CfgNode) -> None:
    kinds = contract_of(cfg).target_kinds(cfg)
    if cfg.INPUT.TARGETS not in kinds:
        raise ValueError(
            f"INPUT.TARGETS is '{cfg.INPUT.TARGETS}', but {cfg.MODEL.META_ARCHITECTURE} learns from "
            + " or ".join(f"'{kind}'" for kind in kinds)
        )


def _check_choice(key: str, value: str, known: Iterable[str]) -> None:
    known = sorted(known)
    if value not in known:
        near = "".join(get_close_matches(value, known, n=1, cutoff=0.0))
        raise ValueError(f"{key} is '{value}', the nearest known one is {near}; known are {', '.join(known)}")
