"""What the commands that segment share: which model, and free names for results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from mask2former_ext.config import load_config
from mask2former_ext.contract import TASKS, contract_of
from mask2former_ext.inference.runs import use_own_weights

# Where `make demo`, run in the checkout, leaves its model.
DEMO_MODEL = Path(__file__).resolve().parents[2] / "output" / "demo" / "model"


def configure(
    config_file: str | None, overrides: Sequence[str] = (), *, task: str | None = None, device: str | None = None
) -> CfgNode:
    """The configuration of a trained model, answering `task` ("all": each that it can; None: those switched on) on
    `device` (None: the configuration's). Without a `config_file` the model of `make demo` is meant. That of a run needs
    no weights beside it: see `inference.runs`.

    Raises ValueError if no weights are named or the model does not answer the task.
    """
    if config_file is None:
        weights = DEMO_MODEL / "model_final.pth"
        if not weights.exists():
            raise ValueError(f"no --config-file, and {weights}, which `make demo` trains, is absent")
        config_file, overrides = str(DEMO_MODEL / "config.yaml"), ["MODEL.WEIGHTS", str(weights), *overrides]
    cfg = load_config(config_file, overrides)
    use_own_weights(cfg, config_file, overrides)
    if not cfg.MODEL.WEIGHTS:
        raise ValueError(f"{config_file}: MODEL.WEIGHTS is empty; --weights FILE names those of a trained model")
    if device is not None:
        cfg.MODEL.DEVICE = device
    contract = contract_of(cfg)
    if task is not None:
        contract.choose_tasks(cfg, TASKS if task == "all" else (task,))
    answered = contract.answered_tasks(cfg)
    if task not in (None, "all", *answered):
        raise ValueError(f"--task {task}: {cfg.MODEL.META_ARCHITECTURE} answers {', '.join(answered)} alone")
    return cfg


def demo_model_notice() -> str:
    """The notice for a command line without a --config-file."""
    return f"No --config-file: the small model of `make demo` is used, which knows shapes alone ({DEMO_MODEL})"


def free_name(stem: str, taken: set[str]) -> str:
    """`stem`, or with a number where it is taken already; the name is taken from then on."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name
