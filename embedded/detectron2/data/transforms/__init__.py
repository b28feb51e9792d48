from __future__ import annotations

# fmt: off
# isort: skip_file
from fvcore.transforms.transform import (
    BlendTransform, CropTransform, GridSampleTransform, HFlipTransform, NoOpTransform, PadTransform, ScaleTransform,
    Transform, TransformList, VFlipTransform
)

from .augmentation import (
    AugInput, Augmentation, AugmentationList, TransformGen, apply_augmentations, apply_transform_gens
)
from .augmentation_impl import (
    FixedSizeCrop, RandomApply, RandomBrightness, RandomContrast, RandomCrop, RandomCrop_CategoryAreaConstraint,
    RandomFlip, RandomRotation, RandomSaturation, Resize, ResizeScale, ResizeShortestEdge
)
from .transform import ColorTransform, ExtentTransform, PILColorTransform, ResizeTransform, RotationTransform
