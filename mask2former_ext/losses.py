"""Matching of queries to objects, and the losses of the matched pairs.

Letters: B images; L decoder layers (predictions, the one before the first layer included); Q queries; N objects of an
image; K classes, index K = no object; P sampled points; h, w pixels of the predicted masks; H, W of the padded image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.utils import comm
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Target:
    """Truth of one image: labels (N,) int64 in 0..K-1, masks (N, H, W) bool on the padded canvas.

    Outside `valid_size` (height, width) the canvas is padding for the batch's sake: no point is sampled there.
    `sampling_seed`, if given, fixes the points that are drawn for this image, in whichever process it is trained.
    """

    labels: Tensor
    masks: Tensor
    valid_size: tuple[int, int]
    name: str
    sampling_seed: int | None = None


# ------------------------------------------------------------------------------------------- losses of pairs of masks


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """(N, P) each -> (N,): 1 - (2 sum(p t) + 1) / (sum p + sum t + 1), p = sigmoid(logits) (arXiv 1606.04797)."""
    probs = logits.sigmoid()
    return 1 - (2 * (probs * truth).sum(-1) + 1) / (probs.sum(-1) + truth.sum(-1) + 1)


def binary_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """(N, P) each -> (N,): mean over the points."""
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(-1)


def pairwise_dice_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """`dice_loss` of every prediction (Q, P) with every object (N, P) -> (Q, N)."""
    probs = logits.sigmoid()
    return 1 - (2 * probs @ truth.T + 1) / (probs.sum(-1)[:, None] + truth.sum(-1)[None] + 1)


def pairwise_bce_cost(logits: Tensor, truth: Tensor) -> Tensor:
    """`binary_cross_entropy` of every prediction (Q, P) with every object (N, P) -> (Q, N).

    With softplus(-x) = softplus(x) - x, the sum of t softplus(-x) + (1 - t) softplus(x) is sum softplus(x) - sum x t.
    """
    return (F.softplus(logits).sum(-1)[:, None] - logits @ truth.T) / logits.shape[-1]


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps (N, C, h, w) at points (N, P, 2), x then y in [0, 1] over the map -> (N, C, P)."""
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, mode="bilinear", align_corners=False)[..., 0]


# ---------------------------------------------------------------------------------------------------------- criterion


