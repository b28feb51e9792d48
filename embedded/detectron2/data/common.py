"""Data sets made of other data sets: from a list, mapped by a function, iterated by a sampler, grouped by shape."""

from __future__ import annotations

import copy as copy_module
import logging
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.utils.logger import log_first_n
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

logger = logging.getLogger(__name__)


class _TorchSerializedList:
    """A read-only list whose items lie pickled, end to end, in one byte tensor.

    Reading a Python object writes its reference count, so that forked workers soon hold a copy each of a plain list.
    A tensor's bytes stay shared after a fork, and PyTorch moves them to shared memory when it sends them to a spawned
    worker: either way, one copy serves all workers.
    """

    def __init__(self, lst: list) -> None:
        pickles = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in lst]
        self._ends = torch.from_numpy(np.cumsum([len(p) for p in pickles], dtype=np.int64))
        self._bytes = torch.empty(sum(map(len, pickles)), dtype=torch.uint8)
        self._bytes.numpy()[:] = np.frombuffer(b"".join(pickles), dtype=np.uint8)
        logger.info(f"{len(pickles)} records take {len(self._bytes) / 2**20:.2f} MiB, shared by all loader workers")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        end = int(self._ends[index])  # raises IndexError past the end, which also ends iteration
        position = index % len(self)
        start = int(self._ends[position - 1]) if position else 0
        return pickle.loads(memoryview(self._bytes.numpy()[start:end].data))


_default_serialize: Callable[[list], Any] = _TorchSerializedList


class DatasetFromList(Dataset):
    """The items of a list.

    copy: give out deep copies, so that the caller may change them (only needed where nothing is serialized).
    serialize: True to store the list pickled (`_TorchSerializedList`), or a function list -> indexable store.
    """

    def __init__(self, lst: list, copy: bool = True, serialize: bool | Callable[[list], Any] = True) -> None:
        if not isinstance(serialize, bool) and not callable(serialize):
            raise TypeError(f"serialize must be a bool or a function, got {serialize!r}")
        self._copy = copy and serialize is False
        if serialize is True:
            serialize = _default_serialize
        self._lst = serialize(lst) if serialize else lst

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int) -> Any:
        item = self._lst[idx]
        return copy_module.deepcopy(item) if self._copy else item


class _MapIterableDataset(IterableDataset):
    def __init__(self, dataset: Any, map_func: Callable) -> None:
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Any]:
        return (mapped for mapped in map(self._map_func, self._dataset) if mapped is not None)


class MapDataset(Dataset):
    """A data set whose items pass through `map_func`; over an iterable data set, an iterable one.

    Where `map_func` returns None the item is left out: an iterable goes on with the next, an indexed data set gives
    another item, drawn at random from those that have not failed.
    """

    def __new__(cls, dataset: Dataset, map_func: Callable) -> Any:
        if isinstance(dataset, IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __init__(self, dataset: Any, map_func: Callable) -> None:
        self._dataset = dataset
        self._map_func = PicklableWrapper(map_func)
        self._rng = random.Random(42)
        self._failed: set[int] = set()

    def __getnewargs__(self) -> tuple[Dataset, Callable]:
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        candidate = int(idx)
        while (mapped := self._map_func(self._dataset[candidate])) is None:
            self._failed.add(candidate)
            log_first_n(logging.WARNING, f"the mapper gave None for item {candidate}: another one is taken", n=10)
            others = [i for i in range(len(self)) if i not in self._failed]
            if not others:
                raise RuntimeError(f"the mapper returned None for all {len(self)} items of the data set")
            candidate = self._rng.choice(others)
        self._failed.discard(candidate)
        return mapped


def _share_of_worker(indices: Iterable, chunk_size: int) -> Iterator:
    """Of the stream, cut into chunks dealt out in turn, the chunks of this loader worker (all, outside of one)."""
    worker = get_worker_info()
    for position, index in enumerate(indices):
        if worker is None or position // chunk_size % worker.num_workers == worker.id:
            yield index


class ToIterableDataset(IterableDataset):
    """An indexed data set read in a sampler's order.

    Every loader worker iterates its own copy of the sampler. With `shard_sampler` each keeps only its share, in turns
    of `shard_chunk_size` (the batch size, so that batches come out in the sampler's order); without, the sampler
    itself must give different indices to different workers.
    """

    def __init__(self, dataset: Dataset, sampler: Any, shard_sampler: bool = True, shard_chunk_size: int = 1) -> None:
        assert not isinstance(dataset, IterableDataset), f"{dataset} is iterable already"
        assert isinstance(sampler, Sampler), f"a Sampler is needed, got {type(sampler).__name__}"
        self.dataset = dataset
        self.sampler: Any = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size

    def __iter__(self) -> Iterator[Any]:
        indices = _share_of_worker(self.sampler, self.shard_chunk_size) if self.shard_sampler else self.sampler
        for index in indices:
            yield self.dataset[index]

    def __len__(self) -> int:
        return len(self.sampler)


class AspectRatioGroupedDataset(IterableDataset):
    """Batches (lists) of records that are all wider than high, or all not; incomplete batches wait for the next pass.

    dataset: an iterable of dicts with "width" and "height".
    """

    def __init__(self, dataset: Iterable[dict], batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self._buckets: list[list[dict]] = [[], []]

    def __iter__(self) -> Iterator[list[dict]]:
        for record in self.dataset:
            group = int(record["width"] <= record["height"])
            self._buckets[group].append(record)
            if len(self._buckets[group]) == self.batch_size:
                # Emptied before it is handed out: after `yield` nothing is sure to run.
                batch, self._buckets[group] = self._buckets[group], []
                yield batch


@contextmanager
def set_default_dataset_from_list_serialize_method(new: Callable[[list], Any]) -> Iterator[None]:
    """Within the block, `DatasetFromList(..., serialize=True)` stores its list by `new`."""
    global _default_serialize
    previous, _default_serialize = _default_serialize, new
    try:
        yield
    finally:
        _default_serialize = previous
