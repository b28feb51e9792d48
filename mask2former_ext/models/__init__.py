"""One file, one paper. Importing this package registers the meta-architectures in Detectron2."""

from mask2former_ext.models.mask2former import Mask2Former
from mask2former_ext.models.mask_rcnn import MaskRCNN
from mask2former_ext.models.maskformer import MaskFormer
from mask2former_ext.models.oneformer import OneFormer
from mask2former_ext.models.panoptic_fpn import PanopticFeaturePyramid
from mask2former_ext.models.per_pixel import PerPixelBaseline, PerPixelBaselinePlus

__all__ = [
    "Mask2Former",
    "MaskFormer",
    "MaskRCNN",
    "OneFormer",
    "PanopticFeaturePyramid",
    "PerPixelBaseline",
    "PerPixelBaselinePlus",
]
