"""Match the names of a checkpoint to those of a model that holds the same network somewhere inside."""

from __future__ import annotations

import json
import logging
import os.path
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

# Caffe2's names of ResNet and FPN parameters -> Detectron2's. In this order, on names with dots for underscores.
_CAFFE2_RULES = json.loads((Path(__file__).parent / "caffe2_names.json").read_text("utf-8"))


def _from_caffe2(name: str) -> str:
    name = name.replace("_", ".")
    for pattern, replacement in _CAFFE2_RULES:
        name = re.sub(pattern, replacement, name)
    return name


def convert_c2_detectron_names(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights of Caffe2's ResNets and FPN under Detectron2's names, and for each new name the old one.

    Names of its detection heads are only spelled with dots.
    """
    new_names = {name: _from_caffe2(name) for name in weights}
    assert len(set(new_names.values())) == len(new_names), "two Caffe2 names became one"
    return {new_names[name]: value for name, value in weights.items()}, {new: old for old, new in new_names.items()}


def _longest_common_prefix_str(names: list[str]) -> str:
    return os.path.commonprefix(names)


def _best_suffix(name: str, candidates: Mapping[str, Tensor]) -> str | None:
    """The longest candidate that is `name`, or the end of it after a dot."""
    parts = name.split(".")
    suffixes = (".".join(parts[start:]) for start in range(len(parts)))
    return next((suffix for suffix in suffixes if suffix in candidates), None)


def align_and_update_state_dicts(
    model_state_dict: Mapping[str, Tensor], ckpt_state_dict: Mapping[str, Tensor], c2_conversion: bool = True
) -> dict[str, Tensor]:
    """The checkpoint's tensors under the model's names.

    A model name takes the checkpoint name that is its longest suffix of whole parts: backbone.res2.0.conv1.weight takes
    res2.0.conv1.weight. Matches of different shape are left out, unmatched tensors keep their own names.
    Raises ValueError if a checkpoint name would serve two model names.
    """
    logger = logging.getLogger(__name__)
    if c2_conversion:
        ckpt_state_dict, _ = convert_c2_detectron_names(ckpt_state_dict)

    taken_by: dict[str, str] = {}
    for model_name in sorted(model_state_dict):
        name = _best_suffix(model_name, ckpt_state_dict)
        if name is None:
            continue
        model_shape, shape = tuple(model_state_dict[model_name].shape), tuple(ckpt_state_dict[name].shape)
        if model_shape != shape:
            logger.warning("%s is %s in the checkpoint, not loaded: %s is %s", name, shape, model_name, model_shape)
            continue
        if name in taken_by:
            raise ValueError(f"checkpoint name {name!r} fits two of the model: {taken_by[name]!r} and {model_name!r}")
        taken_by[name] = model_name
    if not taken_by:
        logger.warning("no name of the checkpoint fits the model")
        return dict(ckpt_state_dict)
    logger.info("%d of %d names of the checkpoint fit the model", len(taken_by), len(ckpt_state_dict))
    return {taken_by.get(name, name): value for name, value in ckpt_state_dict.items()}
