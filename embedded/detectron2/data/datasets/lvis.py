"""LVIS: registered with its metadata; reading its files is left out, see `detectron2._left_out`."""

from __future__ import annotations

from typing import Any

from detectron2._left_out import left_out_message

from ..catalog import DatasetCatalog, MetadataCatalog
from .builtin_meta import _get_coco_instances_meta, _lvis_table


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
    def load() -> None:
        raise ImportError(left_out_message("detectron2.data.datasets.lvis.load_lvis_json"))

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="lvis", **metadata)