class PointCriterion(nn.Module):
    """Set prediction loss of Mask2Former (arXiv 2112.01527, section 3.3) at every layer.

    Cross entropy over K + 1 classes, binary cross entropy and dice on `num_points` points per matched mask: of
    `oversample_ratio` times as many random ones, the `importance_sample_ratio` most uncertain, the rest random
    (PointRend, arXiv 1912.08193, section 3.1). Normalisers are those of the joint batch of all processes.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        class_weight: float,
        mask_weight: float,
        dice_weight: float,
        no_object_weight: float,
        num_points: int,
        oversample_ratio: float,
        importance_sample_ratio: float,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.class_weight, self.mask_weight, self.dice_weight = class_weight, mask_weight, dice_weight
        self.num_points = num_points
        self.num_candidates = int(num_points * oversample_ratio)
        self.num_uncertain = int(num_points * importance_sample_ratio)
        if not 0 <= self.num_uncertain <= min(num_points, self.num_candidates):
            raise ValueError(
                f"IMPORTANCE_SAMPLE_RATIO {importance_sample_ratio} must lie in [0, 1] and not exceed "
                f"OVERSAMPLE_RATIO {oversample_ratio}"
            )
        empty_weight = torch.ones(num_classes + 1)
        empty_weight[-1] = no_object_weight
        self.empty_weight: Tensor
        self.register_buffer("empty_weight", empty_weight)

    def forward(self, outputs: dict, targets: list[Target]) -> dict[str, Tensor]:
        """Weighted loss_ce, loss_mask, loss_dice of the last layer, and the same with _i of the earlier layer i."""
        layers = [*outputs.get("aux_outputs", []), outputs]
        # Autocast would take the products of the matching cost in half precision.
        with torch.autocast(outputs["pred_masks"].device.type, enabled=False):
            return self._losses(layers, targets)

    def _losses(self, layers: list[dict], targets: list[Target]) -> dict[str, Tensor]:
        class_logits = torch.stack([x["pred_logits"] for x in layers]).float()  # (L, B, Q, K+1)
        mask_logits = [x["pred_masks"] for x in layers]  # L times (B, Q, h, w)
        generators = [_generator(target, class_logits.device) for target in targets]
        matches = self.match(class_logits, mask_logits, targets, generators)
        loss_ce = self.classification_losses(class_logits, targets, matches)
        loss_mask, loss_dice = self.mask_losses(mask_logits, targets, matches, generators)
        losses = {}
        for layer in range(len(layers)):
            suffix = "" if layer == len(layers) - 1 else f"_{layer}"
            losses["loss_ce" + suffix] = self.class_weight * loss_ce[layer]
            losses["loss_mask" + suffix] = self.mask_weight * loss_mask[layer]
            losses["loss_dice" + suffix] = self.dice_weight * loss_dice[layer]
        return losses

    @torch.no_grad()
    def match(
        self, class_logits: Tensor, mask_logits: list[Tensor], targets: list[Target], generators: list
    ) -> list[Tensor]:
        """Per image int64 (2, L, M), M = min(Q, N): in each layer the query indices, ascending, and their objects'.

        All masks and layers of an image share its random points; all costs travel to the host together.
        """
        num_layers, _, num_queries = class_logits.shape[:3]
        terms = []
        for image, (target, generator) in enumerate(zip(targets, generators, strict=True)):
            points = _random_points((1, self.num_points), target, generator)
            truth = sample_points(target.masks[None].float(), points)[0]  # (N, P)
            logits = torch.cat([sample_points(x[image][None].float(), points)[0] for x in mask_logits])  # (L Q, P)
            class_probs = class_logits[:, image].flatten(0, 1).softmax(-1)
            terms.append(
                torch.stack(
                    (
                        -self.class_weight * class_probs[:, target.labels],
                        self.mask_weight * pairwise_bce_cost(logits, truth),
                        self.dice_weight * pairwise_dice_cost(logits, truth),
                    )
                )
            )
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
        return losses.view(labels.shape).sum(dim=(1, 2)) / _per_process(weights)

    def mask_losses(
        self, mask_logits: list[Tensor], targets: list[Target], matches: list[Tensor], generators: list
    ) -> tuple[Tensor, Tensor]:
        """(L,) BCE and (L,) dice, summed over the matched masks, divided by the number of masks of the joint batch."""
        # Zeros that hang on the graph: a batch may have no object, and its parameters still get a gradient.
        bce = torch.stack([x[:, 0, 0, :0].float().sum() for x in mask_logits])
        dice = bce
        for image, (target, (query, obj), generator) in enumerate(zip(targets, matches, generators, strict=True)):
            if len(target.labels) == 0:
                continue
            # The matched masks of all layers, (M, L, h, w).
            matched = torch.stack([x[image, q] for x, q in zip(mask_logits, query, strict=True)], dim=1).float()
            points = self.uncertain_points(matched.detach(), target, generator).flatten(0, 1)  # (M L, P, 2)
            logits = sample_points(matched.flatten(0, 1)[:, None], points)[:, 0]
            truth = _sample_truth(target.masks, obj.T, points.view(*obj.T.shape, -1, 2)).flatten(0, 1)
            bce = bce + binary_cross_entropy(logits, truth).view(-1, len(mask_logits)).sum(dim=0)
            dice = dice + dice_loss(logits, truth).view(-1, len(mask_logits)).sum(dim=0)
        count = bce.new_tensor(sum(len(target.labels) for target in targets))
        num_masks = _per_process(count, at_least=1)
        return bce / num_masks, dice / num_masks

    def uncertain_points(self, matched: Tensor, target: Target, generator: torch.Generator | None) -> Tensor:
        """Points (M, L, P, 2) for mask logits (M, L, h, w): the candidates with the smallest |logit|, and random ones.

        The candidates of a mask serve all layers.
        """
        count, num_layers = matched.shape[:2]
        candidates = _random_points((count, self.num_candidates), target, generator)
        certainty = sample_points(matched, candidates).abs()
        nearest = certainty.topk(self.num_uncertain, dim=-1, largest=False, sorted=False).indices
        of_layers = candidates[:, None].expand(-1, num_layers, -1, -1)
        uncertain = of_layers.gather(2, nearest[..., None].expand(-1, -1, -1, 2))
        rest = _random_points((count, self.num_points - self.num_uncertain), target, generator)
        return torch.cat((uncertain, rest[:, None].expand(-1, num_layers, -1, -1)), dim=2)


# ------------------------------------------------------------------------------------------------------------ helpers


def _generator(target: Target, device: torch.device) -> torch.Generator | None:
    if target.sampling_seed is None:
        return None
    return torch.Generator(device).manual_seed(target.sampling_seed)


def _random_points(shape: tuple[int, int], target: Target, generator: torch.Generator | None) -> Tensor:
    """Uniform points (*shape, 2), x then y, over the valid part of the image's canvas, in canvas coordinates [0, 1]."""
    (height, width), (canvas_height, canvas_width) = target.valid_size, target.masks.shape[-2:]
    points = torch.rand(*shape, 2, generator=generator, device=target.masks.device)
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


def _per_process(total: Tensor, at_least: float | None = None) -> Tensor:
    """Sum over processes / number of processes: divided by it, losses averaged over processes are the joint batch's."""
    world_size = comm.get_world_size()
    if world_size > 1:
        total = total.clone()
        torch.distributed.all_reduce(total)
    if at_least is not None:
        total = total.clamp(min=at_least)
    return total / world_size


def _raise_non_finite(terms: list[Tensor], targets: list[Target], num_layers: int) -> None:
    found = []
    for term, target in zip(terms, targets, strict=True):
        broken = ~torch.isfinite(term).view(3, num_layers, -1).all(dim=-1)
        for name, layers in zip(("class", "mask", "dice"), broken, strict=True):
            if layers.any():
                found.append(f"{target.name}: {name} cost of layers {torch.nonzero(layers).flatten().tolist()}")
    where = "; ".join(found) or "in another process"
    raise FloatingPointError(f"matching cost is not finite (layer {num_layers - 1} is the last): {where}")
