"""Mask R-CNN (He et al., arXiv 1703.06870) on a feature pyramid (Lin et al., arXiv 1612.03144).

Two stages: a network proposes regions from anchors of all levels (Faster R-CNN, arXiv 1506.01497); of each region, cut
out by RoIAlign, one head tells the class and refines the box, another draws a mask for every class. Without masks
(MODEL.MASK_ON False) it is Faster R-CNN. Configuration keys, parameters and losses are those of Detectron2's own.

Shapes: B images; C channels; K classes; R regions; N objects of an image; M cells of a mask's side;
H, W pixels. A box is x0, y0, x1, y1 in pixels of the model's input.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.structures import Boxes, ImageList, Instances, PolygonMasks
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from mask2former_ext.contract import Request
from mask2former_ext.layers.rcnn.anchors import AnchorGrid
from mask2former_ext.layers.rcnn.boxes import BoxCoder, ExampleSampler, larger_than, touching
from mask2former_ext.layers.rcnn.mask_pasting import paste_masks
from mask2former_ext.layers.rcnn.region_heads import BoxHead, BoxPredictor, MaskHead
from mask2former_ext.layers.rcnn.region_proposals import ProposalOptions, RegionProposalNetwork, RPNHead
from mask2former_ext.layers.rcnn.roi_align import PyramidRoIAlign, crop_masks
from mask2former_ext.layers.rcnn.roi_heads import DetectionOptions, Detections, RoIHeads, Truth
from mask2former_ext.models.image_model import (
    ImageModel,
    check_classes,
    check_num_classes,
    gt_masks_of,
    name_of,
    output_size_of,
)
from mask2former_ext.postprocess import boxes_of_masks

logger = logging.getLogger(__name__)

# ----------------------------------------------------------------------------------------------------- the whole model


class MaskRCNN(ImageModel):
    """Input as every model of Detectron2; in training `instances` with gt_classes, gt_masks (BitMasks, PolygonMasks or
    bool (N, H, W)) and gt_boxes (left out: the boxes around the masks). Output: `instances`."""

    numbering = "apart"  # things are classes 0..K-1

    @classmethod
    def target_kinds(cls, cfg: CN) -> tuple[str, ...]:
        return ("instance",)

    @classmethod
    def answered_tasks(cls, cfg: CN) -> tuple[str, ...]:
        return ("instance",)

    @classmethod
    def choose_tasks(cls, cfg: CN, tasks: Sequence[str]) -> None:
        """Leaves no choice."""

    @classmethod
    def class_heads(cls, cfg: CN) -> dict[str, Literal["all", "things", "labels"]]:
        return {"ROI_HEADS": "things"}

    @classmethod
    def default_threshold(cls, task: str, cfg: CN) -> float:
        return cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST

    @configurable
    def __init__(self, *, proposal_generator: RegionProposalNetwork, roi_heads: RoIHeads, **images: Any):
        """`images`: see `ImageModel`."""
        super().__init__(**images)
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.boxes_left_out = 0

    @classmethod
    def from_config(cls, cfg: CN) -> dict:
        _check_supported(cfg)
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": _proposal_network_of(cfg, backbone.output_shape()),
            "roi_heads": _roi_heads_of(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def train_batch(self, batched_inputs: list[dict], images: ImageList) -> dict[str, Tensor]:
        return self.losses(self.backbone(images.tensor), batched_inputs, images)

    def infer_batch(self, batched_inputs: list[dict], images: ImageList, request: Request) -> list[dict]:
        return self.results(self.backbone(images.tensor), batched_inputs, images, request.threshold)

    def losses(self, features: dict[str, Tensor], batched_inputs: list[dict], images: ImageList) -> dict[str, Tensor]:
        """Weighted losses from the pyramid's maps by name."""
        names = [name_of(x, index) for index, x in enumerate(batched_inputs)]
        truths = [self.truth(x, name) for x, name in zip(batched_inputs, names, strict=True)]
        examples = [(truth.boxes, truth.generator) for truth in truths]
        proposals, losses = self.proposal_generator(features, images.image_sizes, names, examples)
        return {**losses, **self.roi_heads.losses(features, proposals, truths)}

    def results(
        self, features: dict[str, Tensor], batched_inputs: list[dict], images: ImageList, min_score: float | None
    ) -> list[dict]:
        """One result per image from the pyramid's maps by name; what scores more than `min_score` is in it (None: than
        MODEL.ROI_HEADS.SCORE_THRESH_TEST)."""
        names = [name_of(x, index) for index, x in enumerate(batched_inputs)]
        proposals, _ = self.proposal_generator(features, images.image_sizes, names)
        detections = self.roi_heads.detect(features, proposals, images.image_sizes, names, min_score)
        return [
            {"instances": _instances(each, size, output_size_of(x, size))}
            for each, size, x in zip(detections, images.image_sizes, batched_inputs, strict=True)
        ]

    def truth(self, model_input: dict, name: str) -> Truth:
        """Objects of a training input; boxes without area inside the image are named and left out."""
        if "instances" not in model_input:
            raise ValueError(f"{name}: a training input must hold 'instances' (gt_classes, gt_masks, gt_boxes)")
        instances: Instances = model_input["instances"]
        masks = gt_masks_of(instances, name) if self.roi_heads.mask_head is not None else None
        if instances.has("gt_boxes"):
            boxes = instances.gt_boxes.tensor.float()
        else:
            around = gt_masks_of(instances, name)
            boxes = boxes_of_masks(around) if isinstance(around, Tensor) else around.get_bounding_boxes().tensor
        check_classes(instances.gt_classes, self.roi_heads.num_classes, name)  # on the host: no wait
        good = touching(boxes, tuple(model_input["image"].shape[-2:]))
        if not good.all():
            self._tell_left_out(name, boxes, good)
            boxes, masks = boxes[good], None if masks is None else masks[good]
        seed = model_input.get("sampling_seed")
        return Truth(
            boxes=boxes.to(self.device),
            classes=instances.gt_classes[good].to(self.device),
            crop_masks=None if masks is None else _cropping(masks.to(self.device)),
            generator=None if seed is None else torch.Generator(self.device).manual_seed(seed),
        )

    def _tell_left_out(self, name: str, boxes: Tensor, good: Tensor) -> None:
        left_out = {index: boxes[index].tolist() for index in torch.nonzero(~good).flatten().tolist()}
        self.boxes_left_out += len(left_out)
        logger.warning(
            "%s: truth boxes left out, which are not finite or have no area inside the image: %s (%d in all so far)",
            name,
            ", ".join(f"number {index} {[round(x, 1) for x in box]}" for index, box in left_out.items()),
            self.boxes_left_out,
        )


def _cropping(masks: Tensor | PolygonMasks) -> Callable[[Tensor, Tensor, int], Tensor]:
    """See `Truth.crop_masks`. Polygons are cut as such: no mask of the whole image is drawn."""
    if isinstance(masks, Tensor):
        return partial(crop_masks, masks)
    return lambda index, boxes, size: masks[index.cpu()].crop_and_resize(boxes, size).to(boxes.device)


def _instances(detections: Detections, image_size: tuple[int, int], output_size: tuple[int, int]) -> Instances:
    """The detections in the model's input, at the output size."""
    height_ratio, width_ratio = output_size[0] / image_size[0], output_size[1] / image_size[1]
    boxes = detections.boxes * detections.boxes.new_tensor([width_ratio, height_ratio, width_ratio, height_ratio])
    boxes = clip_boxes_to_image(boxes, output_size)
    kept = larger_than(boxes, 0)
    scores, classes = detections.scores[kept], detections.classes[kept]
    instances = Instances(output_size, pred_boxes=Boxes(boxes[kept]), scores=scores, pred_classes=classes)
    if detections.mask_probs is not None:
        instances.pred_masks = paste_masks(detections.mask_probs[kept], boxes[kept], output_size)
    return instances


# ------------------------------------------------------------------------------------------------------- from the keys

# Our own value of Detectron2's MODEL.ANCHOR_GENERATOR.NAME, for weights of torchvision's Mask R-CNN.
ROUNDED_ANCHORS = "RoundedAnchorGenerator"

# Detectron2's keys that choose what is not built here, and the values that are.
_ONLY = {
    "PROPOSAL_GENERATOR.NAME": ("RPN",),
    "ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator", ROUNDED_ANCHORS),
    "RPN.HEAD_NAME": ("StandardRPNHead",),
    "ROI_HEADS.NAME": ("StandardROIHeads",),
    "ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead",),
    "ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
    "ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": (False,),
    "ROI_BOX_HEAD.USE_FED_LOSS": (False,),
    "ROI_BOX_HEAD.USE_SIGMOID_CE": (False,),
    "ROI_MASK_HEAD.NAME": ("MaskRCNNConvUpsampleHead",),
    "ROI_MASK_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
    "KEYPOINT_ON": (False,),
    "LOAD_PROPOSALS": (False,),
}


def _check_supported(cfg: CN) -> None:
    for key, known in _ONLY.items():
        value = cfg.MODEL
        for part in key.split("."):
            value = value[part]
        if value not in known:
            raise ValueError(f"MODEL.{key} is {value!r}; MaskRCNN has {' and '.join(map(repr, known))}")


