"""Matching of queries to objects, and the losses of the matched pairs: on all pixels, or on sampled points.

Letters: B images; L predictions (after each decoder layer, Mask2Former's also before the first); Q queries; N objects
of an image, M = min(Q, N) of them matched; K classes, index K = no object; P pixels or sampled points; h, w pixels of
the predicted masks; H, W of the padded image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from detectron2.utils import comm
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mask2former_ext.distributed import per_process

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2  # the values that arXiv 1708.02002 found best, as published for MaskFormer
CHUNK_PIXELS = 2**22  # of enlarged masks that the dense losses look at in one go


@dataclass
class Target:
    """Truth of one image: labels (N,) int64 in 0..K-1, masks (N, H, W) bool on the padded canvas.

    Outside `valid_size` (height, width) the canvas is padding for the batch's sake: no loss looks there.
    `sampling_seed`, if given, fixes the points that are drawn for this image, in whichever process it is trained.
    """

    labels: Tensor
    masks: Tensor
    valid_size: tuple[int, int]
    name: str
    sampling_seed: int | None = None

    @cached_property
    def generator(self) -> torch.Generator | None:
        """What this image's points are drawn from, one after the other; None: PyTorch's own."""
        if self.sampling_seed is None:
            return None
        return torch.Generator(self.masks.device).manual_seed(self.sampling_seed)


# ------------------------------------------------------------------------------------------- losses of pairs of masks


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """(N, P) each -> (N,): 1 - (2 sum(p t) + 1) / (sum p + sum t + 1), p = sigmoid(logits) (arXiv 1606.04797)."""
    probs = logits.sigmoid()
    return 1 - (2 * (probs * truth).sum(-1) + 1) / (probs.sum(-1) + truth.sum(-1) + 1)


def binary_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """(N, P) each -> (N,): mean over the points."""
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(-1)


def focal_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """(N, P) each, truth 0 or 1 -> (N,): mean of -a_t (1 - p_t)^gamma log p_t over the pixels (arXiv 1708.02002).

    p_t is the probability given to the truth; a_t is alpha where that is 1, and 1 - alpha where it is 0.
    """
    truth = truth.bool()
    wrong_logits = torch.where(truth, -logits, logits)  # of 1 - p_t, so that -log p_t is their softplus
    balance = torch.where(truth, FOCAL_ALPHA, 1 - FOCAL_ALPHA)
    return (balance * wrong_logits.sigmoid() ** FOCAL_GAMMA * F.softplus(wrong_logits)).mean(-1)


def pairwise_dice_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """`dice_loss` of every prediction (Q, P) with every object (N, P) -> (Q, N)."""
    probs = logits.sigmoid()
    return 1 - (2 * probs @ truth.T + 1) / (probs.sum(-1)[:, None] + truth.sum(-1)[None] + 1)


def pairwise_bce_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """`binary_cross_entropy` of every prediction (Q, P) with every object (N, P) -> (Q, N).

    With softplus(-x) = softplus(x) - x, the sum of t softplus(-x) + (1 - t) softplus(x) is sum softplus(x) - sum x t.
    """
    return (F.softplus(logits).sum(-1)[:, None] - logits @ truth.T) / logits.shape[-1]


def pairwise_focal_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """`focal_loss` of every prediction (Q, P) with every object (N, P) -> (Q, N).

    With f what a pixel costs as object and g as background, the sum of t f + (1 - t) g is sum g + sum t (f - g).
    """
    probs = logits.sigmoid()
    as_object = FOCAL_ALPHA * (1 - probs) ** FOCAL_GAMMA * F.softplus(-logits)
    as_background = (1 - FOCAL_ALPHA) * probs**FOCAL_GAMMA * F.softplus(logits)
    return (as_background.sum(-1)[:, None] + (as_object - as_background) @ truth.T) / logits.shape[-1]


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps (N, C, h, w) at points (N, P, 2), x then y in [0, 1] over the map -> (N, C, P)."""
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, mode="bilinear", align_corners=False)[..., 0]


# ----------------------------------------------------------------------------------------------------------- criteria


