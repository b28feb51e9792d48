from __future__ import annotations

# fmt: off
# isort: skip_file
from . import transforms
from .build import (
    build_batch_data_loader, build_detection_test_loader, build_detection_train_loader, get_detection_dataset_dicts,
    print_instances_class_histogram
)
from .catalog import DatasetCatalog, Metadata, MetadataCatalog
from .common import DatasetFromList, MapDataset, ToIterableDataset
from .dataset_mapper import DatasetMapper

from . import datasets, samplers  # isort: skip  (they register by means of what is imported above)
