"""Register what published configurations name and Detectron2 does not know; say which classes a data set has.

Of a data set that is registered here a `ClassTable` is the truth: Detectron2's Metadata is filled from it and holds it.

Nothing happens at import, and no file of a data set is read before its records are.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, partial
from importlib import resources
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import builtin, load_coco_json, load_sem_seg
from detectron2.data.datasets.cityscapes_panoptic import register_all_cityscapes_panoptic

from mask2former_ext.classes import ClassTable, from_metadata, to_metadata
from mask2former_ext.data.sets import custom
from mask2former_ext.data.sets.custom import CustomDataset, data_root
from mask2former_ext.data.sets.records import panoptic_records
from mask2former_ext.data.sets.shapes import CATEGORIES as SHAPES_CATEGORIES

# Detectron2 gives all sets of Cityscapes the names of the 8 things and of the 19 classes. These hold the things alone.
_CITYSCAPES_THINGS = "cityscapes_fine_instance_seg_"
# Of these Detectron2 knows no colors; the publication's panoptic set has them, by the same names.
_COLORED_LIKE = {
    "ade20k_sem_seg_": "ade20k_panoptic_val",
    "cityscapes_fine_instance_seg_": "cityscapes_fine_panoptic_val",
    "cityscapes_fine_sem_seg_": "cityscapes_fine_panoptic_val",
}
_BUILTIN_PREFIXES = (
    "coco_2014_",
    "coco_2017_",
    "keypoints_coco_",
    "lvis_v",
    "cityscapes_fine_",
    "voc_20",
    "ade20k_sem_",
)
_BUILTIN_PATHS = ("image_root", "image_dir", "dirname")

Load = Callable[[], list[dict[str, Any]]]

logger = logging.getLogger(__name__)
_registered: set[str] = set()  # names of what was registered here, which may be moved to another root


def register_all(root: str | None = None) -> None:
    """Register the published data sets that Detectron2 lacks, and "shapes_train" and "shapes_val", under `root`.

    `root`: their folder; None or "" for the variable DETECTRON2_DATASETS, else "datasets". Detectron2's own data sets
    are moved there too. What is registered there already, or by somebody else, stays as it is, but for
    coco_2017_*_panoptic_separated: these are read from COCO's own files, without the label files that Detectron2 has
    its users make.
    """
    root = data_root(root or "")
    _move_builtin(root)
    for split, folder in (("train", "training"), ("val", "validation")):
        _register_ade20k(root, split, folder)
        _register_mapillary_vistas(root, split, folder)
        _register_coco_panoptic(root, split)
        _register_ade20k_full(root, split, folder)
    for split in ("train", "test"):
        _register_coco_stuff(root, split)
    for split in ("train", "val", "val_100"):
        _read_published_files(f"coco_2017_{split}_panoptic_separated")
    register_shapes(os.path.join(root, "shapes"))


def register_shapes(root: str) -> None:
    """Register "shapes_train" and "shapes_val", as written by datasets/make_shapes.py to the folder `root`."""
    classes = custom.classes_of_json({"categories": SHAPES_CATEGORIES}, "shapes", panoptic=True)
    for split in ("train", "val"):
        dataset = CustomDataset(
            name=f"shapes_{split}",
            images=os.path.join(root, split, "images"),
            instances=os.path.join(root, f"instances_{split}.json"),
            panoptic_json=os.path.join(root, f"panoptic_{split}.json"),
            panoptic_masks=os.path.join(root, split, "panoptic"),
            semantic_masks=os.path.join(root, split, "semantic"),
        )
        load = partial(custom.load_records, dataset, classes)
        _register(dataset.name, load, custom.metadata_of(dataset, classes))


def class_table(dataset_name: str) -> ClassTable | None:
    """The classes of a data set as its records number them; None if it is not registered or names no class."""
    unnumbered = "things" if dataset_name.startswith(_CITYSCAPES_THINGS) else "stuff"
    table = from_metadata(MetadataCatalog.get(dataset_name), unnumbered=unnumbered)
    if table is None or table.colors:
        return table
    for prefix, panoptic in _COLORED_LIKE.items():
        known = from_metadata(MetadataCatalog.get(panoptic)) if dataset_name.startswith(prefix) else None
        if known is not None and known.colors:
            color_of = dict(zip(known.names, known.colors, strict=True))
            return replace(table, colors=tuple(color_of.get(name) for name in table.names))
    return table


def require_class_table(dataset_name: str) -> ClassTable:
    """`class_table`. Raises ValueError where there is none."""
    table = class_table(dataset_name)
    if table is None:
        check_registered(dataset_name)
        raise ValueError(f"data set '{dataset_name}' names no classes: its Metadata have no thing_ or stuff_classes")
    return table


def class_names(dataset_name: str) -> list[str]:
    """Names of the classes that a model learns from a data set, in contiguous order."""
    return list(require_class_table(dataset_name).names)


def check_registered(dataset_name: str) -> None:
    """Raise ValueError naming the nearest registered name if `dataset_name` is not one."""
    known = DatasetCatalog.list()
    if dataset_name not in known:
        near = "".join(get_close_matches(dataset_name, known, n=1, cutoff=0.0))
        raise ValueError(
            f"DATASETS: '{dataset_name}' is not a registered data set; the nearest registered name is {near}. "
            "Data of your own is named in DATASETS.CUSTOM"
        )


def check_images_are_there(dataset_name: str) -> None:
    """Raise ValueError, with what to do, if the folder that a data set's images lie in does not exist."""
    metadata = MetadataCatalog.get(dataset_name)
    folder = next((path for path in map(metadata.get, _BUILTIN_PATHS) if path), "")
    if not folder or os.path.isdir(folder):
        return
    todo = "datasets/README.md says what belongs where, and DATASETS.ROOT names the folder of all"
    if dataset_name in ("shapes_train", "shapes_val"):
        root = os.path.dirname(os.path.dirname(folder))
        todo = f"`python -m mask2former_ext.commands.make_shapes --output {root}` draws them"
    raise ValueError(f"data set '{dataset_name}': its images are not there: no folder {folder}; {todo}")


