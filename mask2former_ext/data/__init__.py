"""Data: records of every form, one mapper, pure targets, checks before training. Registers nothing at import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mask2former_ext.on_demand import names_on_demand

if TYPE_CHECKING:
    from mask2former_ext.data.checks import check_datasets, records_of
    from mask2former_ext.data.loader import build_train_loader
    from mask2former_ext.data.mapper import Mapper
    from mask2former_ext.data.prepare import learned_classes, prepare_data
    from mask2former_ext.data.sets.custom import register_custom
    from mask2former_ext.data.sets.published import class_names, class_table, num_classes, register_all, register_shapes

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

_HOME_OF = {
    "Mapper": "mapper",
    "build_train_loader": "loader",
    "check_datasets": "checks",
    "class_names": "sets.published",
    "class_table": "sets.published",
    "learned_classes": "prepare",
    "num_classes": "sets.published",
    "prepare_data": "prepare",
    "records_of": "checks",
    "register_all": "sets.published",
    "register_custom": "sets.custom",
    "register_shapes": "sets.published",
}

__getattr__, __dir__ = names_on_demand(__name__, _HOME_OF)
