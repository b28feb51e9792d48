"""What a registered data set knows to be true of its images, read from its classes, its records and its files.

Two names of a class meet here: the data set's own category id, which json files hold, and the number by which models
know it (see `classes`). Shapes: H, W pixels of an image.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from numpy.typing import NDArray
from pycocotools import mask as rle_codec

from mask2former_ext.classes import ClassTable
from mask2former_ext.data.image_io import read_labels, read_panoptic
from mask2former_ext.data.sets.published import require_class_table
from mask2former_ext.data.sets.records import read_json, require
from mask2former_ext.data.targets.annotations import has_outline
from mask2former_ext.data.targets.masks import (
    check_segment_ids,
    encode_mask,
    panoptic_ids,
    panoptic_to_semantic,
    segmentation_mask,
)
from mask2former_ext.data.targets.separated import separate

Record = Mapping[str, Any]


class PanopticImage(NamedTuple):
    path: str
    ids: NDArray[np.int32]  # (H, W), 0 where void
    segments: list[dict[str, Any]]  # as in the json: id, category_id of the data set, iscrowd


class PanopticTruth:
    """A COCO panoptic json and its folder of PNGs."""

    def __init__(self, json_file: str, folder: str) -> None:
        """ValueError if the json cannot be read or lacks a part of the form."""
        content = read_json(json_file)
        require(content, ["annotations", "categories"], json_file, "COCO panoptic")
        for category in content["categories"]:
            require(category, ["id", "name", "isthing"], json_file, "category in a COCO panoptic")
        self.json_file = json_file
        self.folder = folder
        self.categories: list[dict[str, Any]] = content["categories"]
        self.is_thing = {int(c["id"]): bool(c["isthing"]) for c in self.categories}
        self._annotation_of = {_image_key(annotation["image_id"]): annotation for annotation in content["annotations"]}
        # The evaluators of one run ask for the same image one after the other.
        self.read = functools.lru_cache(maxsize=2)(self._read)

    def __contains__(self, image_id: int | str | None) -> bool:
        return _image_key(image_id) in self._annotation_of

    def _read(self, image_id: int | str) -> PanopticImage:
        """ValueError, naming the file, if the PNG cannot be read or its ids are not those of the json."""
        annotation = self._annotation_of[_image_key(image_id)]
        path = os.path.join(self.folder, annotation["file_name"])
        ids, segments = panoptic_ids(read_panoptic(path)), annotation["segments_info"]
        check_segment_ids(ids, (int(segment["id"]) for segment in segments), f"{path} and {self.json_file}")
        return PanopticImage(path, ids, segments)


class DatasetTruth:
    """One registered data set: its records by file name, its `classes`, and which kinds of truth it has."""

    def __init__(self, dataset_name: str, separated: bool = False) -> None:
        """`separated`: by the classes of a model that numbers things and stuff apart (`data.targets.separated`).

        ValueError if the data set names no classes, or has a panoptic json in which a record has no truth.
        """
        self.name = dataset_name
        self._records = DatasetCatalog.get(dataset_name)  # first: loading may name the classes
        self._separation = separate(dataset_name) if separated else None
        self._classes_of_records = require_class_table(dataset_name)
        self.classes: ClassTable = self._classes_of_records if self._separation is None else self._separation.classes
        self.record_of = {record["file_name"]: record for record in self._records}
        self.panoptic: PanopticTruth | None = None
        paths = MetadataCatalog.get(dataset_name)
        self.json_file: str | None = paths.get("json_file")  # of the instances, whether or not it exists
        if paths.get("panoptic_json"):
            self.panoptic = PanopticTruth(paths.panoptic_json, paths.panoptic_root)
            without = [r["file_name"] for r in self._records if r.get("image_id") not in self.panoptic]
            if without:
                raise ValueError(
                    f"{self.panoptic.json_file}: no annotation for {len(without)} images, first {without[0]}"
                )

    @property
    def instances_json(self) -> str | None:
        """The instances json, if one is named that exists."""
        return self.json_file if self.json_file and os.path.isfile(self.json_file) else None

    @property
    def has_instances(self) -> bool:
        known = self.instances_json is not None or self.panoptic is not None
        return known or any("annotations" in record for record in self._records)

    @property
    def has_semantic(self) -> bool:
        return self.panoptic is not None or any("sem_seg_file_name" in record for record in self._records)

    def record(self, inputs: Record) -> Record:
        """The record that the model's input comes from."""
        if inputs["file_name"] not in self.record_of:
            raise ValueError(f"{inputs['file_name']} is not an image of the data set {self.name}")
        return self.record_of[inputs["file_name"]]

    def semantic(self, inputs: Record) -> tuple[str, NDArray[np.integer]]:
        """(file, contiguous class of each pixel (H, W)): the semantic label file, else by the panoptic truth."""
        record = self.record(inputs)
        if "sem_seg_file_name" in record:
            path = record["sem_seg_file_name"]
            labels = read_labels(path)
            if self._separation is not None:
                labels = self._separation.labels(labels, self.classes.ignore_label, path)
            return path, labels
        if self.panoptic is None:
            raise ValueError(f"{record['file_name']}: data set {self.name} has no semantic truth of this image")
        path, ids, segments = self.panoptic.read(record["image_id"])
        label_of = self.classes.label_of_id
        unknown = {segment["category_id"] for segment in segments} - label_of.keys()
        if unknown:
            raise ValueError(f"{path}: category ids {sorted(unknown)} are no classes of data set {self.name}")
        labeled = [{**segment, "category_id": label_of[segment["category_id"]]} for segment in segments]
        return path, panoptic_to_semantic(ids, labeled, self.classes.ignore_label)

    def thing_categories(self) -> list[dict[str, Any]]:
        """The things as COCO categories: id of the data set and name."""
        if self.panoptic is not None:
            return [{"id": c["id"], "name": c["name"]} for c in self.panoptic.categories if c["isthing"]]
        things = sorted(self.classes.thing_of_id.items())
        return [{"id": category, "name": self.classes.name(k, is_thing=True)} for category, k in things]

    def instances(self, inputs: Record) -> list[dict[str, Any]]:
        """Annotations in COCO's form, category ids of the data set: from the panoptic truth, else from the record."""
        record = self.record(inputs)
        if self.panoptic is not None:
            _, ids, segments = self.panoptic.read(record["image_id"])
            things = [segment for segment in segments if self.panoptic.is_thing[segment["category_id"]]]
            return [_annotation(record, s["category_id"], encode_mask(ids == s["id"]), s) for s in things]
        id_of_thing = self._classes_of_records.id_of_thing
        annotations = []
        for annotation in record.get("annotations", []):
            rle = None
            if has_outline(annotation):
                mask = segmentation_mask(annotation["segmentation"], inputs["height"], inputs["width"])
                rle = encode_mask(mask)
            content = _annotation(record, id_of_thing[annotation["category_id"]], rle, annotation)
            if "bbox" in annotation:
                box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
                content["bbox"] = [float(side) for side in box]
                content.setdefault("area", content["bbox"][2] * content["bbox"][3])
            annotations.append(content)
        return annotations


def _annotation(record: Record, category: int, rle: dict[str, Any] | None, source: Mapping[str, Any]) -> dict[str, Any]:
    """`rle` None: only a box is known, which the caller adds."""
    content = {
        "image_id": record["image_id"],
        "category_id": category,
        "iscrowd": int(source.get("iscrowd", 0)),
    }
    if rle is None:
        return content
    outline = {"segmentation": rle, "area": float(rle_codec.area(rle)), "bbox": rle_codec.toBbox(rle).tolist()}
    return {**content, **outline}


def _image_key(image_id: int | str | None) -> str:
    """Loaders may turn "000139" into 139 or leave it: both name one image."""
    text = str(image_id)
    return str(int(text)) if text.isdecimal() else text
