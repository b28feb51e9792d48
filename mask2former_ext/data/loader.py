"""The training loader whose images and randomness follow from the step, however many processes share the work."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset, build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from mask2former_ext.data.mapper import Mapper
from mask2former_ext.data.targets.table import target_kind

logger = logging.getLogger(__name__)


def build_train_loader(cfg: CfgNode, mapper: Any = None, start_iteration: int = 0) -> Any:
    """An endless iterable of lists of mapped images of cfg.DATASETS.TRAIN; `mapper` defaults to `Mapper(cfg, True)`.

    Each process gets IMS_PER_BATCH / processes images, all wider than high or all not if ASPECT_RATIO_GROUPING.
    With DATALOADER.SAMPLER_TRAIN "TrainingSampler", image number p of the run (step x IMS_PER_BATCH + its place in the
    batch) and its `sampling_seed` depend on cfg.SEED and p alone, not on workers: several processes make one joint
    batch, and a run that goes on at `start_iteration` sees what it would have seen (grouping aside).
    Other samplers draw as Detectron2's do.
    """
    mapper = Mapper(cfg, True) if mapper is None else mapper
    records = training_records(cfg)
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        return build_detection_train_loader(cfg, mapper=mapper, dataset=records)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    start = start_iteration * cfg.SOLVER.IMS_PER_BATCH
    processes = comm.get_world_size()
    batch_size, rest = divmod(cfg.SOLVER.IMS_PER_BATCH, processes)
    if rest:
        raise ValueError(f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, not a multiple of {processes} processes")
    grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    loader = DataLoader(
        MapDataset(OrderedRecords(records, seed), mapper),
        # The sampler is walked in the main process, so that the order does not depend on the number of workers.
        sampler=PlaceSampler(start + comm.get_rank(), processes),
        batch_size=None if grouping else batch_size,
        collate_fn=_as_it_is,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return AspectRatioGroupedDataset(loader, batch_size) if grouping else loader


def training_records(cfg: CfgNode) -> list[dict[str, Any]]:
    """The records of cfg.DATASETS.TRAIN, whose truths may be of different kinds, as the target kind cleans them.

    With FILTER_EMPTY_ANNOTATIONS, without those that teach nothing. Raises ValueError if none is left.
    """
    # One by one: of several data sets Detectron2 expects the same kind of truth.
    sets = [get_detection_dataset_dicts(name, filter_empty=False) for name in cfg.DATASETS.TRAIN]
    kind = target_kind(cfg)
    records = kind.cleaned(itertools.chain.from_iterable(sets))
    for record in records:
        kind.check(record)
    if not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        return records
    kept = [record for record in records if not kind.teaches_nothing(record)]
    if len(kept) < len(records):
        empty = len(records) - len(kept)
        logger.info("%d of %d images have no instance to learn from and are left out", empty, len(records))
    if not kept:
        raise ValueError(f"DATASETS.TRAIN {', '.join(cfg.DATASETS.TRAIN)}: no image has an instance to learn from")
    return kept


def _as_it_is(example: Any) -> Any:
    return example


class PlaceSampler(Sampler):
    """first, first + stride, first + 2 x stride, ... without end: one process's places in the order of the run."""

    def __init__(self, first: int, stride: int) -> None:
        self.first = first
        self.stride = stride

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first, self.stride)


class OrderedRecords(Dataset):
    """Endless run through N records, newly shuffled in each epoch: item p is the record at place p of the run.

    Each item has `sampling_seed` 0..2**31-1, which follows from `seed` and p.
    """

    def __init__(self, records: list[dict[str, Any]], seed: int) -> None:
        self.records = DatasetFromList(records, copy=False)
        self.seed = seed
        self._epoch, self._order = -1, np.arange(0)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: int) -> dict[str, Any]:
        epoch, index = divmod(int(place), len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self))
        sampling_seed = int(np.random.SeedSequence((self.seed, 1, int(place))).generate_state(1)[0] >> 1)
        return {**self.records[int(self._order[index])], "sampling_seed": sampling_seed}