class SetCriterion(nn.Module):
    """Set prediction loss of every prediction: matching, cross entropy over K + 1 classes, losses of the matched masks.

    Which losses those are, and where masks are looked at, is a subclass's to say. Normalizers are those of the joint
    batch of all processes.
    """

    def __init__(
        self, num_classes: int, *, class_weight: float, mask_weight: float, dice_weight: float, no_object_weight: float
    ):
        super().__init__()
        self.num_classes = num_classes
        self.class_weight, self.mask_weight, self.dice_weight = class_weight, mask_weight, dice_weight
        empty_weight = torch.ones(num_classes + 1)
        empty_weight[-1] = no_object_weight
        self.empty_weight: Tensor
        self.register_buffer("empty_weight", empty_weight)

    def pairwise_costs(self, mask_logits: list[Tensor], target: Target) -> tuple[Tensor, Tensor]:
        """One image's mask logits, L times (Q, h, w) -> (L Q, N) mask cost and (L Q, N) dice cost, unweighted."""
        raise NotImplementedError

    def paired_losses(self, matched: Tensor, target: Target, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (M, L, h, w) and the objects (M, L) that they are matched to -> (M, L) mask and (M, L) dice."""
        raise NotImplementedError

    def forward(self, outputs: dict, targets: list[Target]) -> dict[str, Tensor]:
        """Weighted loss_ce, loss_mask, loss_dice of the last layer, and the same with _i of the earlier layer i."""
        layers = [*outputs.get("aux_outputs", []), outputs]
        # Autocast would take the products of the matching cost in half precision.
        with torch.autocast(outputs["pred_masks"].device.type, enabled=False):
            return self._losses(layers, targets)

    def _losses(self, layers: list[dict], targets: list[Target]) -> dict[str, Tensor]:
        class_logits = torch.stack([x["pred_logits"] for x in layers]).float()  # (L, B, Q, K+1)
        mask_logits = [x["pred_masks"] for x in layers]  # L times (B, Q, h, w)
        matches = self.match(class_logits, mask_logits, targets)
        loss_ce = self.classification_losses(class_logits, targets, matches)
        loss_mask, loss_dice = self.mask_losses(mask_logits, targets, matches)
        losses = {}
        for layer in range(len(layers)):
            suffix = "" if layer == len(layers) - 1 else f"_{layer}"
            losses["loss_ce" + suffix] = self.class_weight * loss_ce[layer]
            losses["loss_mask" + suffix] = self.mask_weight * loss_mask[layer]
            losses["loss_dice" + suffix] = self.dice_weight * loss_dice[layer]
        return losses

    @torch.no_grad()
    def match(self, class_logits: Tensor, mask_logits: list[Tensor], targets: list[Target]) -> list[Tensor]:
        """Per image int64 (2, L, M): in each layer the query indices, ascending, and their objects'.

        All costs travel to the host together.
        """
        num_layers, _, num_queries = class_logits.shape[:3]
        terms = []
        for image, target in enumerate(targets):
            class_probs = class_logits[:, image].flatten(0, 1).softmax(-1)
            mask_cost, dice_cost = self.pairwise_costs([x[image] for x in mask_logits], target)
            class_cost = -self.class_weight * class_probs[:, target.labels]
            terms.append(torch.stack((class_cost, self.mask_weight * mask_cost, self.dice_weight * dice_cost)))
        costs = torch.cat([x.sum(dim=0).flatten() for x in terms]).cpu().numpy()
        finite = bool(np.isfinite(costs).all())
        # In all processes together: one that went on alone would wait for the others' sums for ever.
        if not all(comm.all_gather(finite)):
            _raise_non_finite(terms, targets, num_layers)
        per_image = np.split(costs, np.cumsum([x[0].numel() for x in terms])[:-1])
        matches = []
        for target, cost in zip(targets, per_image, strict=True):
            matrices = cost.reshape(num_layers, num_queries, len(target.labels))
            assigned = np.stack([linear_sum_assignment(matrix) for matrix in matrices], axis=1)
            matches.append(torch.from_numpy(assigned).to(class_logits.device))
        return matches

    def classification_losses(self, class_logits: Tensor, targets: list[Target], matches: list[Tensor]) -> Tensor:
        """(L,) weighted mean of the cross entropies of all queries of the joint batch."""
        labels = class_logits.new_full(class_logits.shape[:3], self.num_classes, dtype=torch.int64)
        layer = torch.arange(len(labels), device=labels.device)[:, None]
        for image, (target, (query, obj)) in enumerate(zip(targets, matches, strict=True)):
            labels[layer, image, query] = target.labels[obj]
        weights = self.empty_weight[labels].sum(dim=(1, 2))
        losses = F.cross_entropy(class_logits.flatten(0, 2), labels.flatten(), self.empty_weight, reduction="none")
        return losses.view(labels.shape).sum(dim=(1, 2)) / per_process(weights)

    def mask_losses(
        self, mask_logits: list[Tensor], targets: list[Target], matches: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(L,) and (L,): summed over the matched masks, divided by the number of masks of the joint batch."""
        # Zeros that hang on the graph: a batch may have no object, and its parameters still get a gradient.
        loss_mask = torch.stack([x[:, 0, 0, :0].float().sum() for x in mask_logits])
        loss_dice = loss_mask
        # Taken apart here: the gradient of an index into the whole batch is as large as the batch, once per image.
        images = zip(*(x.unbind() for x in mask_logits), strict=True)
        for layers, target, (query, obj) in zip(images, targets, matches, strict=True):
            if len(target.labels) == 0:
                continue
            matched = torch.stack([x[q] for x, q in zip(layers, query, strict=True)], dim=1).float()
            of_masks, of_dice = self.paired_losses(matched, target, obj.T)
            loss_mask, loss_dice = loss_mask + of_masks.sum(dim=0), loss_dice + of_dice.sum(dim=0)
        count = loss_mask.new_tensor(sum(len(target.labels) for target in targets))
        num_masks = per_process(count, at_least=1)
        return loss_mask / num_masks, loss_dice / num_masks


class DenseCriterion(SetCriterion):
    """The losses of MaskFormer (arXiv 2107.06278, sections 3.3 and 4.1): focal loss and dice on all pixels.

    Queries are matched at the predictions' resolution, to truth that is taken at the nearest pixel. The losses are at
    the truth's resolution. Only matched masks are enlarged to it, a chunk at a time, and in the backward pass once
    more: what is held between the two are the small ones.
    """

    def pairwise_costs(self, mask_logits: list[Tensor], target: Target) -> tuple[Tensor, Tensor]:
        size = mask_logits[0].shape[-2:]
        # Of the predicted map the part whose pixels lie, at least in part, on the valid canvas.
        rows, columns = (
            -(-valid * small // large)
            for valid, small, large in zip(target.valid_size, size, target.masks.shape[-2:], strict=True)
        )
        nearest = F.interpolate(target.masks[:, None].to(torch.uint8), size=size, mode="nearest")[:, 0]
        truth = nearest[:, :rows, :columns].flatten(1).float()
        costs = []
        for masks in mask_logits:  # one layer after the other: these are all Q masks
            logits = masks[:, :rows, :columns].flatten(1).float()
            costs.append((pairwise_focal_cost(logits, truth), pairwise_dice_cost(logits, truth)))
        mask_costs, dice_costs = zip(*costs, strict=True)
        return torch.cat(mask_costs), torch.cat(dice_costs)

    def paired_losses(self, matched: Tensor, target: Target, objects: Tensor) -> tuple[Tensor, Tensor]:
        logits, of_logits = matched.flatten(0, 1), objects.flatten()
        step = max(1, CHUNK_PIXELS // target.masks[0].numel())
        parts = [
            checkpoint(_enlarged_losses, logits[start : start + step], target, of_logits[start : start + step],
                       use_reentrant=False, preserve_rng_state=False)
            for start in range(0, len(logits), step)
        ]  # fmt: skip
        of_masks, of_dice = (torch.cat(kind).view(objects.shape) for kind in zip(*parts, strict=True))
        return of_masks, of_dice


class PointCriterion(SetCriterion):
    """The losses of Mask2Former (arXiv 2112.01527, section 3.3): binary cross entropy and dice on `num_points` points.

    For the matching they are random, and all masks and layers of an image share them. For the loss of a matched mask
    they are, of `oversample_ratio` times as many random ones, the `importance_sample_ratio` most uncertain, the rest
    random (PointRend, arXiv 1912.08193, section 3.1).
    """

    def __init__(
        self,
        num_classes: int,
        *,
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
        **weights: float,
    ):
        """`weights`: see `SetCriterion`."""
        super().__init__(num_classes, **weights)
        self.num_points = num_points
        self.num_candidates = int(num_points * oversample_ratio)
        self.num_uncertain = int(num_points * importance_sample_ratio)
        if not 0 <= self.num_uncertain <= min(num_points, self.num_candidates):
            raise ValueError(
                f"IMPORTANCE_SAMPLE_RATIO {importance_sample_ratio} must lie in [0, 1] and not exceed "
                f"OVERSAMPLE_RATIO {oversample_ratio}"
            )

    def pairwise_costs(self, mask_logits: list[Tensor], target: Target) -> tuple[Tensor, Tensor]:
        points = _random_points((1, self.num_points), target)
        truth = sample_points(target.masks[None].float(), points)[0]  # (N, P)
        logits = torch.cat([sample_points(x[None].float(), points)[0] for x in mask_logits])  # (L Q, P)
        return pairwise_bce_cost(logits, truth), pairwise_dice_cost(logits, truth)

    def paired_losses(self, matched: Tensor, target: Target, objects: Tensor) -> tuple[Tensor, Tensor]:
        points = self.uncertain_points(matched.detach(), target)
        logits = sample_points(matched.flatten(0, 1)[:, None], points.flatten(0, 1))[:, 0]
        truth = _sample_truth(target.masks, objects, points).flatten(0, 1)
        of_masks, of_dice = binary_cross_entropy(logits, truth), dice_loss(logits, truth)
        return of_masks.view(objects.shape), of_dice.view(objects.shape)

    def uncertain_points(self, matched: Tensor, target: Target) -> Tensor:
        """Points (M, L, P, 2) for mask logits (M, L, h, w): the candidates with the smallest |logit|, and random ones.

        The candidates of a mask serve all layers.
        """
        count, num_layers = matched.shape[:2]
        candidates = _random_points((count, self.num_candidates), target)
        certainty = sample_points(matched, candidates).abs()
        nearest = certainty.topk(self.num_uncertain, dim=-1, largest=False, sorted=False).indices
        of_layers = candidates[:, None].expand(-1, num_layers, -1, -1)
        uncertain = of_layers.gather(2, nearest[..., None].expand(-1, -1, -1, 2))
        rest = _random_points((count, self.num_points - self.num_uncertain), target)
        return torch.cat((uncertain, rest[:, None].expand(-1, num_layers, -1, -1)), dim=2)


# ------------------------------------------------------------------------------------------------------------ helpers


def _enlarged_losses(logits: Tensor, target: Target, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss (n,) and dice (n,) of logits (n, h, w), enlarged to the truth's size, with the masks of `objects`."""
    rows, columns = target.valid_size
    enlarged = F.interpolate(logits[:, None], size=target.masks.shape[-2:], mode="bilinear", align_corners=False)
    enlarged = enlarged[:, 0, :rows, :columns].flatten(1)
    truth = target.masks[objects, :rows, :columns].flatten(1)
    return focal_loss(enlarged, truth), dice_loss(enlarged, truth)


def _random_points(shape: tuple[int, int], target: Target) -> Tensor:
    """Uniform points (*shape, 2), x then y, over the valid part of the image's canvas, in canvas coordinates [0, 1]."""
    (height, width), (canvas_height, canvas_width) = target.valid_size, target.masks.shape[-2:]
    points = torch.rand(*shape, 2, generator=target.generator, device=target.masks.device)
    if (height, width) == (canvas_height, canvas_width):
        return points
    return points * points.new_tensor([width / canvas_width, height / canvas_height])


def _sample_truth(masks: Tensor, objects: Tensor, points: Tensor) -> Tensor:
    """masks (N, H, W) bool, objects (M, L) indices, points (M, L, P, 2) -> bilinear values (M, L, P) in [0, 1].

    A mask is sampled once for all layers: row n of `points`, reordered so that it belongs to mask n in each layer.
    """
    num_points = points.shape[2]
    if len(objects) == len(masks):
        order = objects.argsort(dim=0)
        by_mask = points.gather(0, order[..., None, None].expand(-1, -1, *points.shape[2:]))
        values = sample_points(masks[:, None].float(), by_mask.flatten(1, 2)).view(len(masks), -1, num_points)
        return values.gather(0, objects[..., None].expand(-1, -1, num_points))
    chosen = masks[objects.flatten()][:, None].float()  # more objects than queries: each layer chose its own
    return sample_points(chosen, points.flatten(0, 1))[:, 0].view(*objects.shape, num_points)


def _raise_non_finite(terms: list[Tensor], targets: list[Target], num_layers: int) -> None:
    found = []
    for term, target in zip(terms, targets, strict=True):
        broken = ~torch.isfinite(term).view(3, num_layers, -1).all(dim=-1)
        for name, layers in zip(("class", "mask", "dice"), broken, strict=True):
            if layers.any():
                found.append(f"{target.name}: {name} cost of layers {torch.nonzero(layers).flatten().tolist()}")
    where = "; ".join(found) or "in another process"
    raise FloatingPointError(f"matching cost is not finite (layer {num_layers - 1} is the last): {where}")
