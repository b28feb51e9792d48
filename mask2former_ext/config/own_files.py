"""`--import my_model.py`: a user's own Python file, which runs before a configuration is read.

What it registers (models, backbones, target kinds, data sets) is then known by its name, and if it defines
`add_config(cfg)`, `load_config` calls it after our own keys are added. Only a command line names such a file: a yaml
file never executes anything.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from detectron2.config import CfgNode

_own_files: dict[Path, ModuleType] = {}  # those of this process, in the order of their import


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Add `--import FILE.py`, repeatable; the files are `args.imports`, for `import_own_files`."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE.py",
        help="your own file, which registers models, target kinds or data sets and may define add_config(cfg); it runs "
        "before the configuration is read; may be given again",
    )


def import_own_files(paths: Sequence[str]) -> None:
    """Run each file once in this process, as a module named as the file is, with its folder on sys.path.

    Raises FileNotFoundError if there is none; ValueError if it is no .py file, has the name of another module that is
    imported already, or raises an error: that one is the cause, and the message names its file and line.
    """
    for path in paths:
        file = Path(path).resolve()
        if file in _own_files:
            continue
        if not file.is_file():
            raise FileNotFoundError(f"--import {path}: no such file")
        if file.suffix != ".py":
            raise ValueError(f"--import {path}: the name of a Python file must end in .py")
        _own_files[file] = _run(path, file)


def add_own_keys(cfg: CfgNode) -> None:
    """Call `add_config(cfg)` of each imported file that defines one, in the order of their import."""
    from mask2former_ext.config.keys import add_config as ours

    for module in _own_files.values():
        own = vars(module).get("add_config")
        if own is not None and own is not ours:
            own(cfg)


def _run(path: str, file: Path) -> ModuleType:
    name = file.stem
    if name in sys.modules:
        other = getattr(sys.modules[name], "__file__", None) or "a module without a file"
        raise ValueError(f"--import {path}: a module named {name!r} is imported already ({other}); rename the file")
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))  # as Python does for a script: its neighbors can be imported
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickles of its classes are looked up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"--import {path}: {_place(error, file)}: {type(error).__name__}: {error}") from error
    return module


def _place(error: Exception, file: Path) -> str:
    """File and line of the error; of one raised elsewhere the last line of the user's file on the way there."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f"{file}, line {frames[-1].lineno}" if frames else str(file)