def num_classes(dataset_name: str) -> int:
    """How many classes a model learns from a data set."""
    return len(class_names(dataset_name))


def table_of_categories(categories: Sequence[Mapping[str, Any]], ignore_label: int = 255) -> ClassTable:
    """Of a panoptic data set whose things and stuff share the numbers 0..K-1, in the order given.

    A category has the keys id, name, isthing and color (RGB).
    """
    return ClassTable(
        names=tuple(category["name"] for category in categories),
        is_thing=tuple(bool(category["isthing"]) for category in categories),
        dataset_ids=tuple(category["id"] for category in categories),
        colors=tuple((red, green, blue) for red, green, blue in (category["color"] for category in categories)),
        ignore_label=ignore_label,
    )


def _table(name: str) -> Any:
    text = resources.files("mask2former_ext.data").joinpath(f"categories/{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


def _register(name: str, load: Load, metadata: Mapping[str, Any]) -> None:
    if name in DatasetCatalog.list():
        if MetadataCatalog.get(name).get("image_root") == metadata["image_root"]:
            return
        if name not in _registered:
            _tell_kept(name)
            return
        _forget(name)
    _registered.add(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)


@cache
def _tell_kept(name: str) -> None:
    logger.warning("data set %s is registered already: that one is used, not ours", name)


def _forget(name: str) -> None:
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def _move_builtin(root: str) -> None:
    """Register Detectron2's own data sets again if it did so under another root."""
    sample = "coco/val2017"
    registered = MetadataCatalog.get("coco_2017_val").image_root
    if registered == os.path.join(root, sample):
        return
    old_root = registered[: -len(sample)]
    for name in list(DatasetCatalog.list()):
        paths = [MetadataCatalog.get(name).get(key) or "" for key in _BUILTIN_PATHS]
        if name.startswith(_BUILTIN_PREFIXES) and any(path.startswith(old_root) for path in paths):
            _forget(name)
    for register in (
        builtin.register_all_coco,
        builtin.register_all_lvis,
        builtin.register_all_cityscapes,
        register_all_cityscapes_panoptic,
        builtin.register_all_pascal_voc,
        builtin.register_all_ade20k,
    ):
        register(root)


def _register_panoptic(
    name: str, paths: Mapping[str, str], classes: ClassTable, semantic_root: str, evaluator_type: str
) -> None:
    load = partial(_load_panoptic, paths, classes, semantic_root)
    metadata = {"label_divisor": 1000, "sem_seg_root": semantic_root, "evaluator_type": evaluator_type}
    _register(name, load, {**paths, **to_metadata(classes), **metadata})


def _load_panoptic(paths: Mapping[str, str], classes: ClassTable, semantic_root: str) -> list[dict[str, Any]]:
    # The label files repeat what the panoptic PNGs hold. A data set without them will do.
    return panoptic_records(
        paths["panoptic_json"],
        paths["image_root"],
        paths["panoptic_root"],
        contiguous_ids=classes.label_of_id,
        thing_ids=classes.thing_of_id,
        semantic_root=semantic_root if os.path.isdir(semantic_root) else None,
    )


def _register_semantic(name: str, image_root: str, label_root: str, extension: str, classes: ClassTable) -> None:
    load = partial(load_sem_seg, label_root, image_root, gt_ext=extension, image_ext="jpg")
    paths = {"image_root": image_root, "sem_seg_root": label_root}
    _register(name, load, {**paths, "evaluator_type": "sem_seg", **to_metadata(classes)})


def _register_ade20k(root: str, split: str, folder: str) -> None:
    """Panoptic and instances of the 150 classes, 100 of them things (Detectron2 knows the semantic one)."""
    table, names = _table("ade20k"), require_class_table(f"ade20k_sem_seg_{split}").names
    categories = [
        {"id": index, "name": name, "isthing": index in table["thing_ids"], "color": color}
        for index, (name, color) in enumerate(zip(names, table["colors"], strict=True))
    ]
    root = os.path.join(root, "ADEChallengeData2016")
    instances = os.path.join(root, f"ade20k_instance_{split}.json")
    images = os.path.join(root, "images", folder)
    paths = {
        "image_root": images,
        "panoptic_root": os.path.join(root, f"ade20k_panoptic_{split}"),
        "panoptic_json": os.path.join(root, f"ade20k_panoptic_{split}.json"),
        "json_file": instances,
    }
    classes = table_of_categories(categories)
    labels = os.path.join(root, "annotations_detectron2", folder)
    _register_panoptic(f"ade20k_panoptic_{split}", paths, classes, labels, "ade20k_panoptic_seg")

    name = f"ade20k_instance_{split}"
    metadata = {"image_root": images, "json_file": instances, "evaluator_type": "coco"}
    load = partial(load_coco_json, instances, images, name)
    _register(name, load, {**metadata, **to_metadata(classes.only_things())})


def _register_mapillary_vistas(root: str, split: str, folder: str) -> None:
    classes = table_of_categories(_table("mapillary_vistas"), ignore_label=65)
    root = os.path.join(root, "mapillary_vistas", folder)
    images, labels = os.path.join(root, "images"), os.path.join(root, "labels")
    paths = {
        "image_root": images,
        "panoptic_root": os.path.join(root, "panoptic"),
        "panoptic_json": os.path.join(root, "panoptic", "panoptic_2018.json"),
    }
    name = f"mapillary_vistas_panoptic_{split}"
    _register_panoptic(name, paths, classes, labels, "mapillary_vistas_panoptic_seg")
    semantic = replace(classes, is_thing=(), dataset_ids=())  # label files hold numbers, not ids
    _register_semantic(f"mapillary_vistas_sem_seg_{split}", images, labels, "png", semantic)


def _register_coco_panoptic(root: str, split: str) -> None:
    """Detectron2's COCO panoptic with semantic labels besides; its classes are Detectron2's."""
    known = MetadataCatalog.get(f"coco_2017_{split}_panoptic")
    classes = from_metadata(known)
    assert classes is not None, "Detectron2 names COCO's classes"
    paths = {key: getattr(known, key) for key in ("image_root", "panoptic_root", "panoptic_json", "json_file")}
    labels = os.path.join(root, "coco", f"panoptic_semseg_{split}2017")
    _register_panoptic(f"coco_2017_{split}_panoptic_with_sem_seg", paths, classes, labels, "coco_panoptic_seg")


def _read_published_files(name: str) -> None:
    """Of one of Detectron2's sets whose things and stuff are numbered apart."""
    DatasetCatalog[name] = partial(_load_separated, MetadataCatalog.get(name), require_class_table(name))


def _load_separated(metadata: Any, classes: ClassTable) -> list[dict[str, Any]]:
    """Things from the instances json, else from the panoptic PNGs, which say where the stuff is."""
    dataset = CustomDataset(
        name=metadata.name,
        images=metadata.image_root,
        instances=metadata.json_file if os.path.isfile(metadata.json_file) else None,
        panoptic_json=metadata.panoptic_json,
        panoptic_masks=metadata.panoptic_root,
        semantic_masks=metadata.sem_seg_root if os.path.isdir(metadata.sem_seg_root) else None,
    )
    return custom.load_records(dataset, classes)


def _register_ade20k_full(root: str, split: str, folder: str) -> None:
    root = os.path.join(root, "ADE20K_2021_17_01")
    images, labels = (os.path.join(root, f"{kind}_detectron2", folder) for kind in ("images", "annotations"))
    names = tuple(category["name"] for category in _table("ade20k_full"))
    # 847 classes need 16-bit files, in which 65535 is "nothing".
    classes = ClassTable(names, ignore_label=65535)
    _register_semantic(f"ade20k_full_sem_seg_{split}", images, labels, "tif", classes)


def _register_coco_stuff(root: str, split: str) -> None:
    root = os.path.join(root, "coco", "coco_stuff_10k")
    images, labels = (os.path.join(root, f"{kind}_detectron2", split) for kind in ("images", "annotations"))
    table = _table("coco_stuff")
    names, ids = tuple(category["name"] for category in table), tuple(category["id"] for category in table)
    classes = ClassTable(names, dataset_ids=ids)
    _register_semantic(f"coco_2017_{split}_stuff_10k_sem_seg", images, labels, "png", classes)
