"""Models that tell a class for each pixel: truth, cross entropy and scores at the size of the image.

A paper's model is a subclass with one hook, `head`. What panoptic feature pyramids share with these models are the
functions for labels of pixels.

Shapes: B images; K classes; h, w cells of the predicted logits; H, W pixels of the padded images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.structures import ImageList
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mask2former_ext.classes import ClassTable
from mask2former_ext.contract import Request, classes_of
from mask2former_ext.distributed import per_process
from mask2former_ext.models.image_model import (
    Segmenter,
    check_labels,
    name_of,
    num_classes_of,
    output_size_of,
)
from mask2former_ext.postprocess import resize_class_scores


def add_per_pixel_config(cfg: CN) -> None:
    """MODEL.PER_PIXEL; the number of classes is MODEL.MASK_CLASSIFIER.NUM_CLASSES."""
    node = cfg.MODEL.PER_PIXEL = CN()
    node.LOSS_WEIGHT = 1.0  # of the cross entropy


def pixel_labels(batched_inputs: list[dict], images: ImageList, *, num_classes: int, ignore_label: int) -> Tensor:
    """`sem_seg` of a batch, (B, H, W) int64 on its device, `ignore_label` on padding.

    ValueError, naming the image, where it is missing, of another size than the image, or holds another label than
    0..num_classes - 1 and `ignore_label`.
    """
    shape = len(batched_inputs), *images.tensor.shape[-2:]
    padded = torch.full(shape, ignore_label, device=images.tensor.device)
    for index, (x, size) in enumerate(zip(batched_inputs, images.image_sizes, strict=True)):
        name = name_of(x, index)
        if "sem_seg" not in x:
            raise ValueError(
                f"{name}: a training input must hold 'sem_seg' (H, W), as INPUT.TARGETS semantic gives, or panoptic "
                "where things and stuff are numbered apart"
            )
        check_labels(x["sem_seg"], num_classes, ignore_label, tuple(size), name)  # on the host: no wait
        padded[index, : size[0], : size[1]] = x["sem_seg"].to(padded.device)
    return padded


def num_labeled(labels: Tensor, ignore_label: int) -> Tensor:
    """What a sum over the labeled pixels of this process is divided by for the mean of the joint batch."""
    return per_process((labels != ignore_label).sum().float(), at_least=1)


def summed_cross_entropy(logits: Tensor, labels: Tensor, *, stride: int, ignore_label: int) -> Tensor:
    """Logits (B, K, h, w) in cells of `stride` pixels, labels (B, H, W) -> the sum over the labeled pixels."""
    height, width = labels.shape[-2:]
    with torch.autocast(logits.device.type, enabled=False):
        of_pixels = enlarged(logits, stride)[..., :height, :width]
        return F.cross_entropy(of_pixels, labels, ignore_index=ignore_label, reduction="sum")


def enlarged(logits: Tensor, stride: int) -> Tensor:
    """(B, K, h, w) -> float32 (B, K, stride h, stride w), which covers the padded images."""
    return F.interpolate(logits.float(), scale_factor=float(stride), mode="bilinear", align_corners=False)


class PixelClassifier(Segmenter):
    """Input as every model of Detectron2, with `sem_seg` (H, W) in training; output `sem_seg` (K, H, W): logits.

    class FullyConvolutional(PixelClassifier):
        @classmethod
        def head(cls, cfg, input_shape):
            return MyHead(input_shape, num_classes_of(cfg))
    """

    @configurable
    def __init__(self, *, num_classes: int, stride: int, loss_weight: float, ignore_label: int, **network: Any):
        """`stride` of the head's logits in pixels of the image; `network`: see `Segmenter`."""
        super().__init__(**network)
        self.num_classes, self.stride = num_classes, stride
        self.loss_weight, self.ignore_label = loss_weight, ignore_label

    @classmethod
    def head(cls, cfg: CN, input_shape: dict[str, ShapeSpec]) -> Any:
        """The network on a backbone's maps: a module with a `stride`, of its logits in pixels of the image.

        Called with the maps (B, C, ., .) by name and, as second argument, (B, 2) the share of the canvas' height and
        width that is image, or None. It returns a list of logits (B, K, h, w): one of each supervised layer, the last
        of them the answer.
        """
        raise NotImplementedError

    @classmethod
    def target_kinds(cls, cfg: CN) -> tuple[str, ...]:
        return ("semantic",)

    @classmethod
    def answered_tasks(cls, cfg: CN) -> tuple[str, ...]:
        return ("semantic",)

    @classmethod
    def choose_tasks(cls, cfg: CN, tasks: Sequence[str]) -> None:
        """Leaves no choice."""

    @classmethod
    def from_config(cls, cfg: CN) -> dict[str, Any]:
        tasks = cfg.MODEL.MASK_CLASSIFIER
        if not tasks.SEMANTIC_ON or tasks.INSTANCE_ON or tasks.PANOPTIC_ON:
            raise ValueError(
                f"MODEL.MASK_CLASSIFIER: {cls.__name__} answers semantic segmentation alone, so SEMANTIC_ON must be "
                f"True, not {tasks.SEMANTIC_ON}, INSTANCE_ON False, not {tasks.INSTANCE_ON}, and PANOPTIC_ON False, "
                f"not {tasks.PANOPTIC_ON}"
            )
        num_classes, backbone = num_classes_of(cfg), build_backbone(cfg)
        head = cls.head(cfg, backbone.output_shape())
        return {
            "backbone": backbone,
            "sem_seg_head": head,
            "num_classes": num_classes,
            "stride": head.stride,
            "loss_weight": cfg.MODEL.PER_PIXEL.LOSS_WEIGHT,
            "ignore_label": (classes_of(cfg) or ClassTable).ignore_label,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": -1,  # the backbone's
        }

    def losses(
        self,
        outputs: list[Tensor],
        batched_inputs: list[dict],
        images: ImageList,
        valid_sizes: list[tuple[int, int]] | None,  # noqa: ARG002  # what is padding is ignored by its label
    ) -> dict[str, Tensor]:
        """loss_sem_seg of the last layer, and loss_sem_seg_i of the earlier layer i: means over the labeled pixels of
        the joint batch of all processes."""
        labels = pixel_labels(batched_inputs, images, num_classes=self.num_classes, ignore_label=self.ignore_label)
        num_pixels = num_labeled(labels, self.ignore_label)
        how: dict[str, Any] = {"stride": self.stride, "ignore_label": self.ignore_label}
        *earlier, last = outputs
        names = ["loss_sem_seg", *(f"loss_sem_seg_{index}" for index in range(len(earlier)))]
        losses = {}
        for name, logits in zip(names, [last, *earlier], strict=True):
            # Computed again in the backward pass: all layers' enlarged logits would take most of the memory.
            total = checkpoint(summed_cross_entropy, logits, labels, use_reentrant=False, **how)
            losses[name] = self.loss_weight * total / num_pixels
        return losses

    def postprocess(
        self,
        outputs: list[Tensor],
        position: int,
        images: ImageList,
        model_input: dict,
        request: Request,  # noqa: ARG002  # it answers one task, without a threshold
    ) -> dict:
        image_size = images.image_sizes[position]
        scores = enlarged(outputs[-1][position : position + 1], self.stride)[0]
        return {"sem_seg": resize_class_scores(scores, image_size, output_size_of(model_input, image_size))}
