"""What a registered data set knows to be true of its images, read from its metadata, its records and its files.

Two numberings of classes meet here: the data set's own category ids, which json files hold, and the contiguous ones
0..K-1 that models speak. Shapes: H, W pixels of an image.
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

from mask2former_ext.data.image_io import read_labels, read_panoptic
from mask2former_ext.data.separated import ANY_THING, separate
from mask2former_ext.data.sets.published import thing_names
from mask2former_ext.data.sets.records import read_json, require
from mask2former_ext.data.targets.annotations import has_outline
from mask2former_ext.data.targets.masks import (
    check_segment_ids,
    encode_mask,
    panoptic_ids,
    panoptic_to_semantic,
    segmentation_mask,
)

Record = Mapping[str, Any]
_DEFAULT_IGNORE_LABEL = 255


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
    """One registered data set: its records by file name, its class maps, and which kinds of truth it has."""

    def __init__(self, dataset_name: str, separated: bool = False) -> None:
        """`separated`: by the classes of a model that numbers things and stuff apart (`data.separated`).

        ValueError if a record has no panoptic truth where the data set has a panoptic json.
        """
        self.name = dataset_name
        self._records = DatasetCatalog.get(dataset_name)  # first: loading may complete the metadata
        self._separation = separate(dataset_name) if separated else None
        self.metadata = MetadataCatalog.get(dataset_name) if self._separation is None else self._separation.metadata
        self.record_of = {record["file_name"]: record for record in self._records}
        self.thing_of_id = _contiguous_of_id(self.metadata, "thing")
        self.stuff_of_id = _contiguous_of_id(self.metadata, "stuff")
        self.class_of_id = {**self.stuff_of_id, **self.thing_of_id}
        self.id_of_class = {k: category for category, k in self.class_of_id.items()}
        if separated:
            # "Any thing" is what a pixel may be, but no class of a segment; Detectron2 writes it as category 0.
            self.stuff_of_id = {category: k for category, k in self.stuff_of_id.items() if k != ANY_THING}
            self.class_of_id = {**dict.fromkeys(self.thing_of_id, ANY_THING), **self.stuff_of_id}
            self.id_of_class = {ANY_THING: 0, **{k: category for category, k in self.stuff_of_id.items()}}
        self.ignore_label = self.metadata.get("ignore_label", _DEFAULT_IGNORE_LABEL)
        self.panoptic: PanopticTruth | None = None
        if self.metadata.get("panoptic_json"):
            self.panoptic = PanopticTruth(self.metadata.panoptic_json, self.metadata.panoptic_root)
            without = [r["file_name"] for r in self._records if r.get("image_id") not in self.panoptic]
            if without:
                raise ValueError(
                    f"{self.panoptic.json_file}: no annotation for {len(without)} images, first {without[0]}"
                )

    @property
    def instances_json(self) -> str | None:
        """The instances json, if the metadata name one that exists."""
        path = self.metadata.get("json_file")
        return path if path and os.path.isfile(path) else None

    @property
    def has_instances(self) -> bool:
        known = self.instances_json is not None or self.panoptic is not None
        return known or any("annotations" in record for record in self._records)

    @property
    def has_semantic(self) -> bool:
        return self.panoptic is not None or any("sem_seg_file_name" in record for record in self._records)

    def record(self, inputs: Record) -> Record:
        """The record that the model's input was made from."""
        if inputs["file_name"] not in self.record_of:
            raise ValueError(f"{inputs['file_name']} is not an image of the data set {self.name}")
        return self.record_of[inputs["file_name"]]

    def semantic(self, inputs: Record) -> tuple[str, NDArray[np.integer]]:
        """(file, contiguous class of each pixel (H, W)): the semantic label file, else made from the panoptic truth."""
        record = self.record(inputs)
        if "sem_seg_file_name" in record:
            path = record["sem_seg_file_name"]
            labels = read_labels(path)
            if self._separation is not None:
                labels = self._separation.labels(labels, self.ignore_label, path)
            return path, labels
        if self.panoptic is None:
            raise ValueError(f"{record['file_name']}: data set {self.name} has no semantic truth of this image")
        path, ids, segments = self.panoptic.read(record["image_id"])
        unknown = {segment["category_id"] for segment in segments} - self.class_of_id.keys()
        if unknown:
            raise ValueError(f"{path}: category ids {sorted(unknown)} are not in the metadata of {self.name}")
        contiguous = [{**segment, "category_id": self.class_of_id[segment["category_id"]]} for segment in segments]
        return path, panoptic_to_semantic(ids, contiguous, self.ignore_label)

    def thing_categories(self) -> list[dict[str, Any]]:
        """The things as COCO categories: id of the data set and name."""
        if self.panoptic is not None:
            return [{"id": c["id"], "name": c["name"]} for c in self.panoptic.categories if c["isthing"]]
        name_of = thing_names(self.metadata)
        return [{"id": category, "name": name_of[k]} for category, k in sorted(self.thing_of_id.items())]

    def instances(self, inputs: Record) -> list[dict[str, Any]]:
        """Annotations in COCO's form, category ids of the data set: from the panoptic truth, else from the record."""
        record = self.record(inputs)
        if self.panoptic is not None:
            _, ids, segments = self.panoptic.read(record["image_id"])
            things = [segment for segment in segments if self.panoptic.is_thing[segment["category_id"]]]
            return [_annotation(record, s["category_id"], encode_mask(ids == s["id"]), s) for s in things]
        of_records = _contiguous_of_id(MetadataCatalog.get(self.name), "thing")
        id_of_thing = {k: category for category, k in of_records.items()}
        annotations = []
        for annotation in record.get("annotations", []):
            rle = None
            if has_outline(annotation):
                mask = segmentation_mask(annotation["segmentation"], inputs["height"], inputs["width"])
                rle = encode_mask(mask)
            made = _annotation(record, id_of_thing[annotation["category_id"]], rle, annotation)
            if "bbox" in annotation:
                box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
                made["bbox"] = [float(side) for side in box]
                made.setdefault("area", made["bbox"][2] * made["bbox"][3])
            annotations.append(made)
        return annotations


def _annotation(record: Record, category: int, rle: dict[str, Any] | None, source: Mapping[str, Any]) -> dict[str, Any]:
    """`rle` None: only a box is known, which the caller adds."""
    made = {
        "image_id": record["image_id"],
        "category_id": category,
        "iscrowd": int(source.get("iscrowd", 0)),
    }
    if rle is None:
        return made
    outline = {"segmentation": rle, "area": float(rle_codec.area(rle)), "bbox": rle_codec.toBbox(rle).tolist()}
    return {**made, **outline}


def _image_key(image_id: int | str | None) -> str:
    """Loaders may turn "000139" into 139 or leave it: both name one image."""
    text = str(image_id)
    return str(int(text)) if text.isdecimal() else text


def _contiguous_of_id(metadata: Any, kind: str) -> dict[int, int]:
    """Category id -> contiguous class of the "thing" or "stuff" classes; equal where the metadata hold names only."""
    written = metadata.get(f"{kind}_dataset_id_to_contiguous_id")
    if written is not None:
        return dict(written)
    return {k: k for k in range(len(metadata.get(f"{kind}_classes", [])))}
