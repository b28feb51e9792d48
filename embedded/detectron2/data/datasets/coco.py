"""Data in COCO's instance format (json of images, annotations, categories) and plain folders of label images."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import logging
import os
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode, PolygonMasks
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import file_lock
from pycocotools.coco import COCO

from ..catalog import DatasetCatalog, MetadataCatalog

logger = logging.getLogger(__name__)

_COPIED_KEYS = ("iscrowd", "bbox", "keypoints", "category_id")


def load_coco_json(
    json_file: str, image_root: str, dataset_name: str | None = None, extra_annotation_keys: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Read a COCO json of instances or person keypoints into one record per image, by ascending image id.

    dataset_name: if given, thing_classes and thing_dataset_id_to_contiguous_id (ascending category id -> 0, 1, ...)
        become its metadata, and category ids are mapped; otherwise they stay those of the file.
    extra_annotation_keys: annotation keys to copy as they are, beside iscrowd, bbox, keypoints, category_id and
        segmentation.

    Polygons of fewer than three points are dropped, and the instance with its last one. Keypoints, which the file
    counts in whole pixels, get 0.5 added.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(PathManager.get_local_path(json_file))
    contiguous_id = None if dataset_name is None else _register_categories(api, dataset_name)
    image_ids = sorted(api.imgs)
    annotation_ids = [a["id"] for image_id in image_ids for a in api.imgToAnns[image_id]]
    if len(annotation_ids) < len(api.anns):
        logger.warning(f"{json_file}: {len(api.anns) - len(annotation_ids)} annotations belong to no image of the file")
    # COCO 2014's minival files, which are widely used, repeat a few ids; it does no harm there.
    assert "minival" in os.fspath(json_file) or len(set(annotation_ids)) == len(annotation_ids), (
        f"{json_file}: annotation ids are not unique"
    )
    keys = [*_COPIED_KEYS, *(extra_annotation_keys or [])]
    records, dropped = [], 0
    for image_id in image_ids:
        image = api.imgs[image_id]
        annotations = [_read_annotation(a, image_id, keys, contiguous_id) for a in api.imgToAnns[image_id]]
        dropped += annotations.count(None)
        records.append(
            {
                "file_name": os.path.join(image_root, image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image_id,
                "annotations": [a for a in annotations if a is not None],
            }
        )
    if dropped:
        logger.warning(f"{json_file}: {dropped} instances without a polygon of at least three points are left out")
    logger.info(f"{len(records)} images in COCO format from {json_file}")
    return records


def _register_categories(api: COCO, dataset_name: str) -> dict[int, int]:
    ids = sorted(api.cats)
    metadata = MetadataCatalog.get(dataset_name)
    metadata.thing_classes = [api.cats[i]["name"] for i in ids]
    if ids != [*range(1, len(ids) + 1)] and "coco" not in dataset_name:
        logger.warning(f"{dataset_name}: category ids are not 1..{len(ids)}; they are mapped, in ascending order")
    metadata.thing_dataset_id_to_contiguous_id = {category_id: i for i, category_id in enumerate(ids)}
    return metadata.thing_dataset_id_to_contiguous_id


def _read_annotation(
    source: dict[str, Any], image_id: int, keys: Sequence[str], contiguous_id: dict[int, int] | None
) -> dict[str, Any] | None:
    """One annotation in Detectron2's form; None if it has polygons, but no valid one."""
    assert source["image_id"] == image_id, f"annotation {source['id']} is of image {source['image_id']}, not {image_id}"
    assert not source.get("ignore", 0), f"annotation {source['id']} has 'ignore' set, which is not supported"
    target = {key: source[key] for key in keys if key in source}
    if "bbox" in target and len(target["bbox"]) == 0:
        raise ValueError(f"image {image_id}: the 'bbox' of annotation {source.get('id')} is empty, COCO has 4 numbers")
    target["bbox_mode"] = BoxMode.XYWH_ABS
    segmentation = source.get("segmentation")
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
    elif isinstance(segmentation, list) and segmentation:
        segmentation = [polygon for polygon in segmentation if len(polygon) % 2 == 0 and len(polygon) >= 6]
        if not segmentation:
            return None
    if segmentation:
        target["segmentation"] = segmentation
    if target.get("keypoints"):
        target["keypoints"] = _shifted_keypoints(target["keypoints"], 0.5)
    if contiguous_id is not None:
        if target["category_id"] not in contiguous_id:
            raise KeyError(f"image {image_id}: category_id {target['category_id']} is not in the file's 'categories'")
        target["category_id"] = contiguous_id[target["category_id"]]
    return target


def _shifted_keypoints(keypoints: Sequence[float], shift: float) -> list[float]:
    """COCO counts keypoints in whole pixels, everything else from the pixel's corner: half a pixel between them."""
    return [value if i % 3 == 2 else value + shift for i, value in enumerate(keypoints)]


