"""A data set of your own, registered in Python as in any Detectron2 script: here the synthetic set's label files."""

from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_sem_seg

CLASSES = ["disk", "square", "triangle", "star", "ring", "cross", "sky", "ground", "water"]  # labels 0, 1, 2, ...

for split in ("train", "val"):
    labels, images = (f"datasets/shapes/{split}/{folder}" for folder in ("semantic", "images"))
    DatasetCatalog.register(f"my_{split}", partial(load_sem_seg, labels, images, gt_ext="png", image_ext="png"))
    MetadataCatalog.get(f"my_{split}").set(stuff_classes=CLASSES, ignore_label=255, evaluator_type="sem_seg")
