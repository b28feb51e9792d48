"""Logging: one file per process, colors on the terminal of rank 0, and messages that do not repeat themselves."""

from __future__ import annotations

import atexit
import functools
import logging
import sys
import time
from collections import Counter
from collections.abc import Hashable
from types import FrameType
from typing import IO

import torch
from detectron2.utils.file_io import PathManager
from tabulate import tabulate
from termcolor import colored

_TIME_FORMAT = "%m/%d %H:%M:%S"
_call_counts: Counter = Counter()
_last_call_times: dict[Hashable, float] = {}


class _Abbreviated(logging.Formatter):
    """Shows the logger's root name by a short one; with `color`, warnings and errors stand out."""

    def __init__(self, pattern: str, root_name: str, abbrev_name: str, color: bool = False) -> None:
        super().__init__(pattern, datefmt=_TIME_FORMAT)
        self.root_name, self.abbrev_name, self.color = root_name, abbrev_name, color

    def format(self, record: logging.LogRecord) -> str:
        shown = logging.makeLogRecord(record.__dict__)
        if shown.name == self.root_name or shown.name.startswith(self.root_name + "."):
            shown.name = (self.abbrev_name + shown.name[len(self.root_name) :]).lstrip(".")
        text = super().format(shown)
        if self.color and record.levelno >= logging.WARNING:
            return f"{colored(record.levelname, 'red', attrs=['blink'])} {text}"
        return text


@functools.cache
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Give logger `name` a terminal handler (rank 0) and, if `output` is set, a file handler, at level DEBUG.

    `output` is a file (.txt or .log) or a folder, which gets log.txt. Processes of rank r > 0 append `.rank<r>`.
    `abbrev_name` replaces `name` in the lines ("d2" for detectron2). Same arguments again: nothing is added.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    abbrev_name = abbrev_name or ("d2" if name == "detectron2" else name)
    if configure_stdout and distributed_rank == 0:
        head = "[%(asctime)s %(name)s]: "
        pattern = colored(head, "green") + "%(message)s" if color else head + "%(levelname)s %(message)s"
        terminal = logging.StreamHandler(stream=sys.stdout)
        terminal.setLevel(logging.DEBUG)
        terminal.setFormatter(_Abbreviated(pattern, name, abbrev_name, color))
        logger.addHandler(terminal)

    if output is not None:
        path = output if output.endswith((".txt", ".log")) else f"{output.rstrip('/')}/log.txt"
        if distributed_rank > 0:
            path += f".rank{distributed_rank}"
        PathManager.mkdirs(path.rpartition("/")[0] or ".")
        file_handler = logging.StreamHandler(_open_log(path))
        file_handler.setLevel(logging.DEBUG)
        file_handler.setFormatter(_Abbreviated("[%(asctime)s] %(name)s %(levelname)s: %(message)s", name, abbrev_name))
        logger.addHandler(file_handler)
    return logger


@functools.cache
def _open_log(path: str) -> IO:
    """One stream per file, line-buffered locally, shared by all loggers that write to it."""
    stream = PathManager.open(path, "a", buffering=1 if "://" not in path else -1)
    atexit.register(stream.close)
    return stream


def _caller() -> tuple[str, tuple[str, int, str]]:
    """(module name, (file, line, function)) of the first frame outside this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    assert frame is not None, "called from outside Python code"
    module = frame.f_globals["__name__"]
    place = (frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
    return ("detectron2" if module == "__main__" else module), place


def log_first_n(
    lvl: int, msg: str, n: int = 1, *, name: str | None = None, key: str | tuple[str, ...] = "caller"
) -> None:
    """Log only the first `n` times, counted per `key`: "caller" (the calling line), "message", or both."""
    module, place = _caller()
    parts: dict[str, Hashable] = {"caller": place, "message": msg}
    identity = tuple(parts[kind] for kind in ((key,) if isinstance(key, str) else key))
    _call_counts[identity] += 1
    if _call_counts[identity] <= n:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log the first of every `n` calls from the same line."""
    module, place = _caller()
    _call_counts["every", place] += 1
    if n == 1 or _call_counts["every", place] % n == 1:
        logging.getLogger(name or module).log(lvl, msg)


def log_every_n_seconds(lvl: int, msg: str, n: int = 1, *, name: str | None = None) -> None:
    """Log at most once in `n` seconds from the same line."""
    module, place = _caller()
    now = time.monotonic()
    if place not in _last_call_times or now - _last_call_times[place] >= n:
        logging.getLogger(name or module).log(lvl, msg)
        _last_call_times[place] = now


def _log_api_usage(identifier: str) -> None:
    """Tell PyTorch's own usage hook, which does nothing unless its host has set one."""
    torch._C._log_api_usage_once(f"detectron2.{identifier}")


def create_small_table(small_dict: dict[str, float]) -> str:
    """A two-line text table: the keys, and below them the values with three decimals."""
    style = {"tablefmt": "pipe", "floatfmt": ".3f", "stralign": "center", "numalign": "center"}
    return tabulate([list(small_dict.values())], headers=list(small_dict), **style)