def _shapes_of(shapes: dict[str, ShapeSpec], names: list[str], key: str) -> tuple[int, list[int]]:
    """Channels, the same of all maps that `key` names, and their strides."""
    if not names or any(name not in shapes for name in names):
        raise ValueError(f"MODEL.{key}.IN_FEATURES is {names}, but must be some of the backbone's maps {list(shapes)}")
    channels = {shapes[name].channels for name in names}
    if len(channels) > 1:
        raise ValueError(f"MODEL.{key}.IN_FEATURES {names} have {sorted(channels)} channels; one head serves all")
    return channels.pop(), [shapes[name].stride for name in names]


def _proposal_network_of(cfg: CN, shapes: dict[str, ShapeSpec]) -> RegionProposalNetwork:
    node, grid = cfg.MODEL.RPN, cfg.MODEL.ANCHOR_GENERATOR
    channels, strides = _shapes_of(shapes, node.IN_FEATURES, "RPN")
    rounded = grid.NAME == ROUNDED_ANCHORS
    anchors = AnchorGrid(grid.SIZES, grid.ASPECT_RATIOS, strides=strides, offset=grid.OFFSET, rounded=rounded)
    return RegionProposalNetwork(
        RPNHead(channels, conv_dims=node.CONV_DIMS, num_anchors=anchors.num_anchors),
        anchors,
        in_features=node.IN_FEATURES,
        coder=BoxCoder(node.BBOX_REG_WEIGHTS, node.BBOX_REG_LOSS_TYPE, node.SMOOTH_L1_BETA),
        sampler=ExampleSampler(node.IOU_THRESHOLDS, node.IOU_LABELS, node.BATCH_SIZE_PER_IMAGE, node.POSITIVE_FRACTION),
        proposals=ProposalOptions(
            num_before_nms=(node.PRE_NMS_TOPK_TEST, node.PRE_NMS_TOPK_TRAIN),
            num_after_nms=(node.POST_NMS_TOPK_TEST, node.POST_NMS_TOPK_TRAIN),
            max_overlap=node.NMS_THRESH,
            min_size=cfg.MODEL.PROPOSAL_GENERATOR.MIN_SIZE,
        ),
        loss_weight=node.LOSS_WEIGHT,
        box_loss_weight=node.BBOX_REG_LOSS_WEIGHT,
        boundary=node.BOUNDARY_THRESH,
    )


def _roi_heads_of(cfg: CN, shapes: dict[str, ShapeSpec]) -> RoIHeads:
    node, box, mask = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD
    check_num_classes(node.NUM_CLASSES, "MODEL.ROI_HEADS.NUM_CLASSES")
    channels, strides = _shapes_of(shapes, node.IN_FEATURES, "ROI_HEADS")
    box_head = BoxHead(
        channels,
        box.POOLER_RESOLUTION,
        conv_dims=[box.CONV_DIM] * box.NUM_CONV,
        fc_dims=[box.FC_DIM] * box.NUM_FC,
        norm=box.NORM,
    )
    mask_head = None
    if cfg.MODEL.MASK_ON:
        mask_head = MaskHead(
            channels,
            node.NUM_CLASSES,
            conv_dim=mask.CONV_DIM,
            num_convs=mask.NUM_CONV,
            norm=mask.NORM,
            class_agnostic=mask.CLS_AGNOSTIC_MASK,
        )
    return RoIHeads(
        num_classes=node.NUM_CLASSES,
        in_features=node.IN_FEATURES,
        box_pooler=_pooler_of(box, strides),
        box_head=box_head,
        box_predictor=BoxPredictor(box_head.out_channels, node.NUM_CLASSES, class_agnostic=box.CLS_AGNOSTIC_BBOX_REG),
        mask_pooler=_pooler_of(mask, strides) if cfg.MODEL.MASK_ON else None,
        mask_head=mask_head,
        coder=BoxCoder(box.BBOX_REG_WEIGHTS, box.BBOX_REG_LOSS_TYPE, box.SMOOTH_L1_BETA),
        sampler=ExampleSampler(node.IOU_THRESHOLDS, node.IOU_LABELS, node.BATCH_SIZE_PER_IMAGE, node.POSITIVE_FRACTION),
        add_truth=node.PROPOSAL_APPEND_GT,
        box_loss_weight=box.BBOX_REG_LOSS_WEIGHT,
        detection=DetectionOptions(node.SCORE_THRESH_TEST, node.NMS_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE),
    )


def _pooler_of(node: CN, strides: list[int]) -> PyramidRoIAlign:
    return PyramidRoIAlign(
        node.POOLER_RESOLUTION,
        strides=strides,
        sampling_ratio=node.POOLER_SAMPLING_RATIO,
        aligned=node.POOLER_TYPE == "ROIAlignV2",
    )
