"""What models share that tell a class for each pixel: truth, cross entropy and scores at the size of the image.

Shapes: B images; K classes; h, w pixels of the predicted logits; H, W pixels of the padded images.
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
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mask2former_ext.contract import Request
from mask2former_ext.distributed import per_process
from mask2former_ext.models.image_model import (
    Segmenter,
    check_labels,
    metadata_of,
    name_of,
    num_classes_of,
    output_size_of,
)
from mask2former_ext.models.maskformer import PixelDecoder, pixel_decoder_of
from mask2former_ext.postprocess import resize_class_scores


def add_per_pixel_config(cfg: CN) -> None:
    """MODEL.PER_PIXEL; the network's keys are MODEL.MASKFORMER's, the number of classes is MODEL.MASK_CLASSIFIER's."""
    node = cfg.MODEL.PER_PIXEL = CN()
    node.LOSS_WEIGHT = 1.0  # of the cross entropy


class PixelClassifier(Segmenter):
    """Input as every model of Detectron2, with `sem_seg` (H, W) in training; output `sem_seg` (K, H, W): logits."""

    @configurable
    def __init__(self, *, num_classes: int, stride: int, loss_weight: float, ignore_label: int, **network: Any):
        """`stride` of the head's logits in pixels of the image; `network`: see `Segmenter`."""
        super().__init__(**network)
        self.num_classes, self.stride = num_classes, stride
        self.loss_weight, self.ignore_label = loss_weight, ignore_label

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
        pixel_decoder = pixel_decoder_of(cfg, backbone.output_shape())
        return {
            "backbone": backbone,
            "sem_seg_head": cls.head(cfg, pixel_decoder, backbone.output_shape()),
            "num_classes": num_classes,
            "stride": pixel_decoder.stride,
            "loss_weight": cfg.MODEL.PER_PIXEL.LOSS_WEIGHT,
            "ignore_label": getattr(metadata_of(cfg), "ignore_label", 255),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": -1,  # the backbone's
        }

    @classmethod
    def head(cls, cfg: CN, pixel_decoder: PixelDecoder, input_shape: dict[str, ShapeSpec]) -> nn.Module:
        """A module that gives {"pred_masks": logits (B, K, h, w), "aux_outputs": [the same of each earlier layer]}."""
        raise NotImplementedError

    def losses(
        self,
        outputs: dict,
        batched_inputs: list[dict],
        images: ImageList,
        valid_sizes: list[tuple[int, int]] | None,  # noqa: ARG002  # what is padding is ignored by its label
    ) -> dict[str, Tensor]:
        """loss_sem_seg of the last layer, and loss_sem_seg_i of the earlier layer i: means over the labelled pixels of
        the joint batch of all processes."""
        truth = self.truth(batched_inputs, images)
        num_pixels = per_process((truth != self.ignore_label).sum().float(), at_least=1)
        losses = {}
        for index, layer in enumerate([outputs, *outputs["aux_outputs"]]):
            # Enlarged anew in the backward pass: kept for it, all layers' logits would be most of what is held.
            total = checkpoint(self._cross_entropy, layer["pred_masks"], truth, use_reentrant=False)
            losses["loss_sem_seg" + (f"_{index - 1}" if index else "")] = self.loss_weight * total / num_pixels
        return losses

    def truth(self, batched_inputs: list[dict], images: ImageList) -> Tensor:
        """Class of each pixel (B, H, W) int64, the ignored label on padding."""
        labels = []
        for index, x in enumerate(batched_inputs):
            if "sem_seg" not in x:
                raise ValueError(
                    f"{name_of(x, index)}: a training input must hold 'sem_seg' (H, W), as INPUT.TARGETS semantic gives"
                )
            size, name = tuple(images.image_sizes[index]), name_of(x, index)
            check_labels(x["sem_seg"], self.num_classes, self.ignore_label, size, name)  # on the host: no wait
            labels.append(x["sem_seg"].to(self.device).long())
        height, width = images.tensor.shape[-2:]
        return torch.stack(
            [F.pad(x, (0, width - x.shape[1], 0, height - x.shape[0]), value=self.ignore_label) for x in labels]
        )

    def postprocess(
        self,
        outputs: dict,
        position: int,
        images: ImageList,
        model_input: dict,
        request: Request,  # noqa: ARG002  # it answers one task, without a threshold
    ) -> dict:
        image_size = images.image_sizes[position]
        logits = self._enlarged(outputs["pred_masks"][position : position + 1])[0]
        return {"sem_seg": resize_class_scores(logits, image_size, output_size_of(model_input, image_size))}

    def _cross_entropy(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Logits (B, K, h, w), truth (B, H, W) -> the sum over the labelled pixels."""
        height, width = truth.shape[-2:]
        with torch.autocast(logits.device.type, enabled=False):
            enlarged = self._enlarged(logits)[..., :height, :width]
            return F.cross_entropy(enlarged, truth, ignore_index=self.ignore_label, reduction="sum")

    def _enlarged(self, logits: Tensor) -> Tensor:
        """(B, K, h, w) -> float32 (B, K, stride h, stride w), which covers the padded image."""
        return F.interpolate(logits.float(), scale_factor=float(self.stride), mode="bilinear", align_corners=False)
