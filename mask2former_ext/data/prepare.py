"""Make the data sets of a configuration known, and say which classes its model learns from one.

`heads` are the sections of MODEL that hold a number of classes: of all, or of things and of labels (`data.separated`).
"""

from __future__ import annotations

from detectron2.config import CfgNode

from mask2former_ext.contract import answered_tasks, separates_classes
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
    if not names or all(cfg.MODEL[head].NUM_CLASSES for head in class_heads(cfg)):
        return
    frozen = cfg.is_frozen()
    cfg.defrost()
    for head, classes in learned_classes(cfg, names[0]).items():
        cfg.MODEL[head].NUM_CLASSES = cfg.MODEL[head].NUM_CLASSES or len(classes)
    if frozen:
        cfg.freeze()


def class_heads(cfg: CfgNode) -> list[str]:
    if not separates_classes(cfg):
        return ["MASK_CLASSIFIER"]
    return ["ROI_HEADS", "SEM_SEG_HEAD"] if "semantic" in answered_tasks(cfg) else ["ROI_HEADS"]


def learned_classes(cfg: CfgNode, dataset_name: str) -> dict[str, list[str]]:
    """Head -> names of the classes that the model of `cfg` learns from a data set, in order.

    Where classes are separated these are the things, and of a semantic head "things" and the stuff, or nothing where
    the data set knows no stuff. Raises ValueError if the data set has no classes, or no such numbering.
    """
    names, metadata = class_names(dataset_name), metadata_for(cfg, dataset_name)
    architecture = cfg.MODEL.META_ARCHITECTURE
    if not separates_classes(cfg) and is_separated(metadata):
        raise ValueError(
            f"data set '{dataset_name}' numbers things and stuff apart, but {architecture} knows all classes by one "
            "numbering; COCO has it as coco_2017_{train,val}_panoptic"
        )
    if not separates_classes(cfg):
        return {"MASK_CLASSIFIER": names}
    if not metadata.get("thing_classes"):
        raise ValueError(f"data set '{dataset_name}' has no class that is a thing, of which {architecture} learns")
    kinds = {"ROI_HEADS": metadata.thing_classes, "SEM_SEG_HEAD": metadata.get("stuff_classes") or []}
    return {head: list(kinds[head]) for head in class_heads(cfg)}
