"""Checkpoint files as plain data: nothing that a file says is executed."""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from typing import IO, Any

import numpy as np
import torch

_DTYPES = [type(np.dtype(kind)) for kind in ("bool", "uint8", "int32", "int64", "float16", "float32", "float64")]
# How numpy rebuilds an array and a scalar; the module was renamed with NumPy 2, files carry either name.
_REBUILD = {"_reconstruct": np.zeros(1).__reduce__()[0], "scalar": np.float64().__reduce__()[0]}


class _ArrayUnpickler(pickle.Unpickler):
    """Builds containers, numbers, strings and numpy arrays; every other name is refused without importing it."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "numpy", "ndarray" | "dtype":
                return getattr(np, name)
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct" | "scalar":
                return _REBUILD[name]
            case "_codecs", "encode":
                return _latin1
        raise pickle.UnpicklingError(f"it names {module}.{name}; only numpy arrays and plain containers are read")


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as pickle protocol 2 writes them; other codecs may do more than spell bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}; only latin1 is read")
    return text.encode(encoding)


def load_pickle(file: IO[bytes]) -> Any:
    """A pickle of numpy arrays in containers, also of Python 2. Raises UnpicklingError for anything else."""
    return _ArrayUnpickler(file, encoding="latin1").load()


def load_torch(path: str) -> Any:
    """A file of torch.save, on the CPU: tensors, containers and plain or numpy numbers."""
    numpy_numbers = [np.dtype, np.ndarray, codecs.encode, *_DTYPES]
    numpy_numbers += [
        (function, f"numpy.{package}.multiarray.{name}")
        for name, function in _REBUILD.items()
        for package in ("core", "_core")
    ]
    with torch.serialization.safe_globals(numpy_numbers):
        return torch.load(path, map_location="cpu", weights_only=True)
