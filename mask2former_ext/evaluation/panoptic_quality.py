"""Panoptic quality (PQ), recognition quality (RQ) and segmentation quality (SQ): Kirillov et al., arXiv 1801.00868.

Shapes: H, W pixels of an image; T true and P predicted segments of it; C categories of the data set.
Id 0 in an id map means "no segment": void in the truth, nothing in the prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mask2former_ext.data.targets.masks import VOID_ID, check_segment_ids

_SCORES = ("PQ", "SQ", "RQ")
_MATCH_IOU = 0.5  # above one half a match is unique: two disjoint segments cannot both cover most of a third

Segment = Mapping[str, Any]


class PanopticQuality:
    """Accumulates, image by image, what PQ needs.

    `state` is a float64 array (4, C) whose rows are true positives, false positives, false negatives and the summed IoU
    of the true positives, per category in the order of `categories`. The states of two sets of images add up to that of
    their union, so several processes are reduced by a sum. The arithmetic follows the definition that the COCO panoptic
    task publishes:

    - a pair matches if the categories agree, the truth is no crowd and IoU > 0.5; the truth's void leaves the union;
    - a crowd is never a false negative; an unmatched prediction is no false positive if more than half of it lies on
      void or on its category's crowd (where an image lists several crowds of a category, on the last of them);
    - areas are counted in the maps; an `area` written in a segment is not read.
    """

    def __init__(self, is_thing: Mapping[int, bool]) -> None:
        """`is_thing` maps each category id of the truth to whether its segments are instances."""
        if not is_thing:
            raise ValueError("panoptic quality needs at least one category, got none")
        self.categories = sorted(is_thing)
        self.is_thing = np.array([bool(is_thing[category]) for category in self.categories])
        self._row_of = {category: row for row, category in enumerate(self.categories)}
        self.state = np.zeros((4, len(self.categories)))

    def update(
        self,
        pred_ids: NDArray[np.integer],
        pred_segments: Sequence[Segment],
        true_ids: NDArray[np.integer],
        true_segments: Sequence[Segment],
        name: str = "image",
    ) -> None:
        """Add one image. Maps are (H, W), ids in [0, 2**31); `name` is the file that an error message blames.

        ValueError if the maps differ in size, an id has pixels but no entry or an entry no pixels, an id is listed
        twice, or a category is unknown.
        """
        if pred_ids.shape != true_ids.shape:
            sizes = f"the prediction is {pred_ids.shape} pixels, the truth {true_ids.shape}"
            raise ValueError(f"{name}: {sizes}; both are (H, W)")
        pred_index, pred_rows = self._index(pred_segments, f"{name}: prediction")
        true_index, true_rows = self._index(true_segments, f"{name}: truth")
        pair_ids, areas = count_pairs(true_ids, pred_ids)
        check_segment_ids(pair_ids[0], true_index, f"{name}: truth")
        check_segment_ids(pair_ids[1], pred_index, f"{name}: prediction")

        overlap = np.zeros((len(true_index) + 1, len(pred_index) + 1), dtype=np.int64)
        true_places = [true_index.get(i, len(true_index)) for i in pair_ids[0].tolist()]  # void comes last
        pred_places = [pred_index.get(i, len(pred_index)) for i in pair_ids[1].tolist()]
        overlap[true_places, pred_places] = areas
        is_crowd = np.array([bool(segment.get("iscrowd", 0)) for segment in true_segments], dtype=bool)
        self._add(overlap, true_rows, is_crowd, pred_rows)

    def compute(self) -> dict[str, float]:
        """PQ, SQ, RQ over all categories, `_th` over things, `_st` over stuff, in percent.

        A category without truth and prediction does not count; a group without a category that counts is nan.
        """
        quality, counts = self._per_category()
        every = np.ones_like(self.is_thing)
        results = {}
        for suffix, group in (("", every), ("_th", self.is_thing), ("_st", ~self.is_thing)):
            chosen = quality[:, group & counts]
            means = chosen.mean(axis=1) if chosen.size else np.full(3, np.nan)
            for key, mean in zip(_SCORES, means, strict=True):
                results[key + suffix] = float(100 * mean)
        return results

    def per_category(self) -> dict[int, dict[str, float]]:
        """Category id -> PQ, SQ, RQ in percent; nan for a category that does not count."""
        quality, counts = self._per_category()
        quality[:, ~counts] = np.nan
        columns = (100 * quality.T).tolist()
        return {
            category: dict(zip(_SCORES, column, strict=True))
            for category, column in zip(self.categories, columns, strict=True)
        }

    def _index(self, segments: Sequence[Segment], where: str) -> tuple[dict[int, int], NDArray[np.int64]]:
        """(segment id -> its place in `segments`, the state column of each segment)."""
        index = {int(segment["id"]): place for place, segment in enumerate(segments)}
        if len(index) < len(segments) or VOID_ID in index:
            ids = [int(segment["id"]) for segment in segments]
            raise ValueError(
                f"{where}: segment ids {sorted(ids)} must differ from each other and from {VOID_ID} (void)"
            )
        unknown = {int(s["category_id"]) for s in segments} - self._row_of.keys()
        if unknown:
            raise ValueError(f"{where}: category ids {sorted(unknown)} are not among the data set's {self.categories}")
        return index, np.array([self._row_of[int(s["category_id"])] for s in segments], dtype=np.int64)

    def _add(
        self,
        overlap: NDArray[np.int64],
        true_rows: NDArray[np.int64],
        is_crowd: NDArray[np.bool_],
        pred_rows: NDArray[np.int64],
    ) -> None:
        """`overlap` (T + 1, P + 1): pixels that a true and a predicted segment share; void last on both axes."""
        shared, on_void = overlap[:-1, :-1], overlap[-1, :-1]
        pred_area = overlap[:, :-1].sum(axis=0)
        union = overlap[:-1].sum(axis=1)[:, None] + (pred_area - on_void)[None] - shared
        iou = shared / union
        comparable = (true_rows[:, None] == pred_rows[None]) & ~is_crowd[:, None]
        matched_true, matched_pred = np.nonzero(comparable & (iou > _MATCH_IOU))

        ignored = on_void.copy()
        last_crowd = {int(true_rows[place]): place for place in np.flatnonzero(is_crowd)}
        for row, place in last_crowd.items():
            ignored[pred_rows == row] += shared[place, pred_rows == row]
        false_pred = 2 * ignored <= pred_area
        false_pred[matched_pred] = False
        missed_true = ~is_crowd
        missed_true[matched_true] = False

        width = len(self.categories)
        self.state[0] += np.bincount(true_rows[matched_true], minlength=width)
        self.state[1] += np.bincount(pred_rows[false_pred], minlength=width)
        self.state[2] += np.bincount(true_rows[missed_true], minlength=width)
        self.state[3] += np.bincount(true_rows[matched_true], weights=iou[matched_true, matched_pred], minlength=width)

    def _per_category(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(PQ, SQ, RQ as (3, C) fractions, whether each category counts (C))."""
        tp, fp, fn, iou = self.state
        sq = iou / np.maximum(tp, 1)
        rq = tp / np.maximum(tp + (fp + fn) / 2, 0.5)
        return np.stack([sq * rq, sq, rq]), tp + fp + fn > 0


def count_pairs(first: NDArray[np.integer], second: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two maps of one size -> (the pairs of ids that meet at a pixel (2, N), the pixels of each pair (N)).

    Ids lie in [0, 2**31). Runs of equal pixels are folded before the sort: a map has few of them.
    """
    codes = (first.astype(np.int64).ravel() << 32) | second.astype(np.int64).ravel()
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])) if codes.size else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.append(starts, codes.size))
    pairs, place = np.unique(codes[starts], return_inverse=True)
    areas = np.bincount(place, weights=lengths, minlength=len(pairs)).astype(np.int64)
    return np.stack([pairs >> 32, pairs & 0xFFFFFFFF]), areas
