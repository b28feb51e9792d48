"""Cityscapes panoptic: a COCO-form json and PNGs, made by Cityscapes' createPanopticImgs.py."""

from __future__ import annotations

import json
import os
from typing import Any

from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import CITYSCAPES_CATEGORIES, _joint_metadata
from .coco_panoptic import _map_segment

_IMAGE_SUFFIX = "_leftImg8bit.png"


def load_cityscapes_panoptic(image_dir: str, gt_dir: str, gt_json: str, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """One record per annotation: file_name, image_id, sem_seg_file_name, pan_seg_file_name, segments_info.

    gt_dir: folder of the panoptic PNGs. The PNGs of train ids are expected beside the other Cityscapes annotations.
    meta: as for `load_coco_panoptic_json`.
    """
    if not PathManager.exists(gt_json):
        raise FileNotFoundError(
            f"{gt_json} is not there: make it with cityscapesscripts/preparation/createPanopticImgs.py"
        )
    with PathManager.open(gt_json) as file:
        annotations = json.load(file)["annotations"]
    image_of = {
        name.removesuffix(_IMAGE_SUFFIX): os.path.join(image_dir, city, name)
        for city in PathManager.ls(image_dir)
        for name in PathManager.ls(os.path.join(image_dir, city))
    }
    missing = [a["image_id"] for a in annotations if a["image_id"] not in image_of]
    assert not missing, f"{gt_json}: {image_dir} has no image for {missing[:3]} ({len(missing)} in all)"
    records = [
        {
            "file_name": image_of[annotation["image_id"]],
            "image_id": annotation["image_id"],
            "sem_seg_file_name": image_of[annotation["image_id"]]
            .replace("leftImg8bit", "gtFine")
            .replace("_gtFine.png", "_gtFine_labelTrainIds.png"),
            "pan_seg_file_name": os.path.join(gt_dir, annotation["file_name"]),
            "segments_info": [_map_segment(segment, meta) for segment in annotation["segments_info"]],
        }
        for annotation in annotations
    ]
    assert records, f"{gt_json}: no annotations in it"
    for key, script in (("sem_seg_file_name", "createTrainIdLabelImgs"), ("pan_seg_file_name", "createPanopticImgs")):
        assert PathManager.isfile(records[0][key]), (
            f"{records[0][key]} is not there: make it with cityscapesscripts/preparation/{script}.py"
        )
    return records


def register_all_cityscapes_panoptic(root: str) -> None:
    for split in ("train", "val"):
        image_root = os.path.join(root, "cityscapes/leftImg8bit", split)
        panoptic_root = os.path.join(root, "cityscapes/gtFine", f"cityscapes_panoptic_{split}")
        _register(f"cityscapes_fine_panoptic_{split}", image_root, panoptic_root)


def _register(name: str, image_root: str, panoptic_root: str) -> None:
    metadata = _joint_metadata(CITYSCAPES_CATEGORIES)
    panoptic_json = f"{panoptic_root}.json"
    DatasetCatalog.register(name, lambda: load_cityscapes_panoptic(image_root, panoptic_root, panoptic_json, metadata))
    MetadataCatalog.get(name).set(
        panoptic_root=panoptic_root,
        image_root=image_root,
        panoptic_json=panoptic_json,
        gt_dir=panoptic_root.replace("cityscapes_panoptic_", ""),
        evaluator_type="cityscapes_panoptic_seg",
        ignore_label=255,
        label_divisor=1000,
        **metadata,
    )
