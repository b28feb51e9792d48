"""Register what published configurations name and Detectron2 does not know; say which classes a data set has.

Nothing happens at import, and no file of a data set is read before its records are asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib import resources
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import builtin, load_coco_json, load_sem_seg
from detectron2.data.datasets.cityscapes_panoptic import register_all_cityscapes_panoptic

from mask2former_ext.data.sets import custom
from mask2former_ext.data.sets.custom import CustomDataset, data_root
from mask2former_ext.data.sets.records import panoptic_records
from mask2former_ext.data.sets.shapes import CATEGORIES as SHAPES_CATEGORIES

# The name says what to learn; a data set whose evaluator is one of these has only things to learn.
_INSTANCE_EVALUATORS = ("coco", "cityscapes_instance", "lvis", "pascal_voc")
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


def register_all(root: str | None = None) -> None:
    """Register the published data sets that Detectron2 lacks, and "shapes_train" and "shapes_val", under `root`.

    `root`: their folder; None or "" for the variable DETECTRON2_DATASETS, else "datasets". Detectron2's own data sets
    are moved there too. What is registered there already stays as it is, but for coco_2017_*_panoptic_separated: these
    are read from COCO's own files, without the label files that Detectron2 has its users make.
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
    categories = custom.categories_of({"categories": SHAPES_CATEGORIES}, "shapes", panoptic=True)
    for split in ("train", "val"):
        dataset = CustomDataset(
            name=f"shapes_{split}",
            images=os.path.join(root, split, "images"),
            instances=os.path.join(root, f"instances_{split}.json"),
            panoptic_json=os.path.join(root, f"panoptic_{split}.json"),
            panoptic_masks=os.path.join(root, split, "panoptic"),
            semantic_masks=os.path.join(root, split, "semantic"),
        )
        load = partial(custom.load_records, dataset, categories)
        _register(dataset.name, load, custom.metadata_of(dataset, categories))


def class_names(dataset_name: str) -> list[str]:
    """Names of the classes that a model learns from a data set, in contiguous order."""
    metadata = MetadataCatalog.get(dataset_name)
    things, stuff = metadata.get("thing_classes"), metadata.get("stuff_classes")
    names = things if stuff is None or metadata.get("evaluator_type") in _INSTANCE_EVALUATORS else stuff
    if not names:
        check_registered(dataset_name)
        raise ValueError(f"data set '{dataset_name}' has no class names in its metadata")
    return list(names)


def check_registered(dataset_name: str) -> None:
    """Raise ValueError naming the nearest registered name if `dataset_name` is not one."""
    known = DatasetCatalog.list()
    if dataset_name not in known:
        near = "".join(get_close_matches(dataset_name, known, n=1, cutoff=0.0))
        raise ValueError(
            f"DATASETS: '{dataset_name}' is not a registered data set; the nearest registered name is {near}. "
            "Data of your own is named in DATASETS.CUSTOM"
        )


def num_classes(dataset_name: str) -> int:
    """How many classes a model learns from a data set."""
    return len(class_names(dataset_name))


def thing_names(metadata: Any) -> dict[int, str]:
    """Contiguous class -> name of the things, whether the metadata name the things alone or all classes."""
    names = metadata.get("thing_classes") or []
    ids = metadata.get("thing_dataset_id_to_contiguous_id")
    classes = list(range(len(names))) if ids is None else sorted(ids.values())
    return {k: names[place if len(names) == len(classes) else k] for place, k in enumerate(classes)}


