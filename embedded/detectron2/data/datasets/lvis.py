"""Data in LVIS' format: COCO's instance json with category ids 1..K, and what each image was checked for."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import _get_coco_instances_meta, _lvis_table

__all__ = ["get_lvis_instances_meta", "load_lvis_json", "register_lvis_instances"]

logger = logging.getLogger(__name__)


def load_lvis_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Read an LVIS json into one record per image, by ascending image id.

    Records also hold not_exhaustive_category_ids and neg_category_ids. Category ids become 0..K-1, or those of COCO's
    80 classes for the "cocofied" sets, which `dataset_name` tells.
    """
    with PathManager.open(json_file) as file:
        content = json.load(file)
    contiguous_id = None
    if dataset_name is not None:
        metadata = get_lvis_instances_meta(dataset_name)
        MetadataCatalog.get(dataset_name).set(**metadata)
        contiguous_id = metadata.get("thing_dataset_id_to_contiguous_id")
    annotations_of = defaultdict(list)
    for annotation in content.get("annotations", []):
        polygons = annotation["segmentation"]
        assert polygons and all(len(p) % 2 == 0 and len(p) >= 6 for p in polygons), (
            f"{json_file}: annotation {annotation['id']} has a polygon of fewer than three points, or none"
        )
        category_id = annotation["category_id"]
        annotations_of[annotation["image_id"]].append(
            {
                "bbox": annotation["bbox"],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": contiguous_id[category_id] if contiguous_id else category_id - 1,
                "segmentation": polygons,
                **{key: annotation[key] for key in extra_annotation_keys or []},
            }
        )
    logger.info(f"{len(content['images'])} images in LVIS format from {json_file}")
    return [
        {
            # The last two parts of the address are COCO's folder and the file: .../train2017/000000155379.jpg
            "file_name": os.path.join(image_root, *image["coco_url"].split("/")[-2:]),
            "height": image["height"],
            "width": image["width"],
            "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
            "neg_category_ids": image.get("neg_category_ids", []),
            "image_id": image["id"],
            "annotations": annotations_of[image["id"]],
        }
        for image in sorted(content["images"], key=lambda image: image["id"])
    ]


def get_lvis_instances_meta(dataset_name: str) -> dict[str, Any]:
    """Metadata of an LVIS data set, whose version is read from its name."""
    if "cocofied" in dataset_name:
        return _get_coco_instances_meta()
    if "v0.5" in dataset_name:
        return {"thing_classes": [*_lvis_table("v0.5")["names"]]}
    if "v1" in dataset_name:
        table = _lvis_table("v1")
        counts = [{"id": i, "image_count": count} for i, count in enumerate(table["image_counts"], start=1)]
        return {"thing_classes": [*table["names"]], "class_image_count": counts}
    raise ValueError(f"there is no built-in metadata for '{dataset_name}': its name must say v0.5 or v1")


def register_lvis_instances(name: str, metadata: dict[str, Any], json_file: str, image_root: str) -> None:
    DatasetCatalog.register(name, lambda: load_lvis_json(json_file, image_root, name))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="lvis", **metadata)
