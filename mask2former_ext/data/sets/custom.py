"""The user's own data from the configuration alone: DATASETS.CUSTOM (see datasets/README.md).

Things and stuff share one contiguous space 0..K-1, in ascending order of their ids in the json.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import ImageColor

from mask2former_ext.classes import ClassTable, Color, to_metadata
from mask2former_ext.data.channels import CHANNEL_FILES
from mask2former_ext.data.sets import records as coco

logger = logging.getLogger(__name__)

KEYS = (
    "NAME",
    "IMAGES",
    "INSTANCES",
    "PANOPTIC_JSON",
    "PANOPTIC_MASKS",
    "SEMANTIC_MASKS",
    "CLASSES",
    "COLORS",
    "IGNORE_LABEL",
)
_COLOR_RULE = "a color is three numbers in 0..255, or a string as '#c08040' or 'tan'"
_PATH_KEYS = ("IMAGES", "INSTANCES", "PANOPTIC_JSON", "PANOPTIC_MASKS", "SEMANTIC_MASKS")


@dataclass(frozen=True)
class CustomDataset:
    """One entry of DATASETS.CUSTOM; paths are complete."""

    name: str
    images: str
    channel_folders: tuple[str, ...] = ()  # pictures of the same names, of one further channel each
    instances: str | None = None
    panoptic_json: str | None = None
    panoptic_masks: str | None = None
    semantic_masks: str | None = None
    classes: tuple[str, ...] = ()
    colors: tuple[tuple[str, Color], ...] = ()  # of some of the classes, by name
    ignore_label: int = 255

    @property
    def has_things(self) -> bool:
        return bool(self.instances or self.panoptic_json)

    @property
    def has_labels(self) -> bool:
        """Whether there is truth that gives each pixel a class."""
        return bool(self.semantic_masks or self.panoptic_json)

    @property
    def evaluator_type(self) -> str:
        """What Detectron2's scripts look at to choose an evaluator."""
        if self.panoptic_json:
            return "coco_panoptic_seg"
        return "coco" if self.instances else "sem_seg"


def register_custom(cfg: CfgNode, *, required: bool = True) -> None:
    """Register every entry of cfg.DATASETS.CUSTOM. Again with the same entries, nothing happens.

    Reads the json files for their categories; the records are read on first use of the data set.
    Unless `required`, an entry whose json is not there is left out, with a line in the log.
    Raises ValueError naming the entry, its value and the rule.
    """
    root = data_root(cfg.DATASETS.ROOT)
    for index, entry in enumerate(cfg.DATASETS.CUSTOM):
        dataset = parse_entry(entry, index, root)
        absent = [path for path in (dataset.panoptic_json, dataset.instances) if path and not os.path.isfile(path)]
        if absent and not required:
            logger.info("data set '%s' is left out: %s is not here", dataset.name, absent[0])
        else:
            register_dataset(dataset)


def data_root(configured: str) -> str:
    """Where data sets lie: cfg.DATASETS.ROOT, else the variable DETECTRON2_DATASETS, else "datasets"."""
    return os.path.expanduser(configured or os.environ.get("DETECTRON2_DATASETS", "datasets"))


def parse_entry(entry: Any, index: int, root: str) -> CustomDataset:
    """One entry of DATASETS.CUSTOM, its relative paths put under `root`. Raises ValueError where it breaks a rule."""
    where = f"DATASETS.CUSTOM[{index}]"
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} is {entry!r}, but must be a mapping with the keys {', '.join(KEYS)}")
    for key in entry:
        if key not in KEYS:
            near = get_close_matches(str(key).upper(), KEYS, n=1, cutoff=0.0)[0]
            raise ValueError(f"{where} has the unknown key '{key}'; the nearest known one is {near}")
    for key in ("NAME", "IMAGES"):
        if not entry.get(key):
            raise ValueError(f"{where} has no {key}, which every entry needs")
    values = {key.lower(): entry[key] for key in entry if entry[key] not in ("", None)}
    folders = [values["images"]] if isinstance(values["images"], str) else list(values["images"])
    values["images"] = folders[0]
    values["channel_folders"] = tuple(os.path.join(root, os.path.expanduser(folder)) for folder in folders[1:])
    for key in _PATH_KEYS:
        if key.lower() in values:
            values[key.lower()] = os.path.join(root, os.path.expanduser(values[key.lower()]))
    values["classes"] = tuple(values.get("classes", ()))
    where = f"{where} ({values['name']})"
    values["colors"] = _parse_colors(values.get("colors", {}), where)
    dataset = CustomDataset(**values)
    if (dataset.panoptic_json is None) != (dataset.panoptic_masks is None):
        raise ValueError(f"{where}: PANOPTIC_JSON and PANOPTIC_MASKS (its folder of PNG) must be given together")
    if not (dataset.instances or dataset.panoptic_json or dataset.semantic_masks):
        raise ValueError(f"{where} has no truth: give INSTANCES, PANOPTIC_JSON with PANOPTIC_MASKS, or SEMANTIC_MASKS")
    if dataset.classes and dataset.panoptic_json:
        raise ValueError(f"{where}: CLASSES is for data whose json does not name them, but PANOPTIC_JSON does")
    if dataset.semantic_masks and not (dataset.panoptic_json or dataset.instances or dataset.classes):
        raise ValueError(f"{where}: SEMANTIC_MASKS alone do not name the classes; list them in CLASSES")
    return dataset


