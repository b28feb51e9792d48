"""Data loaders: records of registered data sets -> mapper -> batches, for training and for testing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import torch
from detectron2._left_out import left_out_message
from detectron2.config import configurable
from detectron2.utils.comm import get_world_size
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import log_first_n
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Sampler

from .catalog import DatasetCatalog, MetadataCatalog
from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
from .dataset_mapper import DatasetMapper
from .detection_utils import check_metadata_consistency
from .samplers import InferenceSampler, RepeatFactorTrainingSampler, TrainingSampler

logger = logging.getLogger(__name__)

Records = list[dict[str, Any]]


def filter_images_with_only_crowd_annotations(dataset_dicts: Records) -> Records:
    """Leave out images without any annotation that is not a crowd."""
    kept = [r for r in dataset_dicts if any(not a.get("iscrowd", 0) for a in r["annotations"])]
    logger.info(f"{len(dataset_dicts) - len(kept)} images with crowds or nothing are left out, {len(kept)} remain")
    return kept


def print_instances_class_histogram(dataset_dicts: Records, class_names: Sequence[str]) -> None:
    """Log how many instances, crowds not counted, each class has; a category_id that names no class is an error."""
    categories = [a["category_id"] for r in dataset_dicts for a in r["annotations"] if not a.get("iscrowd", 0)]
    outside = {c for c in categories if not 0 <= c < len(class_names)}
    assert not outside, f"category ids {sorted(outside)} are not in 0..{len(class_names) - 1}, the classes of this data"
    counts = Counter(categories)
    shown = ", ".join(f"{name} {counts[category]}" for category, name in enumerate(class_names))
    log_first_n(logging.INFO, f"{len(categories)} instances of {len(class_names)} classes: {shown}", key="message")


def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> Any:
    """Load registered data sets into one list of records (or, where they are torch data sets, into one such).

    filter_empty: leave out images whose annotations are none or only crowds; has no effect on data without instances.
    min_keypoints and proposal_files are left out: ImportError if they are given.
    check_consistency: the data sets must agree on their thing_classes.
    """
    names = [names] if isinstance(names, str) else names
    assert len(names), "no data set named: cfg.DATASETS.TRAIN or TEST is empty"
    if proposal_files is not None:
        raise ImportError(left_out_message("The loading of box proposals (MODEL.LOAD_PROPOSALS)"))
    if min_keypoints > 0:
        raise ImportError(left_out_message("The choice of images by keypoints (MODEL.KEYPOINT_ON)"))

    parts = [DatasetCatalog.get(name) for name in names]
    if isinstance(parts[0], Dataset):
        return ConcatDataset(parts) if len(parts) > 1 else parts[0]
    for name, part in zip(names, parts, strict=True):
        assert len(part), f"data set '{name}' is empty"
    records = [*chain.from_iterable(parts)]

    if "annotations" in records[0]:
        if filter_empty:
            records = filter_images_with_only_crowd_annotations(records)
        if check_consistency and all(hasattr(MetadataCatalog.get(name), "thing_classes") for name in names):
            check_metadata_consistency("thing_classes", names)
            print_instances_class_histogram(records, MetadataCatalog.get(names[0]).thing_classes)
    assert records, f"no image of {', '.join(names)} is left after filtering"
    return records


def trivial_batch_collator(batch: list) -> list:
    """A batch is the list of its items."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed all random number generators of a loader worker, each with its own seed."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def build_batch_data_loader(
    dataset: Dataset,
    sampler: Sampler | None,
    total_batch_size: int | None,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> Iterable:
    """A loader of batches, each a list of items unless `collate_fn` makes something else of it.

    sampler: None exactly if `dataset` is iterable.
    total_batch_size: over all processes; or give single_gpu_batch_size, that of each process.
    aspect_ratio_grouping: batches are all wide or all high images (needs "width" and "height" in the items).
    kwargs: for torch.utils.data.DataLoader.
    """
    total, processes = total_batch_size or 0, get_world_size()
    if single_gpu_batch_size:
        total = single_gpu_batch_size * processes
    assert total > 0 and total % processes == 0, (
        f"total batch size {total} is no positive multiple of {processes} processes"
    )
    batch_size = total // processes
    logger.info(f"Batches of {batch_size} images in each process")
    if isinstance(dataset, IterableDataset):
        assert sampler is None, "an iterable data set has its own order: sampler must be None"
    else:
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)
    if num_workers == 0:
        kwargs.pop("prefetch_factor", None)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    options = dict(num_workers=num_workers, worker_init_fn=worker_init_reset_seed, generator=generator, **kwargs)
    if not aspect_ratio_grouping:
        collate_fn = collate_fn or trivial_batch_collator
        return DataLoader(dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate_fn, **options)
    assert drop_last, "aspect ratio grouping never gives incomplete batches: drop_last must be True"
    grouped = AspectRatioGroupedDataset(DataLoader(dataset, collate_fn=itemgetter(0), **options), batch_size)
    batches: Any = grouped if collate_fn is None else MapDataset(grouped, collate_fn)
    return batches


