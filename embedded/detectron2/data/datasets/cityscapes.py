"""Cityscapes' own files: instances (from polygons or from PNGs of instance ids) and label images."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from PIL import Image

from .builtin_meta import CITYSCAPES_CATEGORIES

logger = logging.getLogger(__name__)

_IMAGE_SUFFIX = "leftImg8bit.png"
_THINGS = [c for c in CITYSCAPES_CATEGORIES if c["isthing"]]
_CONTIGUOUS_ID = {c["id"]: i for i, c in enumerate(_THINGS)}
_THING_ID_OF_NAME = {c["name"]: c["id"] for c in _THINGS}
# Labels with a negative id: they cover nothing.
_UNDRAWN_NAMES = ("license plate",)


def _list_files(image_dir: str, gt_dir: str) -> list[tuple[str, str]]:
    """(image, path of its annotations up to and including "gtFine_") for the images of all cities."""
    files = []
    for city in PathManager.ls(image_dir):
        for name in PathManager.ls(os.path.join(image_dir, city)):
            image = os.path.join(image_dir, city, name)
            assert name.endswith(_IMAGE_SUFFIX), f"{image}: the name of a Cityscapes image ends in {_IMAGE_SUFFIX}"
            files.append((image, os.path.join(gt_dir, city, name.removesuffix(_IMAGE_SUFFIX) + "gtFine_")))
    assert files, f"{image_dir}: no images there"
    return files


def load_cityscapes_semantic(image_dir: str, gt_dir: str) -> list[dict[str, Any]]:
    """Records with file_name, sem_seg_file_name (PNG of train ids), height and width."""
    records = []
    for image, annotation in _list_files(image_dir, gt_dir):
        with PathManager.open(f"{annotation}polygons.json") as file:
            content = json.load(file)
        size = {"height": content["imgHeight"], "width": content["imgWidth"]}
        records.append({"file_name": image, "sem_seg_file_name": f"{annotation}labelTrainIds.png", **size})
    assert PathManager.isfile(records[0]["sem_seg_file_name"]), (
        f"{records[0]['sem_seg_file_name']} is not there: make it with "
        "cityscapesscripts/preparation/createTrainIdLabelImgs.py"
    )
    return records


def load_cityscapes_instances(
    image_dir: str, gt_dir: str, from_json: bool = True, to_polygons: bool = True
) -> list[dict[str, Any]]:
    """Records with the instances of the eight thing classes as polygons, or with `to_polygons` False as RLE.

    from_json: read the polygons (needs shapely), otherwise the PNGs of instance ids.
    """
    assert to_polygons or not from_json, "from_json gives polygons only: from_json=False gives masks"
    records = []
    for image, annotation in _list_files(image_dir, gt_dir):
        if from_json:
            size, annotations = _instances_from_polygons(f"{annotation}polygons.json")
        else:
            size, annotations = _instances_from_png(f"{annotation}instanceIds.png", to_polygons)
        for instance in annotations:
            instance["category_id"] = _CONTIGUOUS_ID[instance["category_id"]]
        records.append({"file_name": image, "image_id": os.path.basename(image), **size, "annotations": annotations})
    logger.info(f"{len(records)} images with instances from {image_dir}")
    return records


def _instances_from_polygons(json_file: str) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Later objects of the file lie over earlier ones: go backwards and cut away what is covered already."""
    try:
        from shapely.geometry import MultiPolygon, Polygon
    except ImportError as error:
        raise ImportError("reading Cityscapes polygons needs shapely: pip install shapely") from error
    with PathManager.open(json_file) as file:
        content = json.load(file)
    covered, annotations = Polygon(), []
    for item in reversed(content["objects"]):
        name = item["label"].removesuffix("group")
        if "deleted" in item or name in _UNDRAWN_NAMES:
            continue
        # Points are pixel numbers. Cityscapes' own rasteriser also fills the pixels on the outline: half a pixel more.
        shape = Polygon(np.asarray(item["polygon"], dtype=np.float32) + 0.5).buffer(0.5, quad_segs=4)
        visible = shape.difference(covered)
        covered = covered.union(shape)
        if name not in _THING_ID_OF_NAME or visible.is_empty:
            continue
        parts = visible.geoms if isinstance(visible, MultiPolygon) else [visible]
        annotations.append(
            {
                "iscrowd": item["label"].endswith("group"),
                "category_id": _THING_ID_OF_NAME[name],
                "segmentation": [np.asarray(part.exterior.coords).reshape(-1).tolist() for part in parts],
                "bbox": visible.bounds,
                "bbox_mode": BoxMode.XYXY_ABS,
            }
        )
    return {"height": content["imgHeight"], "width": content["imgWidth"]}, annotations


def _instances_from_png(png_file: str, to_polygons: bool) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Pixels hold category id * 1000 + number of the instance, or for a crowd the category id alone."""
    with PathManager.open(png_file, "rb") as file:
        ids = np.asarray(Image.open(file))
    annotations = []
    for instance_id in np.unique(ids).tolist():
        category_id = instance_id // 1000 if instance_id >= 1000 else instance_id
        if category_id not in _CONTIGUOUS_ID:
            continue
        mask = np.asfortranarray(ids == instance_id, dtype=np.uint8)
        ys, xs = np.nonzero(mask)
        x0, y0, x1, y1 = (int(v) for v in (xs.min(), ys.min(), xs.max(), ys.max()))
        segmentation = _outlines(mask) if to_polygons else mask_util.encode(mask)
        if x0 == x1 or y0 == y1 or not segmentation:
            continue
        annotations.append(
            {
                "iscrowd": instance_id < 1000,
                "category_id": category_id,
                "segmentation": segmentation,
                "bbox": (x0, y0, x1, y1),
                "bbox_mode": BoxMode.XYXY_ABS,
            }
        )
    return {"height": ids.shape[0], "width": ids.shape[1]}, annotations


def _outlines(mask: np.ndarray) -> list[list[float]]:
    import cv2  # only where it is used: it is slow to load

    contours = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[-2]
    return [contour.reshape(-1).tolist() for contour in contours if len(contour) >= 3]
