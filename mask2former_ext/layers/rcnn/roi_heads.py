"""What is in each proposed region: its class, its box, its mask (Mask R-CNN, arXiv 1703.06870, section 3).

Shapes: K classes, K = background; R regions; N objects of an image; M cells of a mask's side; H, W pixels. A box is
x0, y0, x1, y1 in pixels of the model's input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image

from mask2former_ext.distributed import check_finite, per_process
from mask2former_ext.layers.rcnn.boxes import IGNORED, BoxCoder, ExampleSampler
from mask2former_ext.layers.rcnn.region_heads import BoxHead, BoxPredictor, MaskHead, of_class
from mask2former_ext.layers.rcnn.roi_align import PyramidRoIAlign

# Regions whose masks are worked out together in inference: of a hundred the mask head would hold 300 MB.
MASKS_AT_A_TIME = 16


@dataclass
class Truth:
    """Objects of one image: boxes (N, 4), classes (N,) int64 in 0..K-1.

    `crop_masks` maps objects (R,), boxes (R, 4) and a size to bool (R, size, size): each object's mask inside its box.
    `generator`, if given, fixes which anchors and regions are drawn for this image, in whichever process it is trained.
    """

    boxes: Tensor
    classes: Tensor
    crop_masks: Callable[[Tensor, Tensor, int], Tensor] | None = None  # needed by a mask head
    generator: torch.Generator | None = None


class Detections(NamedTuple):
    """R objects of an image by falling score: boxes (R, 4), scores (R,), classes (R,), mask_probs (R, M, M)."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    mask_probs: Tensor | None = None


class Regions(NamedTuple):
    """R regions of an image to train on, those with an object first: boxes (R, 4), classes (R,), K for background, and
    the index in the truth of each region's object."""

    boxes: Tensor
    classes: Tensor
    objects: Tensor


@dataclass(frozen=True)
class DetectionOptions:
    min_score: float  # a box must exceed it
    max_overlap: float  # of two boxes of one class
    max_detections: int  # per image; -1: all


