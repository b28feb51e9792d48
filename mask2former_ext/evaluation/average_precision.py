"""Average precision of instance segmentation and detection by the COCO rules; pycocotools does the matching."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# Score -> (IoU threshold or None for the mean over 0.50, 0.55, ..., 0.95; object size by pycocotools' names).
_SCORES = {
    "AP": (None, "all"),
    "AP50": (0.5, "all"),
    "AP75": (0.75, "all"),
    "APs": (None, "small"),
    "APm": (None, "medium"),
    "APl": (None, "large"),
}
SCORE_NAMES = tuple(_SCORES)


def coco_average_precision(
    coco_gt: COCO,
    results: Sequence[Mapping[str, Any]],
    iou_type: str,
    max_dets: int = 100,
    class_names: Sequence[str] | None = None,
    *,
    category_ids: Sequence[int] | None = None,
    image_ids: Sequence[Any] | None = None,
) -> dict[str, float]:
    """AP, AP50, AP75, APs, APm, APl in percent, and AP-<class> where `class_names` has two or more.

    `results` are in COCO's result form: image_id, category_id, score, and `bbox` (x, y, width, height) or
    `segmentation` (RLE). `iou_type` is "segm" or "bbox"; with "segm" the size of an object is the area of its mask. The
    `max_dets` best results of each image and category count. `category_ids` and `image_ids` restrict the evaluation
    (None: all); `class_names` follow `category_ids`, or all categories by ascending id. A score without any truth to be
    computed from is nan; with truth but without any result it is 0.
    """
    if iou_type not in ("segm", "bbox"):
        raise ValueError(f"iou_type {iou_type!r} is not one of 'segm', 'bbox'")
    categories = list(category_ids) if category_ids is not None else sorted(coco_gt.getCatIds())
    if class_names is not None and len(class_names) != len(categories):
        raise ValueError(f"{len(class_names)} class names for {len(categories)} categories")
    detections = [_detection(result, iou_type) for result in results if result["category_id"] in set(categories)]
    coco_dt = in_memory_coco(coco_gt.dataset["images"], detections, coco_gt.dataset["categories"])
    evaluation = COCOeval(coco_gt, coco_dt, iou_type)
    evaluation.params.catIds = categories
    evaluation.params.maxDets = [max_dets]
    if image_ids is not None:
        evaluation.params.imgIds = list(image_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    names = None if class_names is None else [name for _, name in sorted(zip(categories, class_names, strict=True))]
    return average_precision_scores(evaluation, names)


def average_precision_scores(evaluation: COCOeval, class_names: Sequence[str] | None = None) -> dict[str, float]:
    """The scores of an accumulated evaluation at its last limit of results, in percent; see `coco_average_precision`.

    `class_names` follow the categories by ascending id.
    """
    precision = evaluation.eval["precision"][..., -1]  # IoU, recall, category by ascending id, size
    if class_names is not None and len(class_names) != precision.shape[2]:
        raise ValueError(f"{len(class_names)} class names for {precision.shape[2]} categories")
    ious, sizes = evaluation.params.iouThrs, evaluation.params.areaRngLbl
    scores = {}
    for key, (iou, size) in _SCORES.items():
        chosen = precision if iou is None else precision[np.isclose(ious, iou)]
        scores[key] = _mean_precision(chosen[..., sizes.index(size)])
    if class_names is not None and len(class_names) > 1:
        for place, name in enumerate(class_names):
            scores[f"AP-{name}"] = _mean_precision(precision[:, :, place, sizes.index("all")])
    return scores


def _detection(result: Mapping[str, Any], iou_type: str) -> dict[str, Any]:
    """The result as pycocotools wants a detection: its area is the mask's for "segm" and the box's for "bbox"."""
    if iou_type == "segm":
        area = float(rle_codec.area(result["segmentation"]))
    else:
        area = result["bbox"][2] * result["bbox"][3]
    return {**result, "area": area, "iscrowd": 0}


def _mean_precision(precision: NDArray[np.float64]) -> float:
    """In percent; pycocotools marks what has no truth by -1."""
    known = precision[precision > -1]
    return float(100 * known.mean()) if known.size else float("nan")


def in_memory_coco(
    images: list[dict[str, Any]], annotations: list[dict[str, Any]], categories: list[dict[str, Any]]
) -> COCO:
    """A COCO ground truth from its three lists. Annotations are numbered from 1: pycocotools reads 0 as unmatched."""
    numbered = [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)]
    coco = COCO()
    coco.dataset = {"info": {}, "images": images, "annotations": numbered, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def load_coco(path: str) -> COCO:
    """The ground truth of an instances json. What pycocotools needs and COCO's form allows to be left out is filled in:
    info, iscrowd, area."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
    coco.dataset.setdefault("info", {})
    for annotation in coco.dataset.get("annotations", []):
        annotation.setdefault("iscrowd", 0)
        if "area" not in annotation:
            if annotation.get("segmentation"):
                annotation["area"] = float(rle_codec.area(coco.annToRLE(annotation)))
            else:
                annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    return coco
