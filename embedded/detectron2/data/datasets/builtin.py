"""Registers the data sets that Detectron2 knows, with their metadata; no file is touched.

Their folders are expected under $DETECTRON2_DATASETS, by default ./datasets.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import ADE20K_SEM_SEG_CATEGORIES, _get_builtin_metadata, _table
from .cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from .cityscapes_panoptic import register_all_cityscapes_panoptic
from .coco import load_sem_seg, register_coco_instances
from .coco_panoptic import register_coco_panoptic, register_coco_panoptic_separated
from .lvis import get_lvis_instances_meta, register_lvis_instances, register_pascal_voc

_SPLITS = _table("splits")  # coco: name -> (folder of images, name of the annotations); lvis: name -> annotations; ...


def register_all_coco(root: str) -> None:
    coco = os.path.join(root, "coco")
    for split, (images, labels) in _SPLITS["coco"].items():
        json_file, image_root = f"{coco}/annotations/{labels}.json", f"{coco}/{images}"
        register_coco_instances(f"coco_{split}", _get_builtin_metadata("coco"), json_file, image_root)
    for split, (images, labels) in _SPLITS["coco"].items():
        if "test" not in split:
            json_file = f"{coco}/annotations/{labels.replace('instances', 'person_keypoints')}.json"
            metadata = _get_builtin_metadata("coco_person")
            register_coco_instances(f"keypoints_coco_{split}", metadata, json_file, f"{coco}/{images}")
    for split, suffix in _SPLITS["coco_panoptic"].items():
        name, instances = f"coco_{split}_panoptic", MetadataCatalog.get(f"coco_{split}")
        panoptic = f"{coco}/panoptic_{suffix}", f"{coco}/annotations/panoptic_{suffix}.json"
        separated, standard = map(_get_builtin_metadata, ("coco_panoptic_separated", "coco_panoptic_standard"))
        stuff_root = f"{coco}/panoptic_stuff_{suffix}"
        register_coco_panoptic_separated(
            name, separated, instances.image_root, *panoptic, stuff_root, instances.json_file
        )
        register_coco_panoptic(name, standard, instances.image_root, *panoptic, instances.json_file)


def register_all_lvis(root: str) -> None:
    for split, labels in _SPLITS["lvis"].items():
        json_file = os.path.join(root, f"lvis/{labels}.json")
        metadata = get_lvis_instances_meta(split)
        register_lvis_instances(f"lvis_{split}", metadata, json_file, os.path.join(root, "coco/"))


def register_all_cityscapes(root: str) -> None:
    for split in ("train", "val", "test"):
        folders: dict[str, Any] = {
            "image_dir": os.path.join(root, f"cityscapes/leftImg8bit/{split}/"),
            "gt_dir": os.path.join(root, f"cityscapes/gtFine/{split}/"),
        }
        shared = {**folders, **_get_builtin_metadata("cityscapes")}
        name = f"cityscapes_fine_instance_seg_{split}"
        DatasetCatalog.register(name, partial(load_cityscapes_instances, **folders))
        MetadataCatalog.get(name).set(evaluator_type="cityscapes_instance", **shared)
        name = f"cityscapes_fine_sem_seg_{split}"
        DatasetCatalog.register(name, partial(load_cityscapes_semantic, **folders))
        MetadataCatalog.get(name).set(evaluator_type="cityscapes_sem_seg", ignore_label=255, **shared)


def register_all_pascal_voc(root: str) -> None:
    for year, splits in _SPLITS["voc"].items():
        for split in splits:
            name = f"voc_{year}_{split}"
            register_pascal_voc(name, os.path.join(root, f"VOC{year}"), split, int(year))
            MetadataCatalog.get(name).evaluator_type = "pascal_voc"


def register_all_ade20k(root: str) -> None:
    for split, folder in (("train", "training"), ("val", "validation")):
        name = f"ade20k_sem_seg_{split}"
        image_root = os.path.join(root, "ADEChallengeData2016/images", folder)
        gt_root = os.path.join(root, "ADEChallengeData2016/annotations_detectron2", folder)
        DatasetCatalog.register(name, partial(load_sem_seg, gt_root, image_root, gt_ext="png", image_ext="jpg"))
        MetadataCatalog.get(name).set(
            stuff_classes=[*ADE20K_SEM_SEG_CATEGORIES],
            image_root=image_root,
            sem_seg_root=gt_root,
            evaluator_type="sem_seg",
            ignore_label=255,
        )


def _register_all(root: str) -> None:
    register_all_coco(root)
    register_all_lvis(root)
    register_all_cityscapes(root)
    register_all_cityscapes_panoptic(root)
    register_all_pascal_voc(root)
    register_all_ade20k(root)


_register_all(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))
