"""Make the data sets of a configuration known, and say which classes its model learns from one."""

from __future__ import annotations

from detectron2.config import CfgNode

from mask2former_ext.classes import APART, ClassTable
from mask2former_ext.contract import classes_of, contract_of, numbered_for
from mask2former_ext.data.sets import custom
from mask2former_ext.data.sets.published import class_table, register_all, require_class_table


def prepare_data(cfg: CfgNode, *, trained_on: ClassTable | None = None, needs_data: bool = True) -> None:
    """Make the data sets of `cfg` known; set, in place, MODEL.CLASSES and, where 0, the model's numbers of classes.

    To be called before a model or a loader is built. The classes are those that the weights were `trained_on`, if
    given; else those of the first training (else test) set that names its classes; else MODEL.CLASSES, as they are.
    `needs_data` False: an entry of DATASETS.CUSTOM whose files are not here is left out where the classes are known.
    """
    register_all(cfg.DATASETS.ROOT)
    custom.register_custom(cfg, required=needs_data or not (trained_on or cfg.MODEL.CLASSES))
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    tables = [table for table in map(class_table, names) if table is not None]
    frozen = cfg.is_frozen()
    cfg.defrost()
    if trained_on is not None:
        trained_on = numbered_for(cfg, trained_on)
    table = trained_on or (numbered_for(cfg, tables[0]) if tables else classes_of(cfg))
    if table is not None:
        cfg.MODEL.CLASSES = CfgNode(table.to_dict(), new_allowed=True)
    if not all(cfg.MODEL[head].NUM_CLASSES for head in contract_of(cfg).class_heads(cfg)):
        if table is not None and (trained_on or not tables):
            learned = _by_head(cfg, table)
        else:
            learned = learned_classes(cfg, names[0]) if names else {}
        for head, classes in learned.items():
            cfg.MODEL[head].NUM_CLASSES = cfg.MODEL[head].NUM_CLASSES or len(classes)
    if frozen:
        cfg.freeze()


def learned_classes(cfg: CfgNode, dataset_name: str) -> dict[str, list[str]]:
    """Class head (see `Contract.class_heads`) -> names of the classes that it learns from a data set, in order.

    Labels are "things" and the stuff, or nothing where the data set knows no stuff. Raises ValueError if the data set
    has no classes, or no such numbering.
    """
    table, architecture = require_class_table(dataset_name), cfg.MODEL.META_ARCHITECTURE
    kinds = contract_of(cfg).class_heads(cfg).values()
    if "all" in kinds and table.numbering == APART:
        raise ValueError(
            f"data set '{dataset_name}' numbers things and stuff apart, but {architecture} knows all classes by one "
            "numbering; COCO has it as coco_2017_{train,val}_panoptic"
        )
    if "things" in kinds and not table.things:
        raise ValueError(f"data set '{dataset_name}' has no class that is a thing, of which {architecture} learns")
    return _by_head(cfg, numbered_for(cfg, table))


def _by_head(cfg: CfgNode, table: ClassTable) -> dict[str, list[str]]:
    of_kind = {"all": list(table.names), "things": list(table.thing_names.values()), "labels": table.label_names}
    return {head: of_kind[kind] for head, kind in contract_of(cfg).class_heads(cfg).items()}
