"""Tensors from safetensors, PyTorch checkpoints and numpy pickles, without executing anything that a file says."""

from __future__ import annotations

import codecs
import collections
import hashlib
import io
import logging
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# Where a checkpoint keeps its tensors, if not at the top.
_CONTAINERS = ("model", "state_dict", "blobs")

# What the readers of pickles, PyTorch files and safetensors raise for bytes that are no such file or a damaged one.
_READ_ERRORS = (
    pickle.UnpicklingError,
    SafetensorError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def read_file(path: str) -> Any:
    """All that a local file holds. Raises ValueError for all but tensors and plain data."""
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        if path.endswith((".pkl", ".pickle")) and not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                return load_pickle(file)
        return load_torch(path)
    except (*_READ_ERRORS, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the file itself, not of what it holds
        # PyTorch's own message advises at length to turn safety off. One line of it names what the file holds.
        lines = str(error).splitlines() or [""]
        cause = next((line for line in lines if "GLOBAL" in line), lines[0])
        reason = f"{type(error).__name__} {cause.strip()}".strip()
        raise ValueError(f"{path}: not a weight file that can be read safely: {reason}") from error


def sha256_of(path: str | Path) -> str:
    """The checksum of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def load_pickle(file: IO[bytes]) -> Any:
    """A pickle of arrays and tensors in containers, also of Python 2. UnpicklingError where it names anything else."""
    return _ArrayUnpickler(file).load()


def load_torch(path: str) -> Any:
    """A file of torch.save, on the CPU. UnpicklingError where it names anything but tensors, arrays and numbers."""
    with torch.serialization.safe_globals(_numpy_globals()):
        return torch.load(path, map_location="cpu", weights_only=True)


def tensors_of(content: Any, path: str) -> dict[str, Tensor]:
    """The tensors in what `read_file` gave, by name; those of "model", "state_dict" or "blobs" where it has one."""
    while isinstance(content, dict) and any(isinstance(content.get(key), dict) for key in _CONTAINERS):
        content = next(content[key] for key in _CONTAINERS if isinstance(content.get(key), dict))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not tensors by name")
    tensors = {str(name): _tensor(value) for name, value in content.items() if _is_numeric(value)}
    if not tensors:
        raise ValueError(f"{path}: holds no tensors; its entries are {sorted(map(str, content))[:10]}")
    rest = sorted(str(name) for name in content if str(name) not in tensors)
    logging.getLogger(__name__).debug("%s: entries that are no tensors: %s", path, rest)
    return tensors


def _is_numeric(value: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biuf"
    return isinstance(value, Tensor)


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def _numpy_globals() -> list[Any]:
    """The parts of pickled numpy numbers; checkpoints of trainers keep a few beside their tensors."""
    dtypes = [type(np.dtype(kind)) for kind in ("bool", "uint8", "int32", "int64", "float16", "float32", "float64")]
    names = [(_RECONSTRUCT, f"{module}._reconstruct") for module in _MULTIARRAY]
    names += [(_SCALAR, f"{module}.scalar") for module in _MULTIARRAY]
    return [*names, (codecs.encode, "_codecs.encode"), np.ndarray, np.dtype, *dtypes]


# ------------------------------------------------------------------------------------------------ restricted unpickler

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2
_RECONSTRUCT: Callable[..., Any] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]
_SCALAR: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]


def _encode_latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 spells bytes. Other codecs (some decompress) have no place in a weight file."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


def _load_storage(data: bytes) -> Any:
    """The storage of a tensor that was pickled by `pickle` itself, not by torch.save."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode_latin1,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    **{(module, "_reconstruct"): _RECONSTRUCT for module in _MULTIARRAY},
    **{(module, "scalar"): _SCALAR for module in _MULTIARRAY},
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows numpy arrays, tensors and the builtin containers; any other name in a file is refused, not imported."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="latin1")  # files written by Python 2, too

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is neither array nor tensor")
        return _ALLOWED[module_name, global_name]