def load_sem_seg(gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg") -> list[dict[str, Any]]:
    """Pair the label images of one folder with the images of another: equal names but for the given endings.

    What has no partner is left out, with a warning. Records hold file_name and sem_seg_file_name.
    """
    labels = {name[: -len(gt_ext)]: name for name in PathManager.ls(gt_root) if name.endswith(gt_ext)}
    images = {name[: -len(image_ext)]: name for name in PathManager.ls(image_root) if name.endswith(image_ext)}
    assert labels, f"{gt_root}: no label image (*{gt_ext}) there"
    common = sorted(labels.keys() & images.keys(), key=lambda stem: os.path.splitext(images[stem])[0])
    if not common:
        raise ValueError(f"no image {image_root}/*{image_ext} has the name of a label image {gt_root}/*{gt_ext}")
    if not len(common) == len(labels) == len(images):
        logger.warning(
            f"{image_root} has {len(images)} images, {gt_root} {len(labels)} label images: {len(common)} fit together"
        )
    return [
        {"file_name": os.path.join(image_root, images[stem]), "sem_seg_file_name": os.path.join(gt_root, labels[stem])}
        for stem in common
    ]


def _area(annotation: dict[str, Any], bbox: list[float]) -> float:
    """Of the mask where there is one (polygons by their outline, RLE by pixels), else of the box (XYWH or XYWHA)."""
    segmentation = annotation.get("segmentation")
    if segmentation is None:
        return bbox[2] * bbox[3]
    if isinstance(segmentation, list):
        return PolygonMasks([segmentation]).area()[0].item()
    if isinstance(segmentation, dict):
        return mask_util.area(segmentation).item()
    raise TypeError(f"segmentation must be polygons or a COCO RLE, got {type(segmentation).__name__}")


def _coco_annotation(annotation: dict[str, Any]) -> dict[str, Any]:
    """What an instance has in COCO's form, but for its ids."""
    bbox = np.asarray(annotation["bbox"], dtype=float)
    if bbox.shape not in ((4,), (5,)):
        raise ValueError(f"bbox must be 4 or (rotated) 5 numbers, got {annotation['bbox']}")
    mode = BoxMode.XYWH_ABS if len(bbox) == 4 else BoxMode.XYWHA_ABS
    box = BoxMode.convert(bbox.tolist(), annotation["bbox_mode"], mode)
    target = {
        "bbox": [round(float(value), 3) for value in box],
        "area": float(_area(annotation, box)),
        "iscrowd": int(annotation.get("iscrowd", 0)),
    }
    if "keypoints" in annotation:
        target["keypoints"] = _shifted_keypoints(annotation["keypoints"], -0.5)
        visible = sum(v > 0 for v in annotation["keypoints"][2::3])
        target["num_keypoints"] = annotation.get("num_keypoints", visible)
    if "segmentation" in annotation:
        target["segmentation"] = annotation["segmentation"]
        if isinstance(target["segmentation"], dict) and isinstance(target["segmentation"]["counts"], bytes):
            target["segmentation"] |= {"counts": target["segmentation"]["counts"].decode("ascii")}
    return target


def convert_to_coco_dict(dataset_name: str) -> dict[str, Any]:
    """A registered data set with thing_classes -> what its COCO json would hold, category ids mapped back."""
    records = DatasetCatalog.get(dataset_name)  # first, since loading may set the metadata
    metadata = MetadataCatalog.get(dataset_name)
    contiguous_id = metadata.get("thing_dataset_id_to_contiguous_id")
    if contiguous_id is None:
        contiguous_id = {i: i for i in range(len(metadata.thing_classes))}
    dataset_id = {contiguous: original for original, contiguous in contiguous_id.items()}
    images: list[dict] = []
    annotations: list[dict] = []
    for index, record in enumerate(records):
        image_id = record.get("image_id", index)
        size = {"width": int(record["width"]), "height": int(record["height"])}
        images.append({"id": image_id, **size, "file_name": str(record["file_name"])})
        for annotation in record.get("annotations", []):
            # Ids start at 1: pycocotools takes 0 for "no match".
            ids = {"id": len(annotations) + 1, "image_id": image_id}
            ids["category_id"] = int(dataset_id[annotation["category_id"]])
            annotations.append({**ids, **_coco_annotation(annotation)})
    result = {
        "info": {
            "date_created": str(datetime.datetime.now()),
            "description": f"Data set '{dataset_name}' converted to COCO's format",
        },
        "images": images,
        "categories": [{"id": dataset_id[i], "name": name} for i, name in enumerate(metadata.thing_classes)],
        "licenses": None,
    }
    return {**result, "annotations": annotations} if annotations else result


def convert_to_coco_json(dataset_name: str, output_file: str, allow_cached: bool = True) -> None:
    """Write `convert_to_coco_dict` to a file; with `allow_cached` a file that is there already is kept as it is."""
    PathManager.mkdirs(os.path.dirname(output_file))
    with file_lock(output_file):
        if allow_cached and PathManager.exists(output_file):
            logger.warning(f"{output_file} exists and is used: delete it if '{dataset_name}' has changed since")
            return
        content = convert_to_coco_dict(dataset_name)
        unfinished = f"{output_file}.tmp"
        with PathManager.open(unfinished, "w") as file:
            json.dump(content, file)
        shutil.move(unfinished, output_file)


def register_coco_instances(name: str, metadata: dict[str, Any], json_file: str, image_root: str) -> None:
    """Register a data set in COCO's instance or keypoint format under `name`; `metadata` may be empty."""
    assert isinstance(name, str), f"a data set's name must be a string, got {name!r}"
    for path in (json_file, image_root):
        assert isinstance(path, (str, os.PathLike)), f"data set '{name}': a path is needed, got {path!r}"
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, lambda: load_coco_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata)
