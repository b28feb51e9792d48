"""LVIS and Pascal VOC: registered with their metadata; reading their files is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def _left_out_loader(name: str) -> Callable[[], None]:
    def load() -> None:
        raise ImportError(left_out_message(f"detectron2.data.datasets.{name}"))

    return load


def register_lvis_instances(name: str, metadata: dict[str, Any], json_file: str, image_root: str) -> None:
    DatasetCatalog.register(name, _left_out_loader("lvis.load_lvis_json"))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="lvis", **metadata)


CLASS_NAMES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
    "sheep sofa train tvmonitor".split()
)


def register_pascal_voc(
    name: str, dirname: str, split: str, year: int, class_names: Sequence[str] = CLASS_NAMES
) -> None:
    DatasetCatalog.register(name, _left_out_loader("pascal_voc.load_voc_instances"))
    MetadataCatalog.get(name).set(thing_classes=list(class_names), dirname=dirname, year=year, split=split)
