"""Names to objects: fvcore's Registry, and dotted paths to the objects that they name."""
from __future__ import annotations

import importlib
from typing import Any

from fvcore.common.registry import Registry

__all__ = ["Registry", "locate"]


def locate(name: str) -> Any:
    """Object named by a dotted path such as `package.module.Class.attribute`, or a builtin; ImportError if none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module_name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and not module_name.startswith(error.name):
                raise
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                break
            found = getattr(found, attribute)
        else:
            return found
    builtin = getattr(importlib.import_module("builtins"), name, None)
    if builtin is None:
        raise ImportError(f"cannot locate {name!r}: no such module, attribute or builtin")
    return builtin


def _convert_target_to_string(target: Any) -> str:
    """Shortest dotted path from which `locate` finds `target` again."""
    packages = target.__module__.split(".")
    for length in range(1, len(packages)):
        candidate = ".".join([*packages[:length], target.__qualname__])
        try:
            if locate(candidate) is target:
                return candidate
        except ImportError:
            continue
    return f"{target.__module__}.{target.__qualname__}"
