"""Read annotation files in the COCO forms into Detectron2's list of records, checking what a json can tell.

A category has a dataset id (any number, as in the json) and a contiguous id 0..K-1 (what the model knows).
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.structures import BoxMode

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def read_json(path: str) -> Any:
    """The content of a json file. Raises ValueError naming the file if it is missing or is no json."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as json ({error})") from error


def require(content: Mapping[str, Any], keys: Iterable[str], path: str, form: str) -> None:
    """Raise ValueError naming the file unless `content` is a dict that has all `keys`."""
    missing = [key for key in keys if key not in content] if isinstance(content, dict) else list(keys)
    if missing:
        raise ValueError(f"{path}: a {form} json has the keys {', '.join(keys)}, but {', '.join(missing)} is missing")


def panoptic_records(
    json_path: str,
    image_root: str,
    png_root: str,
    *,
    contiguous_ids: Mapping[int, int],
    thing_ids: Iterable[int],
    semantic_root: str | None = None,
) -> list[Record]:
    """One record for each annotation of a COCO panoptic json, category ids made contiguous.

    `contiguous_ids`: dataset id -> contiguous id, of things and stuff; `thing_ids`: the dataset ids that are things.
    Without an `images` list in the json, an annotation's image is the file of the same stem in `image_root`.
    """
    content = read_json(json_path)
    require(content, ["annotations"], json_path, "COCO panoptic")
    images = images_by_id(content, json_path) if "images" in content else None
    files = None if images is not None else files_by_stem(image_root)
    semantic_files = None if semantic_root is None else files_by_stem(semantic_root)
    things, records, seen = set(thing_ids), [], set()
    for annotation in content["annotations"]:
        require(annotation, ["image_id", "file_name", "segments_info"], json_path, "COCO panoptic annotation in a")
        image_id = annotation["image_id"]
        if image_id in seen:
            raise ValueError(f"{json_path}: image_id {image_id} has two annotations, but must have one")
        seen.add(image_id)
        stem = os.path.splitext(annotation["file_name"])[0]
        record = _image_fields(image_id, stem, images, files, image_root, json_path)
        record["pan_seg_file_name"] = os.path.join(png_root, annotation["file_name"])
        if semantic_files is not None:
            record["sem_seg_file_name"] = _file_of(stem, semantic_files, semantic_root)
        record["segments_info"] = _segments(annotation, contiguous_ids, things, json_path)
        records.append(record)
    if images is not None and len(images) > len(records):
        _warn_left_out(json_path, "images without an annotation", len(images) - len(records))
    return records


def instance_annotations(json_path: str, contiguous_ids: Mapping[int, int]) -> tuple[dict[Any, Record], dict]:
    """(images by id, annotations by image id) of a COCO instances json, category ids made contiguous.

    Annotations of categories that `contiguous_ids` lacks are left out, and (with a warning) those that have neither an
    area nor a box. Of those with a box alone only a detector can learn.
    """
    content = read_json(json_path)
    require(content, ["images", "annotations", "categories"], json_path, "COCO instances")
    images = images_by_id(content, json_path)
    known = {category["id"] for category in content["categories"]}
    annotations, empty, boxes_alone = defaultdict(list), 0, 0
    for annotation in content["annotations"]:
        require(annotation, ["image_id", "category_id"], json_path, "COCO instances annotation in a")
        name = f"{json_path}: annotation {annotation.get('id', '')}"
        if annotation["image_id"] not in images:
            raise ValueError(f"{name}: image_id {annotation['image_id']} is not in `images`")
        if annotation["category_id"] not in known:
            raise ValueError(f"{name}: category_id {annotation['category_id']} is not in `categories`")
        if annotation["category_id"] not in contiguous_ids:
            continue
        converted = _instance(annotation, contiguous_ids)
        empty += converted is None
        if converted is not None:
            boxes_alone += "segmentation" not in converted
            annotations[annotation["image_id"]].append(converted)
    if empty:
        _warn_left_out(json_path, "annotations without a segmentation of at least three points", empty)
    if boxes_alone:
        logger.warning("%s: %d annotations have a box alone: models of masks leave them out", json_path, boxes_alone)
    return images, annotations


