"""One file, one paper. Importing this package registers the models and backbones in Detectron2.

A model or backbone that a script has registered before under the same name stays (see `contract.register`).
"""

from __future__ import annotations

from detectron2.modeling import META_ARCH_REGISTRY

from mask2former_ext.contract import Contract, register
from mask2former_ext.models import backbones as backbones  # registers its own

# The models, a line each: whatever is imported here is registered.
from mask2former_ext.models.mask2former import Mask2Former as Mask2Former
from mask2former_ext.models.mask_rcnn import MaskRCNN as MaskRCNN
from mask2former_ext.models.maskformer import MaskFormer as MaskFormer
from mask2former_ext.models.oneformer import OneFormer as OneFormer
from mask2former_ext.models.panoptic_fpn import PanopticFeaturePyramid as PanopticFeaturePyramid
from mask2former_ext.models.per_pixel import PerPixelBaseline as PerPixelBaseline
from mask2former_ext.models.per_pixel import PerPixelBaselinePlus as PerPixelBaselinePlus

for _model in list(vars().values()):
    if isinstance(_model, type) and issubclass(_model, Contract) and _model is not Contract:
        register(META_ARCH_REGISTRY, _model)
