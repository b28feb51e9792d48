"""Boxes in Pascal VOC's format: an xml file per image, lists of names per split."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog

CLASS_NAMES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
    "sheep sofa train tvmonitor".split()
)


def load_voc_instances(dirname: str, split: str, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Read a split (train, val, trainval, test). dirname holds Annotations, ImageSets and JPEGImages.

    Objects marked difficult are included.
    """
    with PathManager.open(os.path.join(dirname, "ImageSets", "Main", f"{split}.txt")) as file:
        image_ids = file.read().split()
    return [_load_image(dirname, image_id, class_names) for image_id in image_ids]


def _load_image(dirname: str, image_id: str, class_names: Sequence[str]) -> dict[str, Any]:
    with PathManager.open(os.path.join(dirname, "Annotations", f"{image_id}.xml")) as file:
        tree = ET.parse(file)
    return {
        "file_name": os.path.join(dirname, "JPEGImages", f"{image_id}.jpg"),
        "image_id": image_id,
        "height": int(tree.findtext("size/height", "")),
        "width": int(tree.findtext("size/width", "")),
        "annotations": [_load_object(element, class_names) for element in tree.findall("object")],
    }


def _load_object(element: ET.Element, class_names: Sequence[str]) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(element.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
    # The file counts pixels from 1, both ends included: pixels 1..W cover 0..W.
    return {
        "category_id": class_names.index(element.findtext("name")),
        "bbox": [x0 - 1, y0 - 1, x1, y1],
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def register_pascal_voc(
    name: str, dirname: str, split: str, year: int, class_names: Sequence[str] = CLASS_NAMES
) -> None:
    DatasetCatalog.register(name, lambda: load_voc_instances(dirname, split, class_names))
    MetadataCatalog.get(name).set(thing_classes=list(class_names), dirname=dirname, year=year, split=split)
