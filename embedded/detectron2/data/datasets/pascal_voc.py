"""Pascal VOC: registered with its metadata; reading its files is left out, see `detectron2._left_out`."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2._left_out import left_out_message

from ..catalog import DatasetCatalog, MetadataCatalog

CLASS_NAMES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant "
    "sheep sofa train tvmonitor".split()
)


def register_pascal_voc(
    name: str, dirname: str, split: str, year: int, class_names: Sequence[str] = CLASS_NAMES
) -> None:
    def load() -> None:
        raise ImportError(left_out_message("detectron2.data.datasets.pascal_voc.load_voc_instances"))

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(thing_classes=list(class_names), dirname=dirname, year=year, split=split)
