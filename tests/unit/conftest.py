"""Fixtures that several files of unit tests share."""

from __future__ import annotations

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.two_images import CLASS_OF_ID, NAMES, THING_OF_ID, inputs_of


@pytest.fixture
def register():
    """Register "synthetic" with the given metadata and record entries; forget it after the test."""

    def _register(metadata: dict, entries: list[dict] | None = None) -> str:
        records = [{**inputs_of(n), **(entries[n] if entries else {})} for n in (0, 1)]
        DatasetCatalog.register("synthetic", lambda: records)
        known = {
            "thing_classes": ["dog", "cat"],
            "stuff_classes": NAMES,
            "thing_dataset_id_to_contiguous_id": THING_OF_ID,
            "stuff_dataset_id_to_contiguous_id": CLASS_OF_ID,
            "ignore_label": 255,
        }
        MetadataCatalog.get("synthetic").set(**{**known, **metadata})
        return "synthetic"

    yield _register
    DatasetCatalog.pop("synthetic", None)
    MetadataCatalog.pop("synthetic", None)
