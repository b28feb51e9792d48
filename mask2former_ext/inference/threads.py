"""Work that overlaps: a thread that runs ahead of the caller and one that runs behind it, each by a bounded number."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_END: Any = object()
_PATIENCE = 0.1  # seconds between two looks at whether the other side is still there
_DEPTH = 4  # batches that wait to be predicted, and items that wait to be consumed


def read_predict_consume(
    items: Iterable[T], predict: Callable[[list[T]], Sequence[R]], consume: Callable[[T, R], None], *, batch: int = 1
) -> tuple[int, float]:
    """Read the items, predict and consume at once, each in a thread of its own, in the order of the items.

    predict: up to `batch` items -> a result for each; runs in the caller's thread. consume: gets each item with its
    result. Returns the number of items and the seconds that `predict` took.
    """
    count, seconds = 0, 0.0
    reading = ahead(items, _DEPTH * batch)
    with Behind[tuple[T, R]](lambda pair: consume(*pair), _DEPTH) as behind:
        try:
            while group := list(itertools.islice(reading, batch)):
                start = time.perf_counter()
                results = predict(group)
                seconds += time.perf_counter() - start
                count += len(group)
                for pair in zip(group, results, strict=True):
                    behind.put(pair)
        finally:
            reading.close()
    return count, seconds


def ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The items, taken in a thread at most `depth` ahead. An error there is raised after the last good item."""
    waiting: queue.Queue[T] = queue.Queue(depth)
    left = threading.Event()

    def offer(item: T) -> bool:
        while not left.is_set():
            try:
                waiting.put(item, timeout=_PATIENCE)
                return True
            except queue.Full:
                continue
        return False

    def fill() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
        finally:
            offer(_END)

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        filling = pool.submit(fill)
        try:
            while (item := waiting.get()) is not _END:
                yield item
        finally:
            left.set()
        filling.result()


class Behind(Generic[T]):
    """Calls `consume` with each item, in order, in a thread that is at most `depth` behind. For a `with` block.

    The block ends when the last item is consumed, or at once if it raises. What `consume` raises comes out of the next
    `put`, or of the block.
    """

    def __init__(self, consume: Callable[[T], None], depth: int):
        self.consume = consume
        self._waiting: queue.Queue[T] = queue.Queue(depth)
        self._left = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")

    def put(self, item: T) -> None:
        """Wait until there is room."""
        while not self._working.done():
            try:
                self._waiting.put(item, timeout=_PATIENCE)
                return
            except queue.Full:
                continue
        self._working.result()

    def __enter__(self) -> Behind[T]:
        self._working = self._pool.submit(self._work)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.put(_END)
        self._left.set()
        self._pool.shutdown()
        if kind is None:
            self._working.result()

    def _work(self) -> None:
        while True:
            try:
                item = self._waiting.get(timeout=_PATIENCE)
            except queue.Empty:
                if self._left.is_set():
                    return
                continue
            if item is _END:
                return
            self.consume(item)
