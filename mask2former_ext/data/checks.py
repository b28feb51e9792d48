"""What can be known to be wrong with the data before training starts, each fault a ValueError.

All records are looked at, and whether every file exists; the pixels of the first few images only.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from mask2former_ext.classes import APART
from mask2former_ext.data.augmentation import needs_semantic_labels
from mask2former_ext.data.channels import CHANNEL_FILES
from mask2former_ext.data.image_io import read_record_image
from mask2former_ext.data.prepare import learned_classes
from mask2former_ext.data.sets.published import check_registered, require_class_table
from mask2former_ext.data.targets.kind import (
    PANOPTIC_FILE,
    SEMANTIC_FILE,
    Source,
    TargetKind,
    require_pixel_classes,
)
from mask2former_ext.data.targets.masks import check_segment_ids, panoptic_ids
from mask2former_ext.data.targets.table import target_kind

IMAGES_LOOKED_AT = 4  # of each data set, spread over it
_FILE_KEYS = ("file_name", CHANNEL_FILES, PANOPTIC_FILE, SEMANTIC_FILE)

Record = Mapping[str, Any]


def check_datasets(cfg: CfgNode, eval_only: bool = False) -> None:
    """Raise ValueError naming the file or key, the value and the rule, if a data set of `cfg` breaks one.

    Looked at: DATASETS.TRAIN (unless `eval_only`) and DATASETS.TEST, the model's NUM_CLASSES, INPUT.TARGETS,
    INPUT.TASK_PROBABILITIES, and INPUT.CROP where it needs labels.
    """
    train, test = [] if eval_only else list(cfg.DATASETS.TRAIN), list(cfg.DATASETS.TEST)
    for name in dict.fromkeys(train + test):
        check_registered(name)
    if not train + test:
        where = "DATASETS.TEST is" if eval_only else "DATASETS.TRAIN and DATASETS.TEST are both"
        raise ValueError(f"{where} empty; a data set must be named there")
    _check_class_lists(cfg, train, test)
    kind = target_kind(cfg) if train else None
    if kind is not None:
        kind.check_sets(train)
    for name in dict.fromkeys(train + test):
        records = records_of(name)
        file_keys: tuple[str, ...] = ()
        if kind is not None and name in train:
            check_truth(name, records, kind, needs_semantic_labels(cfg))
            file_keys = kind.file_keys
        check_records(name, records, cfg.INPUT.FORMAT, file_keys)


def check_truth(name: str, records: Sequence[Record], kind: TargetKind, crop_needs_labels: bool) -> None:
    """Every record of a registered data set can be learned from, and has what the crop needs."""
    for record in records:
        kind.check(record)
        if crop_needs_labels:
            require_pixel_classes(record)
    kind.shares(name, records)


def check_records(name: str, records: Sequence[Record], image_format: str, more_file_keys: Sequence[str] = ()) -> None:
    """The records of one registered data set agree with its classes and its files.

    `more_file_keys`: keys of a record that name files, beside Detectron2's own.
    """
    classes = require_class_table(name)
    num_things = len(classes.things) if classes.numbering == APART else len(classes)
    num_labels = len(classes.label_names)
    for record in records:
        _check_classes(record, num_things, num_labels)
    _check_files(name, records, (*_FILE_KEYS, *more_file_keys))
    step = max(1, len(records) // IMAGES_LOOKED_AT)
    for record in records[::step][:IMAGES_LOOKED_AT]:
        check_pixels(record, num_labels, classes.ignore_label, image_format)


def check_pixels(record: Record, count: int, ignore_label: int, image_format: str) -> None:
    """Read one record's files: channels, sizes, the ids of the panoptic PNG against the json's, the semantic labels.

    `count`: how many labels there are.
    """
    source = Source(record, read_record_image(record, image_format))
    if PANOPTIC_FILE in record:
        ids = panoptic_ids(source.panoptic_png)
        check_segment_ids(ids, (segment["id"] for segment in record["segments_info"]), record["pan_seg_file_name"])
    if SEMANTIC_FILE in record:
        wrong = [
            int(value)
            for value in np.unique(source.semantic_labels)
            if value != ignore_label and not 0 <= value < count
        ]
        if wrong:
            raise ValueError(
                f"{record['sem_seg_file_name']}: label {wrong[0]} is neither a class (0 to {count - 1}) nor the "
                f"ignore label ({ignore_label})"
            )


def _check_class_lists(cfg: CfgNode, train: list[str], test: list[str]) -> None:
    """All training sets have the same classes, test sets as many, and NUM_CLASSES, unless 0, is their number."""
    first = (train + test)[0]
    learned = learned_classes(cfg, first)
    for other in train[1:]:
        if learned_classes(cfg, other) != learned:
            raise ValueError(f"DATASETS.TRAIN: '{first}' and '{other}' differ in their classes; they must be the same")
    for head, names in learned.items():
        for other in test:
            count = len(learned_classes(cfg, other)[head])
            if count not in (0, len(names)):
                raise ValueError(
                    f"DATASETS.TEST: '{other}' has {count} classes, but '{first}' has {len(names)}; "
                    "a model can be tested only on the classes that it learned"
                )
        configured = cfg.MODEL[head].NUM_CLASSES
        if names and configured not in (0, len(names)):
            raise ValueError(
                f"MODEL.{head}.NUM_CLASSES is {configured}, but data set '{first}' has {len(names)} classes for it, "
                f"{', '.join(names[:3])}, ...; 0 takes their number"
            )


def records_of(name: str) -> list[dict[str, Any]]:
    """The records of a data set. Raises ValueError naming it if it is not registered or they cannot be loaded."""
    check_registered(name)
    try:
        return DatasetCatalog.get(name)
    except (OSError, KeyError, AssertionError) as error:  # what Detectron2's own loaders raise for faulty data
        raise ValueError(f"data set '{name}' cannot be loaded: {type(error).__name__}: {error}") from error


def _check_classes(record: Record, num_things: int, num_labels: int) -> None:
    for key in ("segments_info", "annotations"):
        for item in record.get(key, ()):
            count = num_things if item.get("isthing", key == "annotations") else num_labels
            if not 0 <= item["category_id"] < count:
                raise ValueError(
                    f"{record['file_name']}: class {item['category_id']} in {key} is outside the {count} classes "
                    "of its data set"
                )


def _check_files(name: str, records: Sequence[Record], keys: Sequence[str]) -> None:
    """Each folder is listed once, which is faster than asking for each file."""
    wanted = defaultdict(set)
    for record in records:
        for key in keys:
            named = record.get(key, ())
            for path in [named] if isinstance(named, str) else named:
                folder, file = os.path.split(path)
                wanted[folder].add(file)
    for folder, files in sorted(wanted.items()):
        try:
            present = set(os.listdir(folder or "."))
        except OSError as error:
            raise ValueError(f"data set '{name}': folder {folder} cannot be read ({error})") from error
        missing = sorted(files - present)
        if missing:
            raise ValueError(
                f"data set '{name}': {os.path.join(folder, missing[0])} is missing; {len(missing)} of {len(files)} "
                "files that its records name in this folder do not exist"
            )
