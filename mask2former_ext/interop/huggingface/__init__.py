"""Models of Hugging Face transformers, read as models of this package.

A folder that `save_pretrained` wrote (config.json, model.safetensors, perhaps preprocessor_config.json) serves as
MODEL.WEIGHTS and as the path of `load_config`. Nothing here needs transformers itself. A further model is a further
module and a line in `CONVERSIONS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mask2former_ext.classes import ClassTable
from mask2former_ext.interop.config_keys import as_tree
from mask2former_ext.interop.huggingface import mask2former, maskformer, oneformer
from mask2former_ext.interop.huggingface.conversion import Conversion
from mask2former_ext.safe_reading.weight_files import read_file, tensors_of

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"  # what `save_pretrained` calls a model's tensors
_CONFIG_FILE = "config.json"
_PREPROCESSOR_FILE = "preprocessor_config.json"

# Their `model_type` -> how it is converted
CONVERSIONS: dict[str, Conversion] = {
    "mask2former": mask2former.CONVERSION,
    "maskformer": maskformer.CONVERSION,
    "oneformer": oneformer.CONVERSION,
}


def is_folder(path: str) -> bool:
    """Whether `path` is a folder of a Hugging Face model, whether or not it can be converted."""
    file = Path(path) / _CONFIG_FILE
    return file.is_file() and "model_type" in _read_json(file)


def architecture_of(path: str) -> str:
    """Our MODEL.META_ARCHITECTURE for the folder. Raises ValueError, naming both, for one that cannot be converted."""
    return _conversion(path).architecture


def _conversion(path: str) -> Conversion:
    kind = _read_json(Path(path) / _CONFIG_FILE).get("model_type")
    if kind not in CONVERSIONS:
        raise ValueError(f"{path}: holds a model of type {kind!r}; {', '.join(CONVERSIONS)} can be converted")
    return CONVERSIONS[kind]


def read_folder(path: str) -> dict[str, Tensor]:
    """All tensors of the folder under this package's names; nothing that a file says is executed.

    They stand in model.safetensors, else in pytorch_model.bin, or in the parts that the index of one of them lists.
    """
    conversion, state = _conversion(path), dict[str, Tensor]()
    for file in _weight_files(Path(path)):
        state.update(tensors_of(read_file(str(file)), str(file)))
    return conversion.state_dict(state)


def _weight_files(folder: Path) -> list[Path]:
    for name in (SAFETENSORS, PICKLE):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            return [folder / part for part in sorted(set(_read_json(index)["weight_map"].values()))]
    raise ValueError(f"{folder}: neither {SAFETENSORS} nor {PICKLE} is beside {_CONFIG_FILE}")


def convert_state_dict(state: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """A model's tensors under our names; names that are not known stay as they are. `model_type`: in `CONVERSIONS`."""
    return CONVERSIONS[model_type].state_dict(state)


def read_config(path: str) -> dict[str, Any]:
    """The folder's configuration as a nested dict of our keys; MODEL.WEIGHTS is the folder.

    The files do not say which classes are things, so panoptic inference is off: MODEL.MASK_CLASSIFIER.PANOPTIC_ON
    switches it on, together with a data set in DATASETS that says it.
    """
    config = _read_json(Path(path) / _CONFIG_FILE)
    conversion = _conversion(path)
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
    except ValueError as error:  # no json, or no text
        raise ValueError(f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds a {type(content).__name__}, not a json object")
    return content
