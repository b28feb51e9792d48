"""Which model is meant: the path of a yaml, a run's or a Hugging Face folder, or the name of a published model."""

from __future__ import annotations

import logging
import os
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from mask2former_ext.config import load_config
from mask2former_ext.inference.runs import CONFIG_NAME, run_config
from mask2former_ext.interop.hub import fetch
from mask2former_ext.interop.published import PublishedModel, find_published

logger = logging.getLogger(__name__)


def described(model: PublishedModel) -> str:
    """What one wants to know before a download: where from, how large, under which license."""
    return f"{model.name}: {model.megabytes} MB from {model.address}, license {model.license} ({model.source})"


def _say(model: PublishedModel) -> bool:
    logger.info("downloading %s", described(model))
    return True


def config_of(
    model: str | Path, overrides: Sequence[Any] = (), agree: Callable[[PublishedModel], bool] = _say
) -> CfgNode:
    """The configuration, with its weights, of what `model` names: a yaml, the folder of a run or of a Hugging Face
    model, or a published model.

    A published model that is not on this machine is downloaded, unless `overrides` (KEY, VALUE, ...) name a copy as
    MODEL.WEIGHTS. agree: asked before a download; left out, a download is only logged.
    Raises ValueError for what is no name, and for an unknown one, with the nearest; else see `load_config` and
    `hub.fetch`.
    """
    if not isinstance(model, str | os.PathLike):
        raise ValueError(f"a model is a configuration, a path or a published name, got {reprlib.repr(model)}")
    name = os.fspath(model)
    if (Path(name) / CONFIG_NAME).is_file():
        return run_config(name, overrides)
    if Path(name).exists():
        return load_config(name, overrides)
    published = find_published(name)
    has_weights = "MODEL.WEIGHTS" in overrides[0::2]
    weights = [] if has_weights else ["MODEL.WEIGHTS", fetch(published, agree)]
    return load_config(published.config, [*published.changes, *weights, *overrides])
