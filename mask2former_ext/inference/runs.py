"""What a training leaves in its folder (OUTPUT_DIR), as far as a model is made of it again: config.yaml and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from mask2former_ext.config import load_config
from mask2former_ext.config.shipped import shipped_config
from mask2former_ext.safe_reading.yaml_files import read_yaml

CONFIG_NAME, LAST_CHECKPOINT, FINAL_WEIGHTS = "config.yaml", "last_checkpoint", "model_final.pth"


def run_weights(folder: str | Path) -> Path | None:
    """The file that `last_checkpoint` names, else model_final.pth; None where the folder has neither."""
    last = Path(folder) / LAST_CHECKPOINT
    names = [Path(last.read_text(encoding="utf-8", errors="replace").strip()).name] if last.is_file() else []
    files = [Path(folder) / name for name in [*names, FINAL_WEIGHTS] if name]
    return next((file for file in files if file.is_file()), None)


def use_own_weights(cfg: CfgNode, config_file: str | Path, overrides: Sequence[Any] = ()) -> bool:
    """Where `cfg` was read from the config.yaml of a run, set MODEL.WEIGHTS, in place, to what that run has learned.

    The file itself names what the run began with, if anything. Weights that `overrides` name, or that lie in the run's
    folder as the file names them, stay. Returns whether it was set.
    """
    file = Path(config_file)
    if file.name != CONFIG_NAME or not file.is_file() or "MODEL.WEIGHTS" in overrides[::2]:
        return False
    own, named = run_weights(file.parent), cfg.MODEL.WEIGHTS
    if own is None or (named and Path(named).resolve().parent == file.resolve().parent):
        return False
    cfg.MODEL.WEIGHTS = str(own)
    return True


def run_config(folder: str | Path, overrides: Sequence[Any] = ()) -> CfgNode:
    """The configuration of a run with the weights that it has learned.

    Raises FileNotFoundError if the folder has no config.yaml, ValueError if that file is cut off, or neither the
    folder nor `overrides` has weights.
    """
    file = Path(folder) / CONFIG_NAME
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: no {CONFIG_NAME} there, so this is not the folder of a run")
    cfg = load_config(str(file), overrides)
    if "META_ARCHITECTURE" not in read_yaml(str(file), shipped_config).get("MODEL", {}):
        raise ValueError(f"{file}: names no MODEL.META_ARCHITECTURE, so it was not written to its end")
    use_own_weights(cfg, file, overrides)
    if run_weights(folder) is None and "MODEL.WEIGHTS" not in overrides[::2]:
        raise ValueError(f"{folder}: the run saved no weights: no {FINAL_WEIGHTS}, no file of {LAST_CHECKPOINT}")
    return cfg
