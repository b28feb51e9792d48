"""Data in COCO's panoptic format: a json of segments and a PNG of segment ids per image."""

from __future__ import annotations

import json
import os
from typing import Any

from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .coco import load_coco_json, load_sem_seg


def _map_segment(segment: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """The segment with its contiguous category_id."""
    is_thing = segment["category_id"] in meta["thing_dataset_id_to_contiguous_id"]
    ids = meta["thing_dataset_id_to_contiguous_id" if is_thing else "stuff_dataset_id_to_contiguous_id"]
    return {**segment, "category_id": ids[segment["category_id"]]}


def load_coco_panoptic_json(json_file: str, image_dir: str, gt_dir: str, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Read a panoptic json into one record per annotation: file_name, image_id, pan_seg_file_name, segments_info.

    gt_dir: folder of the PNGs. Images are expected in image_dir as the PNG's name with .jpg.
    meta: with thing_ and stuff_dataset_id_to_contiguous_id. Each segment's category_id is mapped by them, and
        "isthing" is set.
    """
    with PathManager.open(json_file) as file:
        annotations = json.load(file)["annotations"]
    records = [
        {
            "file_name": os.path.join(image_dir, os.path.splitext(annotation["file_name"])[0] + ".jpg"),
            "image_id": int(annotation["image_id"]),
            "pan_seg_file_name": os.path.join(gt_dir, annotation["file_name"]),
            "segments_info": [
                {
                    **_map_segment(segment, meta),
                    "isthing": segment["category_id"] in meta["thing_dataset_id_to_contiguous_id"],
                }
                for segment in annotation["segments_info"]
            ],
        }
        for annotation in annotations
    ]
    assert records, f"{json_file}: no annotations in it"
    for path in (records[0]["file_name"], records[0]["pan_seg_file_name"]):
        assert PathManager.isfile(path), f"{json_file} needs {path}, which is not there"
    return records


def register_coco_panoptic(
    name: str,
    metadata: dict[str, Any],
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    instances_json: str | None = None,
) -> None:
    """Register a panoptic data set whose things and stuff share one space of contiguous ids (in `metadata`)."""
    DatasetCatalog.register(name, lambda: load_coco_panoptic_json(panoptic_json, image_root, panoptic_root, metadata))
    MetadataCatalog.get(name).set(
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
        label_divisor=1000,
        **metadata,
    )


def register_coco_panoptic_separated(
    name: str,
    metadata: dict[str, Any],
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str,
    instances_json: str,
) -> None:
    """Register `name + "_separated"` and `name + "_stuffonly"`, the forms that Panoptic FPN trains on.

    The first joins the instances of `instances_json` (which may overlap) with the label images of `sem_seg_root`,
    where 0 stands for all things and stuff starts at 1; the second has only the label images.
    """
    shared = {"sem_seg_root": sem_seg_root, "image_root": image_root, "ignore_label": 255, **metadata}
    separated, stuff_only = f"{name}_separated", f"{name}_stuffonly"
    DatasetCatalog.register(
        separated,
        lambda: merge_to_panoptic(
            load_coco_json(instances_json, image_root, separated), load_sem_seg(sem_seg_root, image_root)
        ),
    )
    MetadataCatalog.get(separated).set(
        panoptic_root=panoptic_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        **shared,
    )
    DatasetCatalog.register(stuff_only, lambda: load_sem_seg(sem_seg_root, image_root))
    MetadataCatalog.get(stuff_only).set(evaluator_type="sem_seg", **shared)


def merge_to_panoptic(
    detection_dicts: list[dict[str, Any]], sem_seg_dicts: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Each instance record with what the label record of the same file_name adds; a missing one is a KeyError."""
    assert sem_seg_dicts, "no label images to merge with"
    labels_of = {record["file_name"]: record for record in sem_seg_dicts}
    return [{**record, **labels_of[record["file_name"]]} for record in detection_dicts]
