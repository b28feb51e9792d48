from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler


class GroupedBatchSampler(BatchSampler):
    """Batches of indices of one group each, in the order in which the groups fill up.

    group_ids: for each index that `sampler` can give, its group.
    """

    def __init__(self, sampler: Sampler, group_ids: Sequence[int], batch_size: int) -> None:
        if not isinstance(sampler, Sampler):
            raise ValueError(f"sampler must be a torch.utils.data.Sampler, got {sampler!r}")
        self.sampler = sampler
        self.group_ids = np.asarray(group_ids)
        assert self.group_ids.ndim == 1, f"group_ids must be one list of numbers, got shape {self.group_ids.shape}"
        self.batch_size = batch_size
        self._waiting: dict[int, list[int]] = {}

    def __iter__(self) -> Iterator[list[int]]:
        for index in self.sampler:
            group = int(self.group_ids[index])
            self._waiting.setdefault(group, []).append(index)
            if len(self._waiting[group]) == self.batch_size:
                yield self._waiting.pop(group)

    def __len__(self) -> int:
        raise NotImplementedError("how many batches will come depends on the order of the groups")
