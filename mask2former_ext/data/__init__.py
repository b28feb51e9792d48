"""Data: records of every form, one mapper, pure targets, checks before training. Registers nothing at import."""

from mask2former_ext.data.checks import check_datasets, records_of
from mask2former_ext.data.loader import build_train_loader
from mask2former_ext.data.mapper import Mapper
from mask2former_ext.data.prepare import learned_classes, prepare_data
from mask2former_ext.data.sets.custom import register_custom
from mask2former_ext.data.sets.published import (
    class_names,
    class_table,
    num_classes,
    register_all,
    register_shapes,
)

__all__ = [
    "Mapper",
    "build_train_loader",
    "check_datasets",
    "class_names",
    "class_table",
    "learned_classes",
    "num_classes",
    "prepare_data",
    "records_of",
    "register_all",
    "register_custom",
    "register_shapes",
]
