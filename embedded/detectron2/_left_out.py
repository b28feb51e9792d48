"""What the embedded Detectron2 leaves out: the names exist, using them says how to install the real one.

A name in `left_out.txt` can be imported, subclassed and registered; to construct it, call it or read an attribute of
it is an ImportError with the install line. So is importing any other module of Detectron2 that is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

INSTALL_LINE = (
    "pip install 'setuptools<81' wheel && "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"
)


def _read(table: str) -> dict[str, list[str]]:
    lines = (Path(__file__).parent / table).read_text("utf-8").splitlines()
    rows = (line.split(": ") for line in lines if not line.startswith("#"))
    return {f"detectron2.{module}": names.split() for module, names in rows}


def _homes() -> dict[tuple[str, str], tuple[str, str]]:
    """(module, name) -> (module, name) where it is at home; written as name=home, or as a home of the same name."""
    homes = {}
    for module, entries in _read("homes.txt").items():
        for entry in entries:
            home, _, own_name = entry.rpartition("=")[2].rpartition(".")
            homes[module, entry.partition("=")[0] if "=" in entry else own_name] = home, own_name
    return homes


_NAMES, _HOMES = _read("left_out.txt"), _homes()
_KNOWN = {*_NAMES, *(module for module, _ in _HOMES)}
META_ARCHITECTURES = _NAMES["detectron2.modeling.meta_arch"]


def left_out_message(name: str) -> str:
    return f"{name} is not part of the embedded Detectron2. Install the real one in its place: {INSTALL_LINE}"


class _LeftOutType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise ImportError(left_out_message(f"{cls.left_out_name}.{name}"))


class _LeftOut(metaclass=_LeftOutType):
    left_out_name = ""

    def __new__(cls, *_args: object, **_kwargs: object) -> _LeftOut:
        raise ImportError(left_out_message(cls.left_out_name))


@cache
def stand_in(name: str, module: str) -> type:
    return _LeftOutType(name, (_LeftOut,), {"left_out_name": f"{module}.{name}", "__module__": module})


def home_of(name: str) -> str | None:
    """The full name of a left-out thing that registries know by `name`."""
    return next((f"{module}.{name}" for module, names in _NAMES.items() if name in names), None)


class _Loader(SourceFileLoader):
    """Gives a module the stand-ins of the table as its `__getattr__`; one without a file has nothing else."""

    def exec_module(self, module: ModuleType) -> None:
        def find(name: str) -> Any:
            if (module.__name__, name) in _HOMES:
                home, own_name = _HOMES[module.__name__, name]
                return getattr(import_module(home), own_name)
            if name not in _NAMES.get(module.__name__, ()):
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return stand_in(name, module.__name__)

        module.__getattr__ = find  # type: ignore[method-assign]
        if self.path:
            super().exec_module(module)


class LeftOutModules(MetaPathFinder):
    """First on sys.meta_path: gives `detectron2.*` modules their stand-ins; of an absent one, the install line."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, *_target: object) -> ModuleSpec | None:
        if not fullname.startswith("detectron2."):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None and fullname not in _KNOWN:
            raise ModuleNotFoundError(left_out_message(fullname))  # with a name, `from x import fullname` hides it
        if spec is None:
            return ModuleSpec(fullname, _Loader(fullname, ""), is_package=True)
        if fullname in _KNOWN and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec
