"""Panoptic feature pyramid networks (Kirillov et al., arXiv 1901.02446).

What this adds to Mask R-CNN: a head on the same pyramid that tells the stuff class of every pixel (section 3), and the
merge of things and stuff into one segmentation (section 3.2).

Shapes: B images; C channels; K classes: 0 for any thing, then those of stuff; h, w cells at the head's stride; H, W
pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.structures import ImageList
from fvcore.nn import weight_init
from torch import Tensor, nn

from mask2former_ext.contract import TASKS, Request
from mask2former_ext.models.image_model import check_num_classes, output_size_of
from mask2former_ext.models.mask_rcnn import MaskRCNN
from mask2former_ext.models.pixel_classifier import enlarged, num_labeled, pixel_labels, summed_cross_entropy
from mask2former_ext.postprocess import resize_class_scores


class SemanticHead(nn.Module):
    """All levels of the pyramid brought to one stride by convolutions and enlargements, summed, classified."""

    def __init__(
        self, input_shape: dict[str, ShapeSpec], *, num_classes: int, conv_dim: int, norm: str, common_stride: int
    ):
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.stride = common_stride
        for name in self.in_features:
            steps = math.log2(input_shape[name].stride / common_stride)
            if steps < 0 or steps % 1:
                raise ValueError(
                    f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE is {common_stride}, but {name} has stride "
                    f"{input_shape[name].stride}: a power of two times COMMON_STRIDE is needed"
                )
            self.add_module(name, _scale_head(input_shape[name].channels, conv_dim, norm, num_doublings=int(steps)))
        self.predictor = Conv2d(conv_dim, num_classes, kernel_size=1)
        weight_init.c2_msra_fill(self.predictor)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Maps (B, C, ., .) by name -> logits (B, K, h, w)."""
        total = self.get_submodule(self.in_features[0])(features[self.in_features[0]])
        for name in self.in_features[1:]:
            total = total + self.get_submodule(name)(features[name])
        return self.predictor(total)


def _scale_head(channels: int, conv_dim: int, norm: str, *, num_doublings: int) -> nn.Sequential:
    """A 3 x 3 convolution and an enlargement by two per doubling; the finest level has the convolution alone."""
    layers: list[nn.Module] = []
    for _ in range(max(num_doublings, 1)):
        conv = Conv2d(
            channels,
            conv_dim,
            kernel_size=3,
            padding=1,
            bias=not norm,
            norm=get_norm(norm, conv_dim),
            activation=nn.ReLU(inplace=True),
        )
        weight_init.c2_msra_fill(conv)
        layers.append(conv)
        if num_doublings:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        channels = conv_dim
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class MergeOptions:
    """Which things and which stuff become segments (see `merge_things_and_stuff`)."""

    max_overlap: float
    min_stuff_area: int
    min_score: float


def merge_things_and_stuff(
    masks: Tensor, scores: Tensor, classes: Tensor, labels: Tensor, options: MergeOptions
) -> tuple[Tensor, list[dict]]:
    """Instances by falling score, then stuff, each where nothing lies before it (arXiv 1801.00868, section 7).

    masks bool (N, H, W), scores (N,), classes (N,); labels (H, W) int64, the stuff class of each pixel, 0 for a thing.
    An instance takes part if it scores at least `min_score`, and is left out if more than `max_overlap` of it is taken
    already; a stuff class if at least `min_stuff_area` pixels are left for it. Returns ids (H, W) int32, 0 = nothing,
    and per segment {"id", "isthing", "category_id"}, of things with "score" and "instance_id" (position among the
    masks), of stuff with "area"; `category_id` is the instance's class or the stuff's label.
    """
    ids = torch.zeros(labels.shape, dtype=torch.int32, device=labels.device)
    segments: list[dict] = []
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= options.min_score]
    for instance, category, score in zip(order.tolist(), classes[order].tolist(), scores[order].tolist(), strict=True):
        free = masks[instance] & (ids == 0)
        area, free_area = torch.stack((masks[instance].sum(), free.sum())).tolist()
        if area == 0 or area - free_area > options.max_overlap * area:
            continue
        segments.append(
            {
                "id": len(segments) + 1,
                "isthing": True,
                "score": score,
                "category_id": category,
                "instance_id": instance,
            }
        )
        ids.masked_fill_(free, len(segments))
    left = torch.where(ids == 0, labels, 0)
    areas = torch.bincount(left.flatten()).tolist()
    segment_of_label = [0] * len(areas)
    for label, area in enumerate(areas):
        if label == 0 or area == 0 or area < options.min_stuff_area:
            continue
        segments.append({"id": len(segments) + 1, "isthing": False, "category_id": label, "area": area})
        segment_of_label[label] = len(segments)
    stuff = torch.tensor(segment_of_label, dtype=torch.int32, device=labels.device)
    return torch.where(ids == 0, stuff[left], ids), segments


class PanopticFeaturePyramid(MaskRCNN):
    """Input as of `MaskRCNN`, in training also `sem_seg` (H, W): 0 for a thing, then the stuff classes. Output:
    `instances`, `sem_seg` (K, H, W) logits and, if things and stuff are combined, `panoptic_seg`."""

    @classmethod
    def target_kinds(cls, cfg: CN) -> tuple[str, ...]:
        return ("panoptic",)

    @classmethod
    def answered_tasks(cls, cfg: CN) -> tuple[str, ...]:
        return TASKS if cfg.MODEL.PANOPTIC_FPN.COMBINE.ENABLED else ("semantic", "instance")

    @classmethod
    def class_heads(cls, cfg: CN) -> dict[str, Literal["all", "things", "labels"]]:
        return {**super().class_heads(cfg), "SEM_SEG_HEAD": "labels"}

    @classmethod
    def default_threshold(cls, task: str, cfg: CN) -> float:
        """Of a panoptic thing, its least score; a pixel has none."""
        if task == "panoptic":
            return cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH
        return super().default_threshold(task, cfg) if task == "instance" else 0.0

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: SemanticHead,
        num_stuff_classes: int,
        ignore_label: int,
        sem_seg_loss_weight: float,
        instance_loss_weight: float,
        merge: MergeOptions | None,
        **mask_rcnn: Any,
    ):
        """`num_stuff_classes`: K; `merge`: None for no panoptic segmentation; `mask_rcnn`: see `MaskRCNN`."""
        super().__init__(**mask_rcnn)
        self.sem_seg_head = sem_seg_head
        self.num_stuff_classes, self.ignore_label, self.merge = num_stuff_classes, ignore_label, merge
        # Detectron2's rule: the weight of the instances reaches neither the proposals nor loss_cls.
        weighted = {"loss_box_reg": instance_loss_weight, "loss_mask": instance_loss_weight}
        self.loss_weights = {**weighted, "loss_sem_seg": sem_seg_loss_weight}

    @classmethod
    def from_config(cls, cfg: CN) -> dict:
        mask_rcnn = super().from_config(cfg)
        node, panoptic = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.PANOPTIC_FPN
        if node.NAME != "SemSegFPNHead":
            raise ValueError(f"MODEL.SEM_SEG_HEAD.NAME is {node.NAME!r}; PanopticFeaturePyramid has 'SemSegFPNHead'")
        if not cfg.MODEL.MASK_ON:
            raise ValueError("MODEL.MASK_ON is False, but PanopticFeaturePyramid needs the masks of things")
        check_num_classes(node.NUM_CLASSES, "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
        shapes = mask_rcnn["backbone"].output_shape()
        combine = panoptic.COMBINE
        return {
            **mask_rcnn,
            "sem_seg_head": SemanticHead(
                {name: shapes[name] for name in node.IN_FEATURES},
                num_classes=node.NUM_CLASSES,
                conv_dim=node.CONVS_DIM,
                norm=node.NORM,
                common_stride=node.COMMON_STRIDE,
            ),
            "num_stuff_classes": node.NUM_CLASSES,
            "ignore_label": node.IGNORE_VALUE,
            "sem_seg_loss_weight": node.LOSS_WEIGHT,
            "instance_loss_weight": panoptic.INSTANCE_LOSS_WEIGHT,
            "merge": MergeOptions(combine.OVERLAP_THRESH, combine.STUFF_AREA_LIMIT, combine.INSTANCES_CONFIDENCE_THRESH)
            if combine.ENABLED
            else None,
        }

    def infer_batch(self, batched_inputs: list[dict], images: ImageList, request: Request) -> list[dict]:
        """All tasks are answered, things from the request's threshold on; that of the semantic task alone is one of
        pixels, which is applied afterwards."""
        threshold = None if request.tasks == ("semantic",) else request.threshold
        return self.results(self.backbone(images.tensor), batched_inputs, images, threshold)

    def losses(self, features: dict[str, Tensor], batched_inputs: list[dict], images: ImageList) -> dict[str, Tensor]:
        labels = pixel_labels(
            batched_inputs, images, num_classes=self.num_stuff_classes, ignore_label=self.ignore_label
        )
        losses = {"loss_sem_seg": self.semantic_loss(features, labels)}
        losses.update(super().losses(features, batched_inputs, images))
        return {name: self.loss_weights.get(name, 1.0) * loss for name, loss in losses.items()}

    def semantic_loss(self, features: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Cross entropy, the mean over the labeled pixels of the joint batch; labels (B, H, W)."""
        logits, stride = self.sem_seg_head(features), self.sem_seg_head.stride
        total = summed_cross_entropy(logits, labels, stride=stride, ignore_label=self.ignore_label)
        return total / num_labeled(labels, self.ignore_label)

    def results(
        self, features: dict[str, Tensor], batched_inputs: list[dict], images: ImageList, min_score: float | None
    ) -> list[dict]:
        """As of `MaskRCNN`; `min_score` (None: the configuration's) is also that of a thing in the panoptic answer."""
        results = super().results(features, batched_inputs, images, min_score)
        merge = self.merge
        if merge is not None and min_score is not None:
            merge = replace(merge, min_score=min_score)
        logits = enlarged(self.sem_seg_head(features), self.sem_seg_head.stride)
        for result, image_logits, size, x in zip(results, logits, images.image_sizes, batched_inputs, strict=True):
            scores = resize_class_scores(image_logits, size, output_size_of(x, size))
            result["sem_seg"] = scores
            if merge is not None:
                things = result["instances"]
                result["panoptic_seg"] = merge_things_and_stuff(
                    things.pred_masks, things.scores, things.pred_classes, scores.argmax(dim=0), merge
                )
        return results
