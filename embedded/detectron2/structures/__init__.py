"""What models take and give: boxes, masks, instances, batches of images."""

from __future__ import annotations

from detectron2.structures.boxes import Boxes, BoxMode, pairwise_ioa, pairwise_iou
from detectron2.structures.image_list import ImageList
from detectron2.structures.instances import Instances
from detectron2.structures.keypoints import Keypoints
from detectron2.structures.masks import BitMasks, PolygonMasks, polygons_to_bitmask
