"""Registers the data sets that Detectron2 knows, with their metadata; no file is touched.

Their folders are expected under $DETECTRON2_DATASETS, by default ./datasets.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import ADE20K_SEM_SEG_CATEGORIES, _get_builtin_metadata
from .cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from .cityscapes_panoptic import register_all_cityscapes_panoptic
from .coco import load_sem_seg, register_coco_instances
from .coco_panoptic import register_coco_panoptic, register_coco_panoptic_separated
from .lvis import get_lvis_instances_meta, register_lvis_instances
from .pascal_voc import register_pascal_voc

# Name of the split -> (folder of images, name of the annotations).
_COCO_SPLITS = {
    "2014_train": ("train2014", "instances_train2014"),
    "2014_val": ("val2014", "instances_val2014"),
    "2014_minival": ("val2014", "instances_minival2014"),
    "2014_valminusminival": ("val2014", "instances_valminusminival2014"),
    "2017_train": ("train2017", "instances_train2017"),
    "2017_val": ("val2017", "instances_val2017"),
    "2017_test": ("test2017", "image_info_test2017"),
    "2017_test-dev": ("test2017", "image_info_test-dev2017"),
    "2017_val_100": ("val2017", "instances_val2017_100"),
}
_COCO_PANOPTIC_SPLITS = {"2017_train": "train2017", "2017_val": "val2017", "2017_val_100": "val2017_100"}
_LVIS_FILES = {
    "v1_train": "lvis_v1_train",
    "v1_val": "lvis_v1_val",
    "v1_test_dev": "lvis_v1_image_info_test_dev",
    "v1_test_challenge": "lvis_v1_image_info_test_challenge",
    "v0.5_train": "lvis_v0.5_train",
    "v0.5_val": "lvis_v0.5_val",
    "v0.5_val_rand_100": "lvis_v0.5_val_rand_100",
    "v0.5_test": "lvis_v0.5_image_info_test",
    "v0.5_train_cocofied": "lvis_v0.5_train_cocofied",
    "v0.5_val_cocofied": "lvis_v0.5_val_cocofied",
}
_VOC_SPLITS = {2007: ("trainval", "train", "val", "test"), 2012: ("trainval", "train", "val")}


def register_all_coco(root: str) -> None:
    coco = os.path.join(root, "coco")
    for split, (images, labels) in _COCO_SPLITS.items():
        json_file, image_root = f"{coco}/annotations/{labels}.json", f"{coco}/{images}"
        register_coco_instances(f"coco_{split}", _get_builtin_metadata("coco"), json_file, image_root)
    for split, (images, labels) in _COCO_SPLITS.items():
        if "test" not in split:
            json_file = f"{coco}/annotations/{labels.replace('instances', 'person_keypoints')}.json"
            metadata = _get_builtin_metadata("coco_person")
            register_coco_instances(f"keypoints_coco_{split}", metadata, json_file, f"{coco}/{images}")
    for split, suffix in _COCO_PANOPTIC_SPLITS.items():
        name, instances = f"coco_{split}_panoptic", MetadataCatalog.get(f"coco_{split}")
        panoptic = f"{coco}/panoptic_{suffix}", f"{coco}/annotations/panoptic_{suffix}.json"
        separated, standard = map(_get_builtin_metadata, ("coco_panoptic_separated", "coco_panoptic_standard"))
        stuff_root = f"{coco}/panoptic_stuff_{suffix}"
        register_coco_panoptic_separated(
            name, separated, instances.image_root, *panoptic, stuff_root, instances.json_file
        )
        register_coco_panoptic(name, standard, instances.image_root, *panoptic, instances.json_file)


def register_all_lvis(root: str) -> None:
    for split, labels in _LVIS_FILES.items():
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
    for year, splits in _VOC_SPLITS.items():
        for split in splits:
            name = f"voc_{year}_{split}"
            register_pascal_voc(name, os.path.join(root, f"VOC{year}"), split, year)
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