def _parse_colors(content: Any, where: str) -> tuple[tuple[str, Color], ...]:
    """(class name, color) of each entry of COLORS."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: COLORS is {content!r}, but must map class names to colors")
    colors = []
    for name, value in content.items():
        if isinstance(value, str):
            try:
                value = list(ImageColor.getrgb(value)[:3])
            except ValueError as error:
                raise ValueError(f"{where}: COLORS has {value!r} for {name!r}, but {_COLOR_RULE}") from error
        if isinstance(value, tuple):
            value = list(value)
        if not _is_color(value):
            raise ValueError(f"{where}: COLORS has {value!r} for {name!r}, but {_COLOR_RULE}")
        colors.append((str(name), (value[0], value[1], value[2])))
    return tuple(colors)


def register_dataset(dataset: CustomDataset) -> None:
    """Put a data set into Detectron2's catalogs. Raises ValueError if its name is taken by another one."""
    if dataset.name in DatasetCatalog.list():
        if MetadataCatalog.get(dataset.name).get("custom_dataset") != dataset:
            raise ValueError(f"DATASETS.CUSTOM: the name '{dataset.name}' is taken by another data set; choose another")
        return
    classes = read_classes(dataset)
    MetadataCatalog.get(dataset.name).set(**metadata_of(dataset, classes), custom_dataset=dataset)
    DatasetCatalog.register(dataset.name, lambda: load_records(dataset, classes))


def read_classes(dataset: CustomDataset) -> ClassTable:
    """The classes of a data set, from its json or its CLASSES, in its COLORS. Raises ValueError naming the file.

    Where there are only label files, no class is known to be a thing.
    """
    classes, given = _named_classes(dataset), dict(dataset.colors)
    for name in given:
        if name not in classes.names:
            near = get_close_matches(name, classes.names, n=1, cutoff=0.0)[0]
            raise ValueError(f"COLORS of '{dataset.name}' names the class {name!r}, but the nearest there is {near!r}")
    known = classes.colors or (None,) * len(classes)
    colors = tuple(given.get(name, color) for name, color in zip(classes.names, known, strict=True))
    return replace(classes, colors=colors) if given else classes


def _named_classes(dataset: CustomDataset) -> ClassTable:
    ignored, path = dataset.ignore_label, dataset.panoptic_json or dataset.instances
    if path is None:
        no_ids = (None,) * len(dataset.classes)
        return _checked(dataset.name, names=dataset.classes, dataset_ids=no_ids, ignore_label=ignored)
    is_panoptic = dataset.panoptic_json is not None
    classes = classes_of_json(coco.read_json(path), path, panoptic=is_panoptic, ignore_label=ignored)
    if is_panoptic and dataset.instances:
        _check_instance_categories(dataset, classes)
    return _renumbered(dataset, classes) if dataset.classes else classes


def classes_of_json(content: Any, path: str, *, panoptic: bool, ignore_label: int = 255) -> ClassTable:
    """The `categories` of a COCO json, in ascending order of id; all are things unless `panoptic` lets them say so."""
    keys = ["id", "name", "isthing"] if panoptic else ["id", "name"]
    coco.require(content, ["categories"], path, "COCO")
    for category in content["categories"]:
        coco.require(category, keys, path, "category in a COCO")
    ordered = sorted(content["categories"], key=lambda category: category["id"])
    names, ids = [category["name"] for category in ordered], [category["id"] for category in ordered]
    for what, values in (("id", ids), ("name", names)):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{path}: the category {what} {twice[0]!r} stands twice, but must be unique")
    if not ids:
        raise ValueError(f"{path}: `categories` is empty, but there must be one at least")
    colors = [tuple(category["color"]) for category in ordered if _is_color(category.get("color"))]
    if any("color" in category for category in ordered) and len(colors) < len(ordered):
        logger.info("%s: the colors are left out: not every category has three numbers in 0..255", path)
    return _checked(
        path,
        names=tuple(names),
        is_thing=tuple(not panoptic or bool(category["isthing"]) for category in ordered),
        dataset_ids=tuple(ids),
        colors=tuple(colors) if len(colors) == len(ordered) else (),
        ignore_label=ignore_label,
    )


def _checked(where: str, **values: Any) -> ClassTable:
    """A table of these values. Raises ValueError that begins with `where`."""
    try:
        return ClassTable(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(c) is int and 0 <= c <= 255 for c in value)


