"""The training loader whose images and randomness follow from the step, however many processes share the work."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_train_loader, get_detection_dataset_dicts
from detectron2.utils import comm
from torch.utils.data import Dataset, Sampler

from mask2former_ext.data.mapper import Mapper


def build_train_loader(cfg: CfgNode, mapper: Any = None, start_iteration: int = 0) -> Any:
    """Detectron2's training loader over cfg.DATASETS.TRAIN; `mapper` defaults to `Mapper(cfg, True)`.

    With DATALOADER.SAMPLER_TRAIN "TrainingSampler", image number p of the run (step x IMS_PER_BATCH + its place in the
    batch) and its `sampling_seed` depend on cfg.SEED and p alone: several processes make one joint batch, and a run
    that goes on at `start_iteration` sees what it would have seen. Other samplers draw as Detectron2's do.
    """
    mapper = Mapper(cfg, True) if mapper is None else mapper
    # An image without a thing still has stuff to learn, so it is left out of instance training only.
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and cfg.INPUT.TARGETS == "instance"
    records = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=filter_empty)
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        return build_detection_train_loader(cfg, mapper=mapper, dataset=records)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    start = start_iteration * cfg.SOLVER.IMS_PER_BATCH
    return build_detection_train_loader(
        OrderedRecords(records, seed),
        mapper=mapper,
        sampler=PlaceSampler(start + comm.get_rank(), comm.get_world_size()),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


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