class RoIHeads(nn.Module):
    """Class, box and, with a mask head, mask of every proposal."""

    def __init__(
        self,
        *,
        num_classes: int,
        in_features: list[str],
        box_pooler: PyramidRoIAlign,
        box_head: BoxHead,
        box_predictor: BoxPredictor,
        mask_pooler: PyramidRoIAlign | None,
        mask_head: MaskHead | None,
        coder: BoxCoder,
        sampler: ExampleSampler,
        add_truth: bool,
        box_loss_weight: float,
        detection: DetectionOptions,
    ):
        """`add_truth`: the boxes of the truth are proposals too, in training."""
        super().__init__()
        self.num_classes, self.in_features = num_classes, in_features
        self.box_pooler, self.box_head, self.box_predictor = box_pooler, box_head, box_predictor
        self.mask_pooler, self.mask_head = mask_pooler, mask_head
        self.coder, self.sampler, self.add_truth = coder, sampler, add_truth
        self.box_loss_weight, self.options = box_loss_weight, detection

    def _maps(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Those that regions are cut out of, in the order of memory that RoIAlign reads and would copy them to."""
        return [features[name].contiguous() for name in self.in_features]

    @torch.no_grad()
    def sample(self, proposals: Tensor, truth: Truth) -> Regions:
        """Proposals (R, 4) -> those of them to train on."""
        boxes = torch.cat((proposals, truth.boxes)) if self.add_truth else proposals
        index, label = self.sampler.match(boxes, truth.boxes)
        background = torch.full_like(label, self.num_classes)
        of_truth = truth.classes[index] if len(truth.classes) else background
        classes = torch.where(label == 1, of_truth, torch.where(label == 0, background, IGNORED))
        objects, others = self.sampler.sample(classes, background=self.num_classes, generator=truth.generator)
        drawn = torch.cat((objects, others))
        return Regions(boxes[drawn], classes[drawn], index[objects])

    def losses(self, features: dict[str, Tensor], proposals: list[Tensor], truths: list[Truth]) -> dict[str, Tensor]:
        """loss_cls and loss_box_reg per region, and loss_mask per region with an object, means over the joint batch.

        Of masks and boxes only those of the true class take loss (section 3 of the paper).
        """
        maps = self._maps(features)
        regions = [self.sample(p, truth) for p, truth in zip(proposals, truths, strict=True)]
        boxes, classes = torch.cat([x.boxes for x in regions]), torch.cat([x.classes for x in regions])
        class_logits, deltas = self.box_predictor(self.box_head(self.box_pooler(maps, [x.boxes for x in regions])))
        objects = torch.nonzero(classes < self.num_classes).flatten()
        true_boxes = torch.cat([truth.boxes[x.objects] for x, truth in zip(regions, truths, strict=True)])
        counts = torch.tensor([len(classes), len(objects)], dtype=torch.float32, device=boxes.device)
        num_regions, num_objects = per_process(counts, at_least=1)
        box_deltas = of_class(deltas[objects], classes[objects])
        loss_box = self.coder.loss(box_deltas, boxes[objects], true_boxes)
        losses = {
            "loss_cls": F.cross_entropy(class_logits.float(), classes, reduction="sum") / num_regions,
            "loss_box_reg": self.box_loss_weight * loss_box / num_regions,
        }
        if self.mask_head is not None:
            losses["loss_mask"] = self.mask_loss(maps, regions, truths) / num_objects
        return losses

    def mask_loss(self, maps: list[Tensor], regions: list[Regions], truths: list[Truth]) -> Tensor:
        """Sum over the regions with an object of the mean binary cross entropy of their cells."""
        assert self.mask_pooler is not None and self.mask_head is not None, "no mask head was built"
        boxes = [x.boxes[: len(x.objects)] for x in regions]
        classes = torch.cat([x.classes[: len(x.objects)] for x in regions])
        logits = self.mask_head(self.mask_pooler(maps, boxes), classes).float()
        size = logits.shape[-1]
        masks = []
        for truth, x, of_image in zip(truths, regions, boxes, strict=True):
            assert truth.crop_masks is not None, "a mask head learns from truth with masks"
            masks.append(truth.crop_masks(x.objects, of_image, size))
        return F.binary_cross_entropy_with_logits(logits, torch.cat(masks).float(), reduction="sum") / size**2

    def detect(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_sizes: list[tuple[int, int]],
        names: list[str],
        min_score: float | None = None,
    ) -> list[Detections]:
        """Proposals (R, 4) per image -> its detections, boxes inside the image; a score exceeds `min_score` (None:
        that of the options)."""
        maps = self._maps(features)
        counts = [len(x) for x in proposals]
        class_logits, deltas = self.box_predictor(self.box_head(self.box_pooler(maps, proposals)))
        logits_of, deltas_of = class_logits.float().split(counts), deltas.split(counts)
        outputs = {"class logits": list(logits_of), "box deltas": list(deltas_of)}
        check_finite(outputs, part="box head", names=names, together=False)
        options = self.options if min_score is None else replace(self.options, min_score=min_score)
        of_images = zip(logits_of, deltas_of, proposals, image_sizes, strict=True)
        detections = [self.select(*each, options) for each in of_images]
        return detections if self.mask_head is None else self.with_masks(maps, detections)

    def with_masks(self, maps: list[Tensor], detections: list[Detections]) -> list[Detections]:
        """The detections in each image, with their masks."""
        assert self.mask_pooler is not None and self.mask_head is not None, "no mask head was built"
        pooled = self.mask_pooler(maps, [x.boxes for x in detections])
        classes = torch.cat([x.classes for x in detections])
        parts = zip(pooled.split(MASKS_AT_A_TIME), classes.split(MASKS_AT_A_TIME), strict=True)
        mask_probs = torch.cat([self.mask_head(*part).float().sigmoid() for part in parts])
        mask_probs_of = mask_probs.split([len(x.boxes) for x in detections])
        return [x._replace(mask_probs=each) for x, each in zip(detections, mask_probs_of, strict=True)]

    def select(
        self,
        logits: Tensor,
        deltas: Tensor,
        proposals: Tensor,
        image_size: tuple[int, int],
        options: DetectionOptions,
    ) -> Detections:
        """Every class of a region with enough score is a candidate; of those of one class that overlap, the best."""
        probs = logits.softmax(dim=-1)[:, :-1]
        region, category = torch.nonzero(probs > options.min_score, as_tuple=True)
        boxes = self.coder.decode(of_class(deltas[region], category), proposals[region])
        boxes, scores = clip_boxes_to_image(boxes, image_size), probs[region, category]
        best = batched_nms(boxes, scores, category, options.max_overlap)
        if options.max_detections >= 0:
            best = best[: options.max_detections]
        return Detections(boxes[best], scores[best], category[best])
