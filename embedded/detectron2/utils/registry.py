"""Names to objects: fvcore's Registry, where Detectron2's own objects make room for a project's."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from detectron2._left_out import home_of, left_out_message
from fvcore.common.registry import Registry as _Registry


class Registry(_Registry):
    """A name that Detectron2 has registered can be registered again by a project, whose object then counts."""

    def _do_register(self, name: str, obj: Any) -> None:
        own = self._obj_map.get(name)
        if own is not None and own.__module__.startswith("detectron2."):
            logging.getLogger(__name__).info("%s: %s replaces Detectron2's own", name, obj.__module__)
            del self._obj_map[name]
        super()._do_register(name, obj)

    def get(self, name: str) -> Any:
        """The object of that name. ImportError with the install line for one that is left out, KeyError for others."""
        home = home_of(name)
        if name not in self and home is not None:
            raise ImportError(left_out_message(home))
        return super().get(name)


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
