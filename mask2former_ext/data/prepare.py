"""Make the data sets of a configuration known, and say which classes its model learns from one."""

from __future__ import annotations

from detectron2.config import CfgNode

from mask2former_ext.contract import contract_of
from mask2former_ext.data.separated import is_separated, metadata_for
from mask2former_ext.data.sets import custom
from mask2former_ext.data.sets.published import class_names, register_all


def prepare_data(cfg: CfgNode) -> None:
    """Make the data sets of `cfg` known, and set the model's numbers of classes (`learned_classes`), in place, where 0.

    The numbers are those of the first training (else test) set. To be called before a model or a loader is built.
    """
    register_all(cfg.DATASETS.ROOT)
    custom.register_custom(cfg)
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names or all(cfg.MODEL[head].NUM_CLASSES for head in contract_of(cfg).class_heads(cfg)):
        return
    frozen = cfg.is_frozen()
    cfg.defrost()
    for head, classes in learned_classes(cfg, names[0]).items():
        cfg.MODEL[head].NUM_CLASSES = cfg.MODEL[head].NUM_CLASSES or len(classes)
    if frozen:
        cfg.freeze()


def learned_classes(cfg: CfgNode, dataset_name: str) -> dict[str, list[str]]:
    """Class head (see `Contract.class_heads`) -> names of the classes that it learns from a data set, in order.

    Labels are "things" and the stuff, or nothing where the data set knows no stuff. Raises ValueError if the data set
    has no classes, or no such numbering.
    """
    names, metadata = class_names(dataset_name), metadata_for(cfg, dataset_name)
    architecture, heads = cfg.MODEL.META_ARCHITECTURE, contract_of(cfg).class_heads(cfg)
    if "all" in heads.values() and is_separated(metadata):
        raise ValueError(
            f"data set '{dataset_name}' numbers things and stuff apart, but {architecture} knows all classes by one "
            "numbering; COCO has it as coco_2017_{train,val}_panoptic"
        )
    if "things" in heads.values() and not metadata.get("thing_classes"):
        raise ValueError(f"data set '{dataset_name}' has no class that is a thing, of which {architecture} learns")
    of_kind = {"all": names, "things": metadata.get("thing_classes"), "labels": metadata.get("stuff_classes") or []}
    return {head: list(of_kind[kind]) for head, kind in heads.items()}