def _training_sampler(cfg: Any, dataset: Any) -> Sampler | None:
    if isinstance(dataset, IterableDataset):
        return None
    name, options = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER
    logger.info(f"Training sampler: {name}")
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset), seed=cfg.SEED)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, options.REPEAT_THRESHOLD, sqrt=options.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)
    if name in ("RandomSubsetTrainingSampler", "WeightedTrainingSampler", "WeightedCategoryTrainingSampler"):
        raise ImportError(left_out_message(f"DATALOADER.SAMPLER_TRAIN {name}"))
    raise ValueError(f"DATALOADER.SAMPLER_TRAIN: '{name}' is not a known sampler (TrainingSampler is the usual one)")


def _train_loader_from_config(
    cfg: Any, mapper: Callable | None = None, *, dataset: Any = None, sampler: Sampler | None = None
) -> dict[str, Any]:
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    return {
        "dataset": dataset,
        "sampler": _training_sampler(cfg, dataset) if sampler is None else sampler,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


def _mapped_dataset(dataset: Any, mapper: Callable | None) -> Dataset:
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    return dataset if mapper is None else MapDataset(dataset, mapper)


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Callable | None,
    sampler: Sampler | None = None,
    total_batch_size: int | None,
    aspect_ratio_grouping: bool = True,
    **kwargs: Any,
) -> Iterable:
    """An endless loader of batches of `mapper`'s outputs. Also `build_detection_train_loader(cfg, ...)`.

    dataset: a list of records or a torch data set.
    sampler: `TrainingSampler` by default; None for an iterable data set.
    All else is as for `build_batch_data_loader`.
    """
    dataset = _mapped_dataset(dataset, mapper)
    if sampler is None and not isinstance(dataset, IterableDataset):
        sampler = TrainingSampler(len(dataset))
    kwargs["aspect_ratio_grouping"] = aspect_ratio_grouping
    return build_batch_data_loader(dataset, sampler, total_batch_size, **kwargs)


def _test_loader_from_config(
    cfg: Any, dataset_name: str | Sequence[str], mapper: Callable | None = None
) -> dict[str, Any]:
    proposals = cfg.DATASETS.PROPOSAL_FILES_TEST if cfg.MODEL.LOAD_PROPOSALS else None
    dataset = get_detection_dataset_dicts(dataset_name, filter_empty=False, proposal_files=proposals)
    return {
        "dataset": dataset,
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "sampler": None if isinstance(dataset, IterableDataset) else InferenceSampler(len(dataset)),
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Callable | None,
    sampler: Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
) -> DataLoader:
    """A loader that gives every record exactly once, over all processes. Also `(cfg, dataset_name, mapper=None)`.

    sampler: `InferenceSampler` by default; None for an iterable data set. batch_size: of each process.
    """
    dataset = _mapped_dataset(dataset, mapper)
    if isinstance(dataset, IterableDataset):
        assert sampler is None, "an iterable data set has its own order: sampler must be None"
    elif sampler is None:
        sampler = InferenceSampler(len(dataset))
    collate_fn = collate_fn or trivial_batch_collator
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=collate_fn)