def load_records(dataset: CustomDataset, classes: ClassTable) -> list[dict[str, Any]]:
    """Detectron2's records of a data set. Raises ValueError naming the file, the value and the rule."""
    if dataset.panoptic_json:
        assert dataset.panoptic_masks is not None, "parse_entry lets no json pass without its folder"
        result = coco.panoptic_records(
            dataset.panoptic_json,
            dataset.images,
            dataset.panoptic_masks,
            contiguous_ids=classes.number_of_id,
            thing_ids=classes.thing_of_id,
            semantic_root=dataset.semantic_masks,
        )
        if dataset.instances:
            _join_instances(result, dataset, classes.thing_of_id)
    elif dataset.instances:
        result = coco.instance_records(dataset.instances, dataset.images, classes.thing_of_id)
        if dataset.semantic_masks:
            _join_semantic(result, dataset.semantic_masks)
    else:
        assert dataset.semantic_masks is not None, "parse_entry lets no entry pass without truth"
        result = coco.semantic_records(dataset.images, dataset.semantic_masks)
    _join_channels(result, dataset.channel_folders)
    if not result:
        raise ValueError(f"DATASETS.CUSTOM: '{dataset.name}' holds no images")
    return result


def metadata_of(dataset: CustomDataset, classes: ClassTable) -> dict[str, Any]:
    """What Detectron2's Metadata hold of a data set."""
    metadata: dict[str, Any] = {
        "image_root": dataset.images,
        "evaluator_type": dataset.evaluator_type,
        "ignore_label": dataset.ignore_label,
        "label_divisor": 1000,
    }
    paths = {
        "json_file": dataset.instances,
        "panoptic_json": dataset.panoptic_json,
        "panoptic_root": dataset.panoptic_masks,
        "sem_seg_root": dataset.semantic_masks,
    }
    metadata.update({key: path for key, path in paths.items() if path})
    # As for Detectron2's own panoptic sets, both lists name all classes, so that a number indexes either.
    names = to_metadata(classes, things_alone=not dataset.has_things, with_labels=dataset.has_labels)
    return {**metadata, **names}


def _check_instance_categories(dataset: CustomDataset, classes: ClassTable) -> None:
    assert dataset.instances is not None, "called for data with instances"
    own = classes_of_json(coco.read_json(dataset.instances), dataset.instances, panoptic=False)
    for dataset_id, number in own.number_of_id.items():
        expected = classes.number_of_id.get(dataset_id)
        if expected is None or classes.name(expected) != own.name(number):
            raise ValueError(
                f"{dataset.instances}: category {dataset_id} '{own.name(number)}' is not the same in "
                f"{dataset.panoptic_json}, but both must name their classes alike"
            )


def _renumbered(dataset: CustomDataset, classes: ClassTable) -> ClassTable:
    """The json's categories in the order of CLASSES, which also names classes that no instance has.

    Where label files say where those are, they are no things.
    """
    unknown = [name for name in classes.names if name not in dataset.classes]
    if unknown:
        raise ValueError(f"{dataset.instances}: category '{unknown[0]}' is not in the CLASSES of '{dataset.name}'")
    id_of = dict(zip(classes.names, classes.dataset_ids, strict=True))
    return _checked(
        str(dataset.instances),
        names=dataset.classes,
        is_thing=tuple(not dataset.has_labels or name in id_of for name in dataset.classes),
        dataset_ids=tuple(id_of.get(name) for name in dataset.classes),
        ignore_label=dataset.ignore_label,
    )


def _join_instances(result: Sequence[dict[str, Any]], dataset: CustomDataset, thing_map: Mapping[int, int]) -> None:
    assert dataset.instances is not None, "called for data with instances"
    images, annotations = coco.instance_annotations(dataset.instances, thing_map)
    for record in result:
        image = images.get(record["image_id"])
        name = os.path.basename(record["file_name"])
        if image is None or os.path.basename(image["file_name"]) != name:
            other = "no image" if image is None else f"'{image['file_name']}'"
            raise ValueError(
                f"{dataset.instances}: image id {record['image_id']} is {other}, but '{name}' in "
                f"{dataset.panoptic_json}; both must number their images alike"
            )
        record["annotations"] = annotations[record["image_id"]]


def _join_channels(result: Sequence[dict[str, Any]], folders: Sequence[str]) -> None:
    files = [coco.files_by_stem(folder) for folder in folders]
    for record in result:
        stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
        named = [of.get(stem, os.path.join(folder, stem + ".png")) for of, folder in zip(files, folders, strict=True)]
        if named:
            record[CHANNEL_FILES] = named


def _join_semantic(result: Sequence[dict[str, Any]], folder: str) -> None:
    labels = coco.files_by_stem(folder)
    for record in result:
        stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
        record["sem_seg_file_name"] = labels.get(stem, os.path.join(folder, stem + ".png"))