def panoptic_metadata(categories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Metadata of a panoptic data set whose things and stuff share the contiguous ids 0..K-1, in the order given.

    As published: `stuff_*` hold all classes, `thing_*` the things alone.
    """
    things = [category for category in categories if category["isthing"]]
    contiguous_ids = {category["id"]: index for index, category in enumerate(categories)}
    return {
        "thing_classes": [category["name"] for category in things],
        "thing_colors": [category["color"] for category in things],
        "thing_dataset_id_to_contiguous_id": {thing["id"]: contiguous_ids[thing["id"]] for thing in things},
        "stuff_classes": [category["name"] for category in categories],
        "stuff_colors": [category["color"] for category in categories],
        "stuff_dataset_id_to_contiguous_id": contiguous_ids,
    }


def _table(name: str) -> Any:
    text = resources.files("mask2former_ext.data").joinpath(f"categories/{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


def _register(name: str, load: Load, metadata: Mapping[str, Any]) -> None:
    if name in DatasetCatalog.list():
        if MetadataCatalog.get(name).get("image_root") == metadata["image_root"]:
            return
        _forget(name)
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)


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
    name: str, paths: Mapping[str, str], classes: Mapping[str, Any], semantic_root: str, **metadata: Any
) -> None:
    load = partial(_load_panoptic, paths, classes, semantic_root)
    metadata = {"ignore_label": 255, "label_divisor": 1000, "sem_seg_root": semantic_root, **metadata}
    _register(name, load, {**paths, **classes, **metadata})


def _load_panoptic(paths: Mapping[str, str], classes: Mapping[str, Any], semantic_root: str) -> list[dict[str, Any]]:
    # The label files say what the panoptic PNGs say too; whoever did not make them can do without.
    return panoptic_records(
        paths["panoptic_json"],
        paths["image_root"],
        paths["panoptic_root"],
        contiguous_ids=classes["stuff_dataset_id_to_contiguous_id"],
        thing_ids=classes["thing_dataset_id_to_contiguous_id"],
        semantic_root=semantic_root if os.path.isdir(semantic_root) else None,
    )


def _register_semantic(name: str, image_root: str, label_root: str, extension: str, **metadata: Any) -> None:
    load = partial(load_sem_seg, label_root, image_root, gt_ext=extension, image_ext="jpg")
    metadata = {"ignore_label": 255, **metadata}
    _register(
        name, load, {"image_root": image_root, "sem_seg_root": label_root, "evaluator_type": "sem_seg", **metadata}
    )


def _register_ade20k(root: str, split: str, folder: str) -> None:
    """Panoptic and instances of the 150 classes, 100 of them things (Detectron2 knows the semantic one)."""
    table, names = _table("ade20k"), MetadataCatalog.get(f"ade20k_sem_seg_{split}").stuff_classes
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
    classes = panoptic_metadata(categories)
    labels = os.path.join(root, "annotations_detectron2", folder)
    name = f"ade20k_panoptic_{split}"
    _register_panoptic(name, paths, classes, labels, evaluator_type="ade20k_panoptic_seg")

    name = f"ade20k_instance_{split}"
    things = {
        "thing_classes": classes["thing_classes"],
        "thing_colors": classes["thing_colors"],
        "thing_dataset_id_to_contiguous_id": {dataset_id: i for i, dataset_id in enumerate(table["thing_ids"])},
    }
    metadata = {"image_root": images, "json_file": instances, "evaluator_type": "coco", **things}
    _register(name, partial(load_coco_json, instances, images, name), metadata)


def _register_mapillary_vistas(root: str, split: str, folder: str) -> None:
    classes = panoptic_metadata(_table("mapillary_vistas"))
    root = os.path.join(root, "mapillary_vistas", folder)
    images, labels = os.path.join(root, "images"), os.path.join(root, "labels")
    paths = {
        "image_root": images,
        "panoptic_root": os.path.join(root, "panoptic"),
        "panoptic_json": os.path.join(root, "panoptic", "panoptic_2018.json"),
    }
    _register_panoptic(
        f"mapillary_vistas_panoptic_{split}",
        paths,
        classes,
        labels,
        evaluator_type="mapillary_vistas_panoptic_seg",
        ignore_label=65,
    )
    stuff = {key: classes[key] for key in ("stuff_classes", "stuff_colors")}
    _register_semantic(f"mapillary_vistas_sem_seg_{split}", images, labels, "png", ignore_label=65, **stuff)


def _register_coco_panoptic(root: str, split: str) -> None:
    """Detectron2's COCO panoptic with semantic labels besides; its classes are Detectron2's."""
    known = MetadataCatalog.get(f"coco_2017_{split}_panoptic")
    ids = {**known.thing_dataset_id_to_contiguous_id, **known.stuff_dataset_id_to_contiguous_id}
    categories = [
        {
            "id": dataset_id,
            "name": known.stuff_classes[index],
            "isthing": dataset_id in known.thing_dataset_id_to_contiguous_id,
            "color": known.stuff_colors[index],
        }
        for dataset_id, index in sorted(ids.items(), key=lambda item: item[1])
    ]
    paths = {key: getattr(known, key) for key in ("image_root", "panoptic_root", "panoptic_json", "json_file")}
    _register_panoptic(
        f"coco_2017_{split}_panoptic_with_sem_seg",
        paths,
        panoptic_metadata(categories),
        os.path.join(root, "coco", f"panoptic_semseg_{split}2017"),
        evaluator_type="coco_panoptic_seg",
    )


def _read_published_files(name: str) -> None:
    """Of one of Detectron2's sets whose things and stuff are numbered apart."""
    known = MetadataCatalog.get(name)
    things = known.thing_dataset_id_to_contiguous_id
    categories = custom.Categories(
        names=[],  # the metadata have them
        contiguous_ids={**known.stuff_dataset_id_to_contiguous_id, **things},
        thing_ids=list(things),
    )
    DatasetCatalog[name] = partial(_load_separated, known, categories)


def _load_separated(metadata: Any, categories: custom.Categories) -> list[dict[str, Any]]:
    """Things from the instances json, else from the panoptic PNGs, which say where the stuff is."""
    dataset = CustomDataset(
        name=metadata.name,
        images=metadata.image_root,
        instances=metadata.json_file if os.path.isfile(metadata.json_file) else None,
        panoptic_json=metadata.panoptic_json,
        panoptic_masks=metadata.panoptic_root,
        semantic_masks=metadata.sem_seg_root if os.path.isdir(metadata.sem_seg_root) else None,
    )
    return custom.load_records(dataset, categories)


def _register_ade20k_full(root: str, split: str, folder: str) -> None:
    root = os.path.join(root, "ADE20K_2021_17_01")
    images, labels = (os.path.join(root, f"{kind}_detectron2", folder) for kind in ("images", "annotations"))
    names = [category["name"] for category in _table("ade20k_full")]
    # 847 classes need 16-bit files, in which 65535 is "nothing".
    _register_semantic(f"ade20k_full_sem_seg_{split}", images, labels, "tif", ignore_label=65535, stuff_classes=names)


def _register_coco_stuff(root: str, split: str) -> None:
    root = os.path.join(root, "coco", "coco_stuff_10k")
    images, labels = (os.path.join(root, f"{kind}_detectron2", split) for kind in ("images", "annotations"))
    table = _table("coco_stuff")
    _register_semantic(
        f"coco_2017_{split}_stuff_10k_sem_seg",
        images,
        labels,
        "png",
        stuff_classes=[category["name"] for category in table],
        stuff_dataset_id_to_contiguous_id={category["id"]: index for index, category in enumerate(table)},
    )
