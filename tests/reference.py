"""Slow and obvious versions of what the package does fast, and weak solutions that a good one must beat."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def slow_panoptic_quality(images: list[tuple], is_thing: dict[int, bool]) -> dict[str, float]:
    """PQ, SQ, RQ (all, _th, _st) in percent, by loops over segments and sets of pixels.

    `images` are (pred_ids (H, W), pred_segments, true_ids (H, W), true_segments).
    """
    tally = {category: {"tp": 0, "fp": 0, "fn": 0, "iou": 0.0} for category in is_thing}
    for pred_ids, pred_segments, true_ids, true_segments in images:
        void = _pixels(true_ids, 0)
        matched_pred, matched_true = set(), set()
        for true in true_segments:
            for pred in pred_segments:
                if true.get("iscrowd") or true["category_id"] != pred["category_id"]:
                    continue
                a, b = _pixels(true_ids, true["id"]), _pixels(pred_ids, pred["id"]) - void
                iou = len(a & b) / len(a | b)
                if iou > 0.5:
                    tally[true["category_id"]]["tp"] += 1
                    tally[true["category_id"]]["iou"] += iou
                    matched_pred.add(pred["id"])
                    matched_true.add(true["id"])
        for true in true_segments:
            if true["id"] not in matched_true and not true.get("iscrowd"):
                tally[true["category_id"]]["fn"] += 1
        for pred in pred_segments:
            ignored = set(void)
            for true in true_segments:
                if true.get("iscrowd") and true["category_id"] == pred["category_id"]:
                    ignored = void | _pixels(true_ids, true["id"])
            area = _pixels(pred_ids, pred["id"])
            if pred["id"] not in matched_pred and len(area & ignored) / len(area) <= 0.5:
                tally[pred["category_id"]]["fp"] += 1
    results = {}
    for suffix, kinds in (("", (True, False)), ("_th", (True,)), ("_st", (False,))):
        rows = [t for c, t in tally.items() if is_thing[c] in kinds and t["tp"] + t["fp"] + t["fn"] > 0]
        halves = [t["tp"] + 0.5 * t["fp"] + 0.5 * t["fn"] for t in rows]
        results["PQ" + suffix] = _mean_percent([t["iou"] / n for t, n in zip(rows, halves, strict=True)])
        results["SQ" + suffix] = _mean_percent([t["iou"] / t["tp"] if t["tp"] else 0.0 for t in rows])
        results["RQ" + suffix] = _mean_percent([t["tp"] / n for t, n in zip(rows, halves, strict=True)])
    return results


def _pixels(ids: np.ndarray, segment_id: int) -> set[tuple[int, int]]:
    return {(y, x) for y in range(ids.shape[0]) for x in range(ids.shape[1]) if ids[y, x] == segment_id}


def _mean_percent(values: list[float]) -> float:
    return 100 * sum(values) / len(values) if values else float("nan")


class MeanColorSegmenter:
    """What color alone can do: a pixel belongs to the nearest mean color, each blob of a thing is an instance."""

    def __init__(self, images: list[np.ndarray], class_maps: list[np.ndarray], is_thing: list[bool]):
        """`images` RGB uint8 (H, W, 3); `class_maps` (H, W) with labels in [0, K), others are not learned from."""
        self.is_thing = is_thing
        pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(float)
        labels = np.concatenate([class_map.ravel() for class_map in class_maps])
        means = [
            pixels[labels == k].mean(axis=0) if (labels == k).any() else [np.inf] * 3 for k in range(len(is_thing))
        ]
        self.mean_colors = np.array(means)

    def semantic(self, image: np.ndarray) -> np.ndarray:
        """RGB (H, W, 3) -> class of each pixel (H, W)."""
        distances = [((image - color) ** 2).sum(axis=-1) for color in self.mean_colors]
        return np.argmin(distances, axis=0)

    def panoptic(self, image: np.ndarray, min_pixels: int = 20) -> tuple[np.ndarray, list[dict]]:
        """RGB (H, W, 3) -> (ids (H, W), segments: id, category_id, isthing); smaller blobs of things are dropped."""
        classes = self.semantic(image)
        ids, segments = np.zeros(classes.shape, dtype=np.int32), []
        for k in np.unique(classes).tolist():
            blobs, count = ndimage.label(classes == k) if self.is_thing[k] else ((classes == k).astype(int), 1)
            for blob in range(1, count + 1):
                if self.is_thing[k] and (blobs == blob).sum() < min_pixels:
                    continue
                segments.append({"id": len(segments) + 1, "category_id": k, "isthing": self.is_thing[k]})
                ids[blobs == blob] = len(segments)
        return ids, segments


def slow_multi_scale_deformable_attention(value, level_shapes, sampling_locations, attention_weights):
    """(B, S, H, D), (B, N, H, L, P, 2), (B, N, H, L, P) -> (B, N, H * D), one cell at a time, as the formula says."""
    batch, _, heads, channels = value.shape
    output = value.new_zeros(batch, sampling_locations.shape[1], heads, channels)
    for b, n, h, level, p in np.ndindex(*attention_weights.shape):
        height, width = level_shapes[level]
        start = sum(rows * columns for rows, columns in level_shapes[:level])
        x = float(sampling_locations[b, n, h, level, p, 0]) * width - 0.5
        y = float(sampling_locations[b, n, h, level, p, 1]) * height - 0.5
        for row in range(height):
            for column in range(width):
                bilinear = max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row))
                weight = attention_weights[b, n, h, level, p] * bilinear
                output[b, n, h] += weight * value[b, start + row * width + column, h]
    return output.flatten(2)
