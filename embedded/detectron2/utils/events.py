"""Metrics of a run: a storage that training code fills, and writers that carry it to terminal, json, TensorBoard."""

from __future__ import annotations

import datetime
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from fvcore.common.history_buffer import HistoryBuffer

_CURRENT_STORAGE_STACK: list[EventStorage] = []


def get_event_storage() -> EventStorage:
    """The storage of the innermost `with EventStorage()`."""
    assert _CURRENT_STORAGE_STACK, "get_event_storage() works only inside `with EventStorage(...)`"
    return _CURRENT_STORAGE_STACK[-1]


class EventStorage:
    """Scalars with their history, and images that wait for a writer, each with its iteration."""

    def __init__(self, start_iter: int = 0) -> None:
        self._iter = start_iter
        self._prefix = ""
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothed: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict[str, Any]] = []  # none is put here, but writers of public projects look

    def __enter__(self) -> EventStorage:
        _CURRENT_STORAGE_STACK.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        left = _CURRENT_STORAGE_STACK.pop()
        assert left is self, "event storages must be left in the reverse order of entering"

    @property
    def iter(self) -> int:
        """Current iteration, from 0; during the first step it is `start_iter`."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    def step(self) -> None:
        """Count one iteration. Call it after the writers."""
        self._iter += 1

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Names put inside get `name/` in front."""
        outer, self._prefix = self._prefix, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._prefix = outer

    def put_scalar(self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None) -> None:
        """Record a number. `smoothing_hint`: noisy, so that writers show the median of a window. One hint per name."""
        name = self._prefix + name
        known_hint = self._smoothed.setdefault(name, smoothing_hint)
        assert known_hint == smoothing_hint, f"scalar {name!r} was put with smoothing_hint={known_hint} before"
        value = float(value)
        iteration = self._iter if cur_iter is None else cur_iter
        self._history[name].update(value, iteration)  # before _latest: a name found there has a history
        self._latest[name] = (value, iteration)

    def put_scalars(self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any) -> None:
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def put_image(self, img_name: str, img_tensor: torch.Tensor | np.ndarray) -> None:
        """Keep an image (3, H, W), uint8 or float in [0, 1], until a writer takes it."""
        self._vis_data.append((img_name, img_tensor, self._iter))

    def clear_images(self) -> None:
        self._vis_data = []

    def clear_histograms(self) -> None:
        self._histograms = []

    def history(self, name: str) -> HistoryBuffer:
        if name not in self._history:
            raise KeyError(f"no scalar was put under the name {name!r}")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Name -> (last value, its iteration), as of now: another thread may be putting scalars."""
        return dict(self._latest)

    def smoothing_hints(self) -> dict[str, bool]:
        return self._smoothed

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values of `name` were put within the last `window_size` iterations up to its last one."""
        last = self._latest[name][1]
        return sum(last - window_size < iteration <= last for _, iteration in self._history[name].values())

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Like `latest`, but the median of the window for the scalars that are marked as noisy."""
        return {
            name: (self._history[name].median(self.count_samples(name, window_size)), at)
            if self._smoothed[name]
            else (value, at)
            for name, (value, at) in self.latest().items()
        }


class EventWriter:
    """Base of the writers: `write` carries what is new in the current storage, `close` ends."""

    def write(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to release unless a writer says so."""


def _new_scalars(storage: EventStorage, window_size: int, after: int) -> list[tuple[int, str, float]]:
    """(iteration, name, value) of scalars newer than iteration `after`, by iteration."""
    smoothed = storage.latest_with_smoothing_hint(window_size)
    return sorted((at, name, value) for name, (value, at) in smoothed.items() if at > after)


class JSONWriter(EventWriter):
    """Appends one json object per line and iteration: the scalars and `iteration`."""

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._file = PathManager.open(json_file, "a")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        rows: dict[int, dict[str, float]] = {}
        for at, name, value in _new_scalars(get_event_storage(), self._window_size, self._last_write):
            rows.setdefault(at, {"iteration": at})[name] = value
        for at, row in rows.items():
            self._file.write(json.dumps(row, sort_keys=True) + "\n")
            self._last_write = at
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars and images for TensorBoard; the file is created with the first write."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        self._window_size = window_size
        self._arguments = {"log_dir": log_dir, **kwargs}
        self._last_write = -1

    @cached_property
    def _writer(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._arguments)

    def write(self) -> None:
        storage = get_event_storage()
        for at, name, value in _new_scalars(storage, self._window_size, self._last_write):
            self._writer.add_scalar(name, value, at)
            self._last_write = at
        for name, image, at in storage._vis_data:
            self._writer.add_image(name, image, at)
        storage.clear_images()

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs one line: ETA (if `max_iter` is given), losses, metrics, times in seconds, learning rate, GPU memory."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None

    def _eta(self, storage: EventStorage) -> str:
        if self._max_iter is None:
            return ""
        if "time" in storage.latest():
            seconds = storage.history("time").median(1000)
        else:
            now = time.perf_counter()
            (last, then), self._last_write = self._last_write or (storage.iter, now), (storage.iter, now)
            if storage.iter <= last:
                return ""
            seconds = (now - then) / (storage.iter - last)
        left = seconds * (self._max_iter - storage.iter - 1)
        storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        return f"eta: {datetime.timedelta(seconds=int(left))}"

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:  # training is over: what comes now is evaluation, not progress
            return
        fields = [self._eta(storage), f"iter: {storage.iter}"]
        medians = storage.latest_with_smoothing_hint(self._window_size)
        names = [name for part_of_name in ("loss", "[metric]") for name in medians if part_of_name in name]
        names += [name for name in ("time", "data_time", "lr") if name in medians]
        fields += [f"{name}: {medians[name][0]:.5g}" for name in names]
        if torch.cuda.is_available():
            fields.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        self.logger.info(" " + "  ".join(field for field in fields if field))


def has_event_storage() -> bool:
    return bool(_CURRENT_STORAGE_STACK)
