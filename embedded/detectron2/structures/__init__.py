"""What models take and give: boxes, masks, instances, batches of images."""
from __future__ import annotations

from detectron2.structures.boxes import Boxes, BoxMode, pairwise_ioa, pairwise_iou, pairwise_point_box_distance
from detectron2.structures.image_list import ImageList
from detectron2.structures.instances import Instances
from detectron2.structures.keypoints import Keypoints, heatmaps_to_keypoints
from detectron2.structures.masks import BitMasks, PolygonMasks, ROIMasks, polygons_to_bitmask
from detectron2.structures.rotated_boxes import RotatedBoxes
from detectron2.structures.rotated_boxes import pairwise_iou as pairwise_iou_rotated

__all__ = [
    "BitMasks",
    "BoxMode",
    "Boxes",
    "ImageList",
    "Instances",
    "Keypoints",
    "PolygonMasks",
    "ROIMasks",
    "RotatedBoxes",
    "heatmaps_to_keypoints",
    "pairwise_ioa",
    "pairwise_iou",
    "pairwise_iou_rotated",
    "pairwise_point_box_distance",
    "polygons_to_bitmask",
]
