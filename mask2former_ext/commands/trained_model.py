"""What the commands that segment share: which model, a question before a download, and free names for results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from tqdm import tqdm

from mask2former_ext.config import load_config
from mask2former_ext.contract import TASKS, contract_of
from mask2former_ext.inference.model_source import config_of, described
from mask2former_ext.inference.runs import use_own_weights
from mask2former_ext.interop.published import PublishedModel

# Where `make demo`, run in the checkout, leaves its model.
DEMO_MODEL = Path(__file__).resolve().parents[2] / "output" / "demo" / "model"


def configure(
    config_file: str | None,
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    agree: Callable[[PublishedModel], bool] | None = None,
    task: str | None = None,
    device: str | None = None,
) -> CfgNode:
    """The configuration of a trained model, answering `task` ("all": each that it can; None: those switched on) on
    `device` (None: the configuration's). That of a run needs no weights beside it: see `inference.runs`. `model` names
    one in the place of a `config_file`, and `agree` is asked before it is downloaded (`model_source.config_of`);
    without both the model of `make demo` is meant.

    Raises ValueError if no weights are named or the model does not answer the task.
    """
    cfg = _configuration(config_file, overrides, model, agree or ask)
    if not cfg.MODEL.WEIGHTS:
        raise ValueError(
            f"{config_file or model}: MODEL.WEIGHTS is empty; --weights FILE names those of a trained model"
        )
    if device is not None:
        cfg.MODEL.DEVICE = device
    contract = contract_of(cfg)
    if task is not None:
        contract.choose_tasks(cfg, TASKS if task == "all" else (task,))
    answered = contract.answered_tasks(cfg)
    if task not in (None, "all", *answered):
        raise ValueError(f"--task {task}: {cfg.MODEL.META_ARCHITECTURE} answers {', '.join(answered)} alone")
    return cfg


def _configuration(
    config_file: str | None, overrides: Sequence[str], model: str | None, agree: Callable[[PublishedModel], bool]
) -> CfgNode:
    if config_file is not None:
        cfg = load_config(config_file, overrides)
        if use_own_weights(cfg, config_file, overrides):
            tqdm.write(f"{config_file}: the weights are those of this run, {cfg.MODEL.WEIGHTS}")
        return cfg
    if model is not None:
        return config_of(model, overrides, agree)
    weights = DEMO_MODEL / "model_final.pth"
    if not weights.exists():
        raise ValueError(f"no --config-file, and {weights}, which `make demo` trains, is absent")
    return load_config(str(DEMO_MODEL / "config.yaml"), ["MODEL.WEIGHTS", str(weights), *overrides])


def ask(model: PublishedModel) -> bool:
    """Whether the person at the terminal wants the download; without a terminal nobody does."""
    tqdm.write(described(model))
    if not sys.stdin.isatty():
        tqdm.write("Nobody is there to be asked: --yes agrees to the download")
        return False
    try:
        answer = input("Download it? [y/N] ")
    except (EOFError, KeyboardInterrupt):  # Ctrl-D, Ctrl-C
        return False
    return answer.strip().lower() in ("y", "yes")


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