def instance_records(json_path: str, image_root: str, contiguous_ids: Mapping[int, int]) -> list[Record]:
    """One record for each image of a COCO instances json; an image without annotations has an empty list."""
    images, annotations = instance_annotations(json_path, contiguous_ids)
    return [
        {**_image_fields(image_id, "", images, None, image_root, json_path), "annotations": annotations[image_id]}
        for image_id in images
    ]


def semantic_records(image_root: str, semantic_root: str) -> list[Record]:
    """One record for each image of a folder, paired by stem with the label files of another, sorted by name."""
    images, labels = files_by_stem(image_root), files_by_stem(semantic_root)
    without = sorted(set(images) - set(labels))
    if without:
        raise ValueError(f"{semantic_root}: no label file for {len(without)} images of {image_root}, e.g. {without[0]}")
    return [{"file_name": images[stem], "image_id": stem, "sem_seg_file_name": labels[stem]} for stem in sorted(images)]


def images_by_id(content: Mapping[str, Any], path: str) -> dict[Any, Record]:
    """The `images` of a COCO json by id. Raises ValueError for an id that stands twice."""
    counts = Counter(image["id"] for image in content["images"])
    twice = [image_id for image_id, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"{path}: image id {twice[0]} stands twice in `images`, but must be unique")
    return {image["id"]: image for image in content["images"]}


def files_by_stem(folder: str) -> dict[str, str]:
    """File name without extension -> path, for the files of a folder. Raises ValueError if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {os.path.splitext(entry.name)[0]: entry.path for entry in entries if entry.is_file()}
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read as a folder ({error})") from error


def _file_of(stem: str, files: Mapping[str, str], folder: str | None) -> str:
    # A missing file is reported by the check of all files, together with its fellows.
    return files.get(stem, os.path.join(folder or "", stem + ".png"))


def _image_fields(
    image_id: Any, stem: str, images: Mapping | None, files: Mapping | None, image_root: str, json_path: str
) -> Record:
    if images is None:
        assert files is not None, "either the json or the folder lists the images"
        return {"file_name": _file_of(stem, files, os.path.join(image_root, "")), "image_id": image_id}
    if image_id not in images:
        raise ValueError(f"{json_path}: image_id {image_id} of an annotation is not in `images`")
    image = images[image_id]
    require(image, ["file_name"], json_path, "COCO image in a")
    fields = {"file_name": os.path.join(image_root, image["file_name"]), "image_id": image_id}
    fields.update({key: image[key] for key in ("height", "width") if key in image})
    return fields


def _segments(annotation: Record, contiguous_ids: Mapping[int, int], things: set[int], path: str) -> list[Record]:
    segments, seen = [], set()
    for segment in annotation["segments_info"]:
        require(segment, ["id", "category_id"], path, "segment in a COCO panoptic")
        name = f"{path}: {annotation['file_name']}: segment {segment['id']}"
        if segment["category_id"] not in contiguous_ids:
            raise ValueError(f"{name}: category_id {segment['category_id']} is not among the categories")
        if segment["id"] in seen or segment["id"] == 0:
            raise ValueError(f"{name}: a segment id must be unique in its image and not 0 (void)")
        seen.add(segment["id"])
        converted = {
            "id": segment["id"],
            "category_id": contiguous_ids[segment["category_id"]],
            "iscrowd": int(segment.get("iscrowd", 0)),
            "isthing": segment["category_id"] in things,
        }
        converted.update({key: segment[key] for key in ("area", "bbox") if key in segment})
        segments.append(converted)
    return segments


def _instance(annotation: Record, contiguous_ids: Mapping[int, int]) -> Record | None:
    given = segmentation = annotation.get("segmentation")
    if isinstance(given, list):
        segmentation = [polygon for polygon in given if len(polygon) >= 6]
    # An outline that encloses nothing is a fault; none, or an empty one, is how data for detectors look.
    if not segmentation and (given or "bbox" not in annotation):
        return None
    converted = {
        "id": annotation.get("id"),
        "category_id": contiguous_ids[annotation["category_id"]],
        "iscrowd": int(annotation.get("iscrowd", 0)),
    }
    if segmentation:
        converted["segmentation"] = segmentation
    if "bbox" in annotation:
        converted.update(bbox=annotation["bbox"], bbox_mode=BoxMode.XYWH_ABS)
    return converted


def _warn_left_out(path: str, what: str, count: int) -> None:
    logger.warning("%s: left out %d %s", path, count, what)
