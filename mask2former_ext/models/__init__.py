"""One file, one paper. Importing this package registers the models and backbones in Detectron2.

A model or backbone that a script has registered before under the same name stays (see `contract.register`).
"""

from __future__ import annotations

from detectron2.modeling import META_ARCH_REGISTRY

from mask2former_ext.contract import register
from mask2former_ext.models import backbones  # registers its own
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
    "backbones",
]

for _model in (Mask2Former, MaskFormer, MaskRCNN, OneFormer, PanopticFeaturePyramid):
    register(META_ARCH_REGISTRY, _model)
for _model in (PerPixelBaseline, PerPixelBaselinePlus):
    register(META_ARCH_REGISTRY, _model)
