"""Layers that Detectron2's models are built of."""

from __future__ import annotations

# fmt: off
# isort: skip_file
from detectron2.layers.batch_norm import FrozenBatchNorm2d, NaiveSyncBatchNorm, get_norm
from detectron2.layers.blocks import CNNBlockBase, DepthwiseSeparableConv2d
from torchvision.ops import complete_box_iou_loss as ciou_loss
from torchvision.ops import distance_box_iou_loss as diou_loss
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.layers.nms import batched_nms, nms
from detectron2.layers.roi_align import ROIAlign, roi_align
from detectron2.layers.shape_spec import ShapeSpec
from detectron2.layers.wrappers import (
    Conv2d, ConvTranspose2d, cat, interpolate, nonzero_tuple, shapes_to_tensor
)
