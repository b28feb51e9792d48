"""Work that overlaps: a thread that runs ahead of the caller and one that runs behind it, each by a bounded number."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_END: Any = object()
_PATIENCE = 0.1  # seconds between two looks at whether the other side is still there


def ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The items, made in a thread at most `depth` ahead. An error of theirs is raised after the last good one."""
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
