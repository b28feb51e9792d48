"""Region proposal network: boxes of whatever may be an object (Faster R-CNN, arXiv 1506.01497, section 3), from all
levels of a feature pyramid (arXiv 1612.03144, section 4.1).

Shapes: B images; C channels; h, w size of a level's map; A anchors; R proposals; N objects of an image.
A box is x0, y0, x1, y1 in pixels of the batch's canvas.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image

from mask2former_ext.distributed import check_finite
from mask2former_ext.layers.rcnn.anchors import AnchorGrid
from mask2former_ext.layers.rcnn.boxes import IGNORED, BoxCoder, ExampleSampler, larger_than


class RPNHead(nn.Module):
    """3 x 3 convolutions, then for each anchor a logit (object or not) and four deltas; shared by all levels."""

    def __init__(self, in_channels: int, *, conv_dims: list[int], num_anchors: int):
        """`conv_dims`: channels of each convolution, -1 for as many as come in."""
        super().__init__()
        convs: OrderedDict[str, nn.Module] = OrderedDict()
        for dim in conv_dims:
            out_channels = in_channels if dim == -1 else dim
            activation = nn.ReLU(inplace=True)
            convs[f"conv{len(convs)}"] = Conv2d(in_channels, out_channels, 3, padding=1, activation=activation)
            in_channels = out_channels
        # A single convolution is called conv, several conv.conv0, conv.conv1, ...
        self.conv = nn.Sequential(convs) if len(convs) > 1 else convs["conv0"]
        self.objectness_logits = nn.Conv2d(in_channels, num_anchors, 1)
        self.anchor_deltas = nn.Conv2d(in_channels, num_anchors * 4, 1)
        for layer in [*convs.values(), self.objectness_logits, self.anchor_deltas]:
            nn.init.normal_(layer.get_parameter("weight"), std=0.01)
            nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """A map (B, C, h, w) per level -> per level logits (B, A), deltas (B, A, 4) of its anchors, in order."""
        logits, deltas = [], []
        for feature in features:
            hidden = self.conv(feature)
            logits.append(self.objectness_logits(hidden).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.anchor_deltas(hidden).permute(0, 2, 3, 1).reshape(len(hidden), -1, 4))
        return logits, deltas


@dataclass(frozen=True)
class ProposalOptions:
    """`num_before_nms` per level and `num_after_nms` per image, in inference and, the second of each, in training."""

    num_before_nms: tuple[int, int]
    num_after_nms: tuple[int, int]
    max_overlap: float  # of two proposals of one level
    min_size: float  # px; both sides of a proposal exceed it


class RegionProposalNetwork(nn.Module):
    """Boxes of whatever may be an object, from anchors of all levels."""

    def __init__(
        self,
        rpn_head: RPNHead,
        anchors: AnchorGrid,
        *,
        in_features: list[str],
        coder: BoxCoder,
        sampler: ExampleSampler,
        proposals: ProposalOptions,
        loss_weight: float,
        box_loss_weight: float,
        boundary: int,
    ):
        """`boundary`: anchors that reach further than these pixels out of the image are not trained on; -1: all are."""
        super().__init__()
        self.rpn_head, self.anchors = rpn_head, anchors
        self.in_features, self.coder, self.sampler, self.options = in_features, coder, sampler, proposals
        self.loss_weight, self.box_loss_weight, self.boundary = loss_weight, box_loss_weight, boundary

    def forward(
        self,
        features: dict[str, Tensor],
        image_sizes: list[tuple[int, int]],
        names: list[str],
        truth: list[tuple[Tensor, torch.Generator | None]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Maps by name -> proposals (R, 4) per image by falling score, and with `truth` the losses, else none.

        `truth` holds per image the boxes (N, 4) and the generator, if any, that chooses the anchors to train on. Raises
        FloatingPointError naming the images (`names`) whose outputs are not finite.
        """
        maps = [features[name] for name in self.in_features]
        anchors = self.anchors([(x.shape[-2], x.shape[-1]) for x in maps])
        logits, deltas = self.rpn_head(maps)
        proposals = self.propose(anchors, logits, deltas, image_sizes, names)
        if truth is None:
            return proposals, {}
        logits_of, deltas_of = torch.cat(logits, dim=1).unbind(), torch.cat(deltas, dim=1).unbind()
        return proposals, self.losses(torch.cat(anchors), logits_of, deltas_of, image_sizes, truth)

    @torch.no_grad()
    def propose(
        self,
        anchors: list[Tensor],
        logits: list[Tensor],
        deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
        names: list[str],
    ) -> list[Tensor]:
        """The best anchors of each level, moved; of those that overlap in a level the best; of all levels the best."""
        options, training = self.options, self.training
        scores, boxes, levels = [], [], []
        for number, (anchor, logit, delta) in enumerate(zip(anchors, logits, deltas, strict=True)):
            count = min(logit.shape[1], options.num_before_nms[training])
            score, chosen = logit.float().topk(count, dim=1)
            scores.append(score)
            boxes.append(self.coder.decode(delta.gather(1, chosen[:, :, None].expand(-1, -1, 4)), anchor[chosen]))
            levels.append(torch.full_like(chosen[0], number))
        score, box, level = torch.cat(scores, dim=1), torch.cat(boxes, dim=1), torch.cat(levels)
        outputs = {"objectness logits": list(score), "box deltas": list(box)}
        check_finite(outputs, part="region proposal network", names=names, together=training)
        proposals = []
        for image_score, image_box, size in zip(score, box, image_sizes, strict=True):
            image_box = clip_boxes_to_image(image_box, size)
            kept = torch.nonzero(larger_than(image_box, options.min_size)).flatten()
            best = batched_nms(image_box[kept], image_score[kept], level[kept], options.max_overlap)
            proposals.append(image_box[kept[best[: options.num_after_nms[training]]]])
        return proposals

    def losses(
        self,
        anchors: Tensor,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        image_sizes: list[tuple[int, int]],
        truth: list[tuple[Tensor, torch.Generator | None]],
    ) -> dict[str, Tensor]:
        """Anchors (A, 4), and per image logits (A,) and deltas (A, 4) -> loss_rpn_cls and loss_rpn_loc.

        Sums over the anchors drawn, divided by as many as should be drawn, as published.
        """
        loss_cls, loss_box = torch.zeros((), device=anchors.device), torch.zeros((), device=anchors.device)
        for logit, delta, size, (boxes, generator) in zip(logits, deltas, image_sizes, truth, strict=True):
            index, label = self.sampler.match(anchors, boxes, every_truth=True)
            if self.boundary >= 0:
                label[~_within(anchors, size, self.boundary)] = IGNORED
            objects, others = self.sampler.sample(label, background=0, generator=generator)
            drawn = logit[torch.cat((objects, others))].float()
            is_object = (torch.arange(len(drawn), device=drawn.device) < len(objects)).float()
            loss_cls = loss_cls + F.binary_cross_entropy_with_logits(drawn, is_object, reduction="sum")
            loss_box = loss_box + self.coder.loss(delta[objects], anchors[objects], boxes[index[objects]])
        scale = self.loss_weight / (self.sampler.num_samples * len(truth))
        return {"loss_rpn_cls": scale * loss_cls, "loss_rpn_loc": scale * self.box_loss_weight * loss_box}


def _within(boxes: Tensor, size: tuple[int, int], margin: float) -> Tensor:
    """(N, 4) -> bool (N,): inside a picture of `size` (height, width) that is larger by `margin` on every side."""
    limit = boxes.new_tensor([size[1], size[0]]) + margin
    return (boxes[:, :2] >= -margin).all(dim=1) & (boxes[:, 2:] < limit).all(dim=1)
