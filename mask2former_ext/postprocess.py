"""Turn mask-classification logits into segmentations: pure functions.

Shapes: Q queries; K classes, index K of class_logits means "no object"; h, w pixels of the predicted masks; H, W pixels
of the output. What a task throws away by class it throws away before it enlarges masks, the rest it enlarges in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Enlarged masks are kept for the next task if all of them fit in this, else computed again, a chunk at a time.
KEEP_BYTES = 256 * 2**20
CHUNK_BYTES = 8 * 2**20


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h, w) -> (N, *size), bilinear, pixel centers at half-integers."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def resize_class_scores(scores: Tensor, image_size: tuple[int, int], output_size: tuple[int, int]) -> Tensor:
    """(K, padded H, padded W) -> (K, *output_size): the padding is cut off, the rest resized."""
    return _resize(scores[:, : image_size[0], : image_size[1]], output_size)


class ResizedMasks:
    """Mask logits (Q, h, w), brought to the output size on access, as probabilities.

    Two bilinear steps as published: to `padded_size`, cut to `image_size`, to `output_size`; without the last two, the
    first step alone. A plain (Q, H, W) tensor of the output's size is served by `ResizedMasks(masks)`.
    """

    def __init__(
        self,
        mask_logits: Tensor,
        padded_size: tuple[int, int] | None = None,
        image_size: tuple[int, int] | None = None,
        output_size: tuple[int, int] | None = None,
    ):
        self.mask_logits = mask_logits
        self.padded_size = padded_size or (mask_logits.shape[-2], mask_logits.shape[-1])
        self.image_size = image_size or self.padded_size
        self.size = output_size or self.image_size
        self._kept: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.mask_logits.device

    def chunks(self, queries: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield (slice of `queries`, their mask probabilities (n, H, W) float32), in order, n bounded by memory.

        `queries` are indices (n,) of masks, ascending; None: all masks, which come in one piece if they are kept.
        """
        in_one_piece = queries is None
        queries = torch.arange(len(self.mask_logits), device=self.device) if queries is None else queries
        mask_bytes = 4 * max(self.size[0] * self.size[1], self.padded_size[0] * self.padded_size[1])
        step = max(1, CHUNK_BYTES // mask_bytes)
        keep = len(self.mask_logits) * mask_bytes <= KEEP_BYTES
        if keep and self._kept is None and 2 * len(queries) >= len(self.mask_logits):
            self._kept = self._enlarge(self.mask_logits)
        if in_one_piece and self._kept is not None:
            step = len(queries)
        for start in range(0, len(queries), step):
            part = slice(start, min(start + step, len(queries)))
            if self._kept is None:
                yield part, self._enlarge(self.mask_logits[queries[part]])
            elif len(queries) == len(self.mask_logits):
                yield part, self._kept[part]
            else:
                yield part, self._kept[queries[part]]

    def _enlarge(self, masks: Tensor) -> Tensor:
        masks = _resize(masks.float(), self.padded_size)[:, : self.image_size[0], : self.image_size[1]]
        masks = _resize(masks, self.size)  # one name: what it held before is not kept while the next is computed
        is_ours = masks.untyped_storage().data_ptr() != self.mask_logits.untyped_storage().data_ptr()
        return masks.sigmoid_() if is_ours else masks.sigmoid()


def semantic_inference(class_logits: Tensor, masks: ResizedMasks) -> Tensor:
    """(Q, K+1) and the masks -> (K, H, W) scores >= 0, which need not sum to 1 (arXiv 2107.06278, section 3.4)."""
    assert len(class_logits), "a model has at least one query"
    class_probs = class_logits.softmax(dim=-1)[:, :-1]
    height, width = masks.size
    scores = class_probs.new_empty((class_probs.shape[1], height * width))
    for part, mask_probs in masks.chunks():
        # The first one overwrites what lies there.
        scores.addmm_(class_probs[part].T, mask_probs.flatten(1), beta=float(part.start > 0))
    return scores.view(-1, height, width)


def panoptic_inference(
    class_logits: Tensor,
    masks: ResizedMasks,
    is_thing: Tensor,
    *,
    min_class_prob: float,
    min_visible_fraction: float,
    min_pixel_prob: float = 0.0,
) -> tuple[Tensor, list[dict]]:
    """Give each pixel to the query with the best class probability x mask probability (arXiv 2107.06278, section 3.4).

    is_thing: bool (K,). A query takes part if its best class is an object and its probability exceeds `min_class_prob`.
    Its segment is what it wins with a mask probability of at least `min_pixel_prob`; the segment is dropped if the
    pixels won are fewer than `min_visible_fraction` of the pixels with probability >= 0.5. Stuff of one class is one
    segment. Returns ids (H, W) int32, 0 = nothing, and per segment {"id", "isthing", "category_id", "score"}.
    """
    class_probs, classes = class_logits.softmax(dim=-1).max(dim=-1)
    queries = torch.nonzero((classes != class_logits.shape[-1] - 1) & (class_probs > min_class_prob)).flatten()
    segmentation = torch.zeros(masks.size, dtype=torch.int32, device=masks.device)
    if len(queries) == 0:
        return segmentation, []
    class_probs, classes = class_probs[queries], classes[queries]
    winner, confident, mask_area = _contest(masks, queries, class_probs, min_pixel_prob)
    won_area = torch.bincount(winner.flatten(), minlength=len(queries))
    kept_area = torch.bincount(winner[confident], minlength=len(queries))
    figures = torch.stack((won_area, kept_area, mask_area, classes, is_thing[classes].long())).tolist()

    segments: list[dict] = []
    segment_of_stuff: dict[int, int] = {}
    segment_of_query = [0] * len(queries)
    scores = class_probs.tolist()
    for query, (won, kept, area, category, thing) in enumerate(zip(*figures, strict=True)):
        if kept == 0 or area == 0 or won / area < min_visible_fraction:
            continue
        if not thing and category in segment_of_stuff:
            segment_of_query[query] = segment_of_stuff[category]
            continue
        segment_of_query[query] = len(segments) + 1
        if not thing:
            segment_of_stuff[category] = len(segments) + 1
        segments.append(
            {"id": len(segments) + 1, "isthing": bool(thing), "category_id": category, "score": scores[query]}
        )
    ids = torch.tensor(segment_of_query, dtype=torch.int32, device=masks.device)
    return torch.where(confident, ids[winner], segmentation), segments


def _contest(
    masks: ResizedMasks, queries: Tensor, class_probs: Tensor, min_pixel_prob: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Per pixel the winning position in `queries` (H, W) int64 and whether its mask is confident there; per query the
    number of pixels with mask probability >= 0.5."""
    best = torch.full(masks.size, -1.0, device=masks.device)
    winner = torch.zeros(masks.size, dtype=torch.int64, device=masks.device)
    confident = torch.zeros(masks.size, dtype=torch.bool, device=masks.device)
    areas = []
    for part, mask_probs in masks.chunks(queries):
        below = (mask_probs - 0.5).floor_().sum(dim=(1, 2))  # minus their number
        areas.append(mask_probs[0].numel() + below.long())
        score, index = (class_probs[part, None, None] * mask_probs).max(dim=0)
        mask_prob = mask_probs.gather(0, index[None])[0]
        better = score > best
        best = torch.where(better, score, best)
        winner = torch.where(better, part.start + index, winner)
        confident = torch.where(better, mask_prob >= min_pixel_prob, confident)
    return winner, confident, torch.cat(areas)


class FoundInstances(NamedTuple):
    """N instances by descending score: masks bool (N, H, W), boxes (N, 4) x0 y0 x1 y1 px, scores (N), classes (N)."""

    masks: Tensor
    boxes: Tensor
    scores: Tensor
    classes: Tensor


def instance_inference(
    class_logits: Tensor,
    masks: ResizedMasks,
    *,
    max_instances: int,
    keep_class: Tensor | None = None,
    min_score: float = 0.0,
) -> FoundInstances:
    """The best `max_instances` of all Q x K pairs, then, with `keep_class` bool (K,), only those of a kept class, and
    of these those that score at least `min_score`: what its class alone keeps below it is not enlarged.

    A mask is where its probability exceeds 0.5; score = class probability x mean mask probability inside the mask
    (arXiv 2112.01527, section 4); the box bounds the mask, (0, 0, 0, 0) if that is empty.
    """
    class_probs = class_logits.softmax(dim=-1)[:, :-1]
    num_classes = class_probs.shape[1]
    pair_probs, pairs = class_probs.flatten().topk(min(max_instances, class_probs.numel()), sorted=False)
    if keep_class is not None:
        kept = keep_class[pairs % num_classes]
        pair_probs, pairs = pair_probs[kept], pairs[kept]
    if min_score > 0:
        pairs, pair_probs = pairs[pair_probs >= min_score], pair_probs[pair_probs >= min_score]
    queries, of_pair = torch.unique(pairs // num_classes, return_inverse=True)
    height, width = masks.size
    binary = torch.zeros((len(queries), height, width), dtype=torch.bool, device=masks.device)
    mean_probs = pair_probs.new_zeros(len(queries))
    for part, mask_probs in masks.chunks(queries):
        inside = (mask_probs - 0.5).ceil_()  # 1 above 0.5, else 0, as floats: sums of bools are several times slower
        binary[part] = inside.bool()
        area = inside.sum(dim=(1, 2))
        mean_probs[part] = inside.mul_(mask_probs).sum(dim=(1, 2)) / (area + 1e-6)
    scores, order = (pair_probs * mean_probs[of_pair]).sort(descending=True, stable=True)
    if min_score > 0:
        scores = scores[scores >= min_score]
        order = order[: len(scores)]
    of_pair = of_pair[order]
    return FoundInstances(binary[of_pair], boxes_of_masks(binary)[of_pair], scores, pairs[order] % num_classes)


def boxes_of_masks(masks: Tensor) -> Tensor:
    """Bool (N, H, W) -> float (N, 4): x0, y0 the first pixel of the mask, x1, y1 one past the last; zeros if empty."""
    if masks.numel() == 0:
        return torch.zeros((len(masks), 4), device=masks.device)
    limits = []
    pixels = masks.view(torch.uint8)  # whose maximum takes a small part of the time than any() of bools
    columns, rows = pixels.amax(dim=1), pixels.amax(dim=2)  # (N, W), (N, H)
    for line in (columns, rows):
        first = line.int().argmax(dim=1)
        past_last = line.shape[1] - line.flip(1).int().argmax(dim=1)
        limits.append((first, past_last))
    (x0, x1), (y0, y1) = limits
    boxes = torch.stack((x0, y0, x1, y1), dim=1).float()
    return boxes * rows.amax(dim=1, keepdim=True)
