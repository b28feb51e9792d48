"""Models of Hugging Face transformers, read as models of this package.

A folder that `save_pretrained` wrote (config.json, *.safetensors, perhaps preprocessor_config.json) serves as
MODEL.WEIGHTS and as the path of `load_config`. Nothing here needs transformers itself. A further model is a further
module and a line in `CONVERSIONS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from mask2former_ext.classes import ClassTable
from mask2former_ext.interop.config_keys import as_tree
from mask2former_ext.interop.huggingface import mask2former, maskformer, oneformer
from mask2former_ext.interop.huggingface.conversion import Conversion

_CONFIG_FILE = "config.json"
_PREPROCESSOR_FILE = "preprocessor_config.json"

# Their `model_type` -> how it is converted
CONVERSIONS: dict[str, Conversion] = {
    "mask2former": mask2former.CONVERSION,
    "maskformer": maskformer.CONVERSION,
    "oneformer": oneformer.CONVERSION,
}


def is_folder(path: str) -> bool:
    """Whether `path` is a folder that holds a Hugging Face model that can be converted."""
    file = Path(path) / _CONFIG_FILE
    return file.is_file() and _read_json(file).get("model_type") in CONVERSIONS


def read_folder(path: str) -> dict[str, Tensor]:
    """All tensors of the folder's safetensors files, under this package's names."""
    files = sorted(Path(path).glob("*.safetensors"))
    if not files:
        raise ValueError(f"{path}: no *.safetensors file beside {_CONFIG_FILE}")
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(load_file(file))
    return convert_state_dict(state, _read_json(Path(path) / _CONFIG_FILE)["model_type"])


def convert_state_dict(state: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """A model's tensors under our names; names that are not known stay as they are. `model_type`: in `CONVERSIONS`."""
    return CONVERSIONS[model_type].state_dict(state)


def read_config(path: str) -> dict[str, Any]:
    """The folder's configuration as a nested dict of our keys; MODEL.WEIGHTS is the folder.

    The files do not say which classes are things, so panoptic inference is off: MODEL.MASK_CLASSIFIER.PANOPTIC_ON
    switches it on, together with a data set in DATASETS that says it.
    """
    config = _read_json(Path(path) / _CONFIG_FILE)
    conversion = CONVERSIONS[config["model_type"]]
    preprocessor = Path(path) / _PREPROCESSOR_FILE
    names = _class_names(config)
    pairs = {
        "MODEL.META_ARCHITECTURE": conversion.architecture,
        "MODEL.WEIGHTS": os.fspath(path),
        **({"MODEL.CLASSES": ClassTable(names).to_dict()} if names else {}),
        **conversion.keys(config, path),
        **_input_keys(_read_json(preprocessor) if preprocessor.is_file() else {}),
    }
    return as_tree(list(pairs.items()))


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in `id2label`, by number; () where they are transformers' own stand-ins or do not name every number."""
    labels = {int(number): name for number, name in config.get("id2label", {}).items()}
    names = tuple(labels.get(k) or "" for k in range(len(labels)))
    return () if "" in names or names == tuple(f"LABEL_{k}" for k in range(len(names))) else names


def _input_keys(preprocessor: Mapping[str, Any]) -> dict[str, Any]:
    mean = preprocessor.get("image_mean", [0.485, 0.456, 0.406])
    std = preprocessor.get("image_std", [0.229, 0.224, 0.225])
    size = preprocessor.get("size", {})
    keys = {
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [255 * value for value in mean],
        "MODEL.PIXEL_STD": [255 * value for value in std],
    }
    if isinstance(size, dict) and "shortest_edge" in size:
        keys["INPUT.MIN_SIZE_TEST"] = size["shortest_edge"]
        keys["INPUT.MAX_SIZE_TEST"] = size.get("longest_edge", 1333)
    return keys


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds a {type(content).__name__}, not a json object")
    return content
