"""A target kind of your own, and a model that learns from it: where one class of pixels ends and another begins."""

import numpy as np
import torch
from detectron2.modeling import META_ARCH_REGISTRY

from mask2former_ext.data.targets import Augmented, Source, TargetKind, register_target_kind
from mask2former_ext.models import PerPixelBaseline


class BoundaryTarget(TargetKind):
    """`sem_seg` (H, W): 1 where the pixel to the right or below is of another class, else 0."""

    name = "boundary"
    needs = (("sem_seg_file_name", "pan_seg_file_name"),)  # one of the two keys must be in every record
    carries_labels = True  # the augmentations move the class of each pixel along with the image

    def build(self, source: Source, augmented: Augmented) -> dict:
        labels = augmented.labels
        boundary = np.zeros(labels.shape, np.int64)
        boundary[:, :-1] |= labels[:, 1:] != labels[:, :-1]
        boundary[:-1] |= labels[1:] != labels[:-1]
        return {"sem_seg": augmented.padded(torch.from_numpy(boundary), self.ignore_label)}


register_target_kind("boundary", BoundaryTarget)


@META_ARCH_REGISTRY.register()
class BoundaryNet(PerPixelBaseline):
    @classmethod
    def target_kinds(cls, cfg) -> tuple[str, ...]:
        return ("boundary",)

    @classmethod
    def answered_tasks(cls, cfg) -> tuple[str, ...]:
        return ()  # its answer is not in the classes of the data: nothing is evaluated

    @classmethod
    def class_heads(cls, cfg) -> dict[str, str]:
        return {}  # NUM_CLASSES does not follow from the data
