"""What the embedded Detectron2 leaves out: the names exist, using them says how to install the real one."""
from __future__ import annotations

import importlib.abc

INSTALL_LINE = (
    "pip install 'setuptools<81' wheel && "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"
)


def left_out_message(name: str) -> str:
    return f"{name} is not part of the embedded Detectron2. Install the real one in its place: {INSTALL_LINE}"


class _LeftOut:
    """Base of the stand-ins: can be imported and subclassed; constructing or calling one raises ImportError."""

    left_out_name = ""

    def __new__(cls, *_args: object, **_kwargs: object) -> _LeftOut:
        raise ImportError(left_out_message(cls.left_out_name))


def left_out(module: str, *names: str) -> tuple[type, ...]:
    """Stand-ins, in the order of `names`, for public names of `module`."""
    return tuple(
        type(name, (_LeftOut,), {"left_out_name": f"{module}.{name}", "__module__": module}) for name in names
    )


class LeftOutModules(importlib.abc.MetaPathFinder):
    """Last finder on sys.meta_path: any `detectron2.*` module that nobody else found gets the install hint."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname.startswith("detectron2."):
            raise ModuleNotFoundError(left_out_message(fullname))
