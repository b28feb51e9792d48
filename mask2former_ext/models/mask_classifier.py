"""The meta-architecture that MaskFormer, Mask2Former and OneFormer share: a set of (class, mask) pairs per image.

What it has in common with the per-pixel models is `Segmenter`: one padded batch through network and losses.

Shapes: B images; Q queries; K classes, index K of the class logits means "no object"; H, W pixels of an input image;
h, w pixels of the predicted masks (stride 4 of the padded image).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import torch
from detectron2.config import CfgNode as CN
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from mask2former_ext.contract import Request, classes_of
from mask2former_ext.losses import Target
from mask2former_ext.models.image_model import (
    Segmenter,
    check_classes,
    mask_tensor_of,
    name_of,
    num_classes_of,
    output_size_of,
)
from mask2former_ext.postprocess import (
    ResizedMasks,
    instance_inference,
    panoptic_inference,
    resize_class_scores,
    semantic_inference,
)

logger = logging.getLogger(__name__)


def add_mask_classifier_config(cfg: CN) -> None:
    node = cfg.MODEL.MASK_CLASSIFIER = CN()
    # K, of the per-pixel models too; 0: as many as the first training set has (data.prepare_data)
    node.NUM_CLASSES = 0
    # Images are padded (bottom and right) to a multiple of this; 0: no padding, -1: the backbone's own divisibility.
    node.SIZE_DIVISIBILITY = 32
    node.SEMANTIC_ON = True  # inference answers the semantic task
    node.INSTANCE_ON = False  # ... the instance task
    node.PANOPTIC_ON = False  # ... the panoptic task
    # Panoptic: a query takes part if its best class is an object with at least this probability ...
    node.MIN_CLASS_PROB = 0.0
    # ... and its segment stays if at least this fraction of the query's mask (probability >= 0.5) is left to it.
    node.MIN_VISIBLE_FRACTION = 0.0
    # Instance: those that score less are left out.
    node.MIN_INSTANCE_SCORE = 0.0
    # Bring masks to the output size before the semantic scores are formed; always so if panoptic or instance is on.
    node.RESIZE_MASKS_FIRST = False
    node.CLASS_WEIGHT = 1.0  # of the class loss, and of its part in the matching cost
    node.MASK_WEIGHT = 1.0  # of the loss of single pixels (MaskFormer: focal, else BCE), and of its matching cost
    node.DICE_WEIGHT = 1.0  # of the dice loss, and of its matching cost
    node.NO_OBJECT_WEIGHT = 0.1  # of the class "no object" within the class loss
    node.DEEP_SUPERVISION = True  # losses at every decoder layer


@dataclass(frozen=True)
class InferenceOptions:
    """What inference answers, and by which thresholds (see `add_mask_classifier_config`)."""

    semantic: bool
    instance: bool
    panoptic: bool
    min_class_prob: float
    min_visible_fraction: float
    resize_masks_first: bool
    detections_per_image: int
    things_only: bool  # no instance of a stuff class
    min_instance_score: float = 0.0

    def requested(self, request: Request) -> InferenceOptions:
        """The same for the tasks of `request`, each answered as it is among all, and by its threshold."""
        options = self
        if request.tasks is not None:
            switched_on = {"semantic": self.semantic, "instance": self.instance, "panoptic": self.panoptic}
            off = [task for task in request.tasks if not switched_on[task]]
            assert not off, f"{', '.join(off)}: not switched on"
            options = replace(options, **{task: task in request.tasks for task in switched_on})
        if request.threshold is not None:
            options = replace(options, min_class_prob=request.threshold, min_instance_score=request.threshold)
        return options

    @classmethod
    def from_config(cls, cfg: CN) -> InferenceOptions:
        node = cfg.MODEL.MASK_CLASSIFIER
        if not (node.SEMANTIC_ON or node.INSTANCE_ON or node.PANOPTIC_ON):
            raise ValueError("MODEL.MASK_CLASSIFIER: one of SEMANTIC_ON, INSTANCE_ON, PANOPTIC_ON must be True")
        return cls(
            semantic=node.SEMANTIC_ON,
            instance=node.INSTANCE_ON,
            panoptic=node.PANOPTIC_ON,
            min_class_prob=node.MIN_CLASS_PROB,
            min_visible_fraction=node.MIN_VISIBLE_FRACTION,
            resize_masks_first=node.RESIZE_MASKS_FIRST or node.INSTANCE_ON or node.PANOPTIC_ON,
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            things_only=node.PANOPTIC_ON,
            min_instance_score=node.MIN_INSTANCE_SCORE,
        )


def things_of(cfg: CN) -> Tensor:
    """Which of the K classes are things, bool (K,), by `contract.classes_of`; none where that is not known."""
    num_classes, table = num_classes_of(cfg), classes_of(cfg)
    if cfg.MODEL.MASK_CLASSIFIER.PANOPTIC_ON and (table is None or not table.is_thing):
        if not (cfg.DATASETS.TRAIN or cfg.DATASETS.TEST):
            raise ValueError(
                "MODEL.MASK_CLASSIFIER.PANOPTIC_ON needs to know which classes are things: name a data set that says "
                "so in DATASETS.TRAIN or DATASETS.TEST, or give MODEL.CLASSES with is_thing"
            )
        logger.warning("PANOPTIC_ON, but no data set of DATASETS says which classes are things: none is taken for one")
    things = () if table is None else table.things
    return torch.tensor([k in things for k in range(num_classes)])


def loss_options_of(cfg: CN) -> dict[str, float]:
    """The weights that every `losses.SetCriterion` takes."""
    node = cfg.MODEL.MASK_CLASSIFIER
    return {
        "class_weight": node.CLASS_WEIGHT,
        "mask_weight": node.MASK_WEIGHT,
        "dice_weight": node.DICE_WEIGHT,
        "no_object_weight": node.NO_OBJECT_WEIGHT,
    }


def image_options_of(cfg: CN) -> dict[str, Any]:
    """Arguments that a `MaskClassifier` has beside its network and criterion."""
    return {
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
        "size_divisibility": cfg.MODEL.MASK_CLASSIFIER.SIZE_DIVISIBILITY,
        "inference": InferenceOptions.from_config(cfg),
    }


class MaskClassifier(Segmenter):
    """A paper's model says what `sem_seg_head` and `criterion` are.

    `sem_seg_head` returns {"pred_logits": (B, Q, K+1), "pred_masks": (B, Q, h, w), "aux_outputs": [the same two of each
    earlier layer]}; `criterion(outputs, targets)` the weighted losses.
    """

    # Probability that a pixel must reach to belong to a panoptic segment (Mask2Former's rule; MaskFormer: 0).
    min_pixel_prob = 0.5

    @classmethod
    def default_threshold(cls, task: str, cfg: CN) -> float:
        node = cfg.MODEL.MASK_CLASSIFIER
        return {"instance": node.MIN_INSTANCE_SCORE, "panoptic": node.MIN_CLASS_PROB}.get(task, 0.0)

    def __init__(self, *, criterion: nn.Module, is_thing: Tensor, inference: InferenceOptions, **network: Any):
        """`network`: see `Segmenter`."""
        super().__init__(**network)
        self.is_thing: Tensor
        self.criterion = criterion
        self.inference = inference
        self.register_buffer("is_thing", is_thing, persistent=False)

    def losses(
        self,
        outputs: dict,
        batched_inputs: list[dict],
        images: ImageList,
        valid_sizes: list[tuple[int, int]] | None,
    ) -> dict[str, Tensor]:
        return self.criterion(outputs, self.targets(batched_inputs, images, valid_sizes))

    def targets(
        self, batched_inputs: list[dict], images: ImageList, valid_sizes: list[tuple[int, int]] | None
    ) -> list[Target]:
        """Truth per image, masks padded with False to the batch's size."""
        canvas = tuple(images.tensor.shape[-2:])
        targets = []
        for index, x in enumerate(batched_inputs):
            if "instances" not in x:
                raise ValueError(f"{name_of(x, index)}: a training input must hold 'instances' (gt_classes, gt_masks)")
            check_classes(x["instances"].gt_classes, len(self.is_thing), name_of(x, index))  # on the host: no wait
            instances = x["instances"].to(self.device)
            masks = mask_tensor_of(instances, name_of(x, index))
            padded = masks.new_zeros((len(masks), *canvas))
            padded[:, : masks.shape[1], : masks.shape[2]] = masks
            targets.append(
                Target(
                    labels=instances.gt_classes,
                    masks=padded,
                    valid_size=canvas if valid_sizes is None else valid_sizes[index],
                    name=name_of(x, index),
                    sampling_seed=x.get("sampling_seed"),
                )
            )
        return targets

    def postprocess(self, outputs: dict, position: int, images: ImageList, model_input: dict, request: Request) -> dict:
        options, image_size = self.inference.requested(request), images.image_sizes[position]
        class_logits = outputs["pred_logits"][position].float()
        padded_size = tuple(images.tensor.shape[-2:])
        output_size = output_size_of(model_input, image_size)
        masks = outputs["pred_masks"][position]
        resized = ResizedMasks(masks, padded_size, image_size, output_size)
        result: dict = {}
        if options.semantic and options.resize_masks_first:
            result["sem_seg"] = semantic_inference(class_logits, resized)
        elif options.semantic:
            scores = semantic_inference(class_logits, ResizedMasks(masks, padded_size))
            result["sem_seg"] = resize_class_scores(scores, image_size, output_size)
        if options.panoptic:
            result["panoptic_seg"] = panoptic_inference(
                class_logits,
                resized,
                self.is_thing,
                min_class_prob=options.min_class_prob,
                min_visible_fraction=options.min_visible_fraction,
                min_pixel_prob=self.min_pixel_prob,
            )
        if options.instance:
            detected = instance_inference(
                class_logits,
                resized,
                max_instances=options.detections_per_image,
                keep_class=self.is_thing if options.things_only else None,
                min_score=options.min_instance_score,
            )
            result["instances"] = Instances(
                output_size,
                pred_masks=detected.masks,
                pred_boxes=Boxes(detected.boxes),
                scores=detected.scores,
                pred_classes=detected.classes,
            )
        return result
