"""Which record comes next, for each of several processes.

Training samplers never end: all processes walk the same endless stream of indices, made from a shared seed, and each
takes every n-th. Loader workers are no concern of theirs (see `ToIterableDataset`).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import torch
from detectron2.utils import comm
from torch import Tensor
from torch.utils.data import Sampler

logger = logging.getLogger(__name__)


class _EndlessSampler(Sampler):
    """Epoch after epoch of `_get_epoch_indices`; this process takes its turn. Without a seed, one drawn for all."""

    def __init__(self, shuffle: bool, seed: int | None) -> None:
        self._shuffle = shuffle
        self._seed = int(comm.shared_random_seed() if seed is None else seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            indices = self._get_epoch_indices(generator)
            if self._shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()

    def _get_epoch_indices(self, generator: torch.Generator) -> Tensor:
        raise NotImplementedError


class TrainingSampler(_EndlessSampler):
    """All of 0..size-1 again and again, newly shuffled each time. `seed` must be the same in all processes."""

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if size <= 0:
            raise ValueError(f"size must be positive, got {size}")
        super().__init__(shuffle, seed)
        self._size = size

    def _get_epoch_indices(self, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.arange(self._size)


class RepeatFactorTrainingSampler(_EndlessSampler):
    """Like `TrainingSampler`, but index i comes `repeat_factors[i]` times per epoch on average.

    A fractional factor is rounded up or down at random, anew in every epoch.
    """

    def __init__(self, repeat_factors: Tensor, *, shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(shuffle, seed)
        self._whole = repeat_factors.trunc()
        self._fraction = repeat_factors - self._whole

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict], repeat_thresh: float, sqrt: bool = True
    ) -> Tensor:
        """Repeat images with rare categories (LVIS, arXiv 1908.03195v2, appendix B.2).

        With f(c) the fraction of images that show category c, r(c) = max(1, sqrt(repeat_thresh / f(c))) (or without
        the root); an image's factor is the largest r(c) of its categories, 1 if it has none. Returns (N,) float32.
        """
        categories_of_image = [{a["category_id"] for a in record["annotations"]} for record in dataset_dicts]
        images_with = Counter(c for categories in categories_of_image for c in categories)
        factor_of = {}
        for category, count in sorted(images_with.items()):
            ratio = repeat_thresh / (count / len(dataset_dicts))
            factor_of[category] = max(1.0, math.sqrt(ratio) if sqrt else ratio)
            logger.info(f"category {category}: in {count} images, repeated {factor_of[category]:.2f} times")
        factors = [max((factor_of[c] for c in categories), default=1.0) for categories in categories_of_image]
        return torch.tensor(factors, dtype=torch.float32)

    def _get_epoch_indices(self, generator: torch.Generator) -> Tensor:
        rounded_up = torch.rand(len(self._fraction), generator=generator) < self._fraction
        repeats = (self._whole + rounded_up).long()
        return torch.repeat_interleave(torch.arange(len(repeats)), repeats)


class InferenceSampler(Sampler):
    """0..size-1 once, in one contiguous stretch per process; the first processes may get one more than the others."""

    def __init__(self, size: int) -> None:
        assert size > 0, f"size must be positive, got {size}"
        self._local_indices = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        share, remainder = divmod(total_size, world_size)
        begin = rank * share + min(rank, remainder)
        return range(begin, begin + share + (rank < remainder))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
