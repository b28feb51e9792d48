"""A data set of two synthetic images with truth of every form, and what a model answers that is right everywhere.

Category ids have gaps and mix things (dog 4, cat 9) with stuff (grass 2, sky 7): contiguous classes grass 0, dog 1,
sky 2, cat 3.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from mask2former_ext.data.targets.masks import encode_mask

CATEGORIES = [(2, "grass", 0), (4, "dog", 1), (7, "sky", 0), (9, "cat", 1)]
CLASS_OF_ID = {category: k for k, (category, _, _) in enumerate(CATEGORIES)}
THING_OF_ID = {4: 1, 9: 3}
NAMES = [name for _, name, _ in CATEGORIES]
SIZE = (40, 60)


def truth_of(number: int) -> tuple[np.ndarray, list[dict]]:
    """Sky above grass, with a dog and, in image 1, a cat; a strip of void at the left edge."""
    ids = np.full(SIZE, 70000)
    ids[20:] = 20000
    ids[10:30, 10:30] = 400
    if number == 1:
        ids[25:39, 35:55] = 900
    ids[:, :3] = 0
    category = {70000: 7, 20000: 2, 400: 4, 900: 9}
    return ids, [{"id": i, "category_id": category[i], "iscrowd": 0} for i in np.unique(ids).tolist() if i]


def rgb(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def write_panoptic(folder: Path) -> dict:
    """The metadata of a panoptic json and PNGs, written in `folder`."""
    annotations = []
    for number in (0, 1):
        ids, segments = truth_of(number)
        Image.fromarray(rgb(ids)).save(folder / f"{number}.png")
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    categories = [{"id": i, "name": name, "isthing": isthing} for i, name, isthing in CATEGORIES]
    (folder / "panoptic.json").write_text(json.dumps({"annotations": annotations, "categories": categories}))
    return {"panoptic_json": str(folder / "panoptic.json"), "panoptic_root": str(folder)}


def write_instances(folder: Path, first_image_id: int = 0) -> dict:
    """The metadata of an instances json that lists all four classes, as some data sets do."""
    annotations = []
    for number in (0, 1):
        ids, segments = truth_of(number)
        for segment in segments:
            mask = ids == segment["id"]
            rest = {"bbox": box_of(mask), "area": int(mask.sum()), "segmentation": encode_mask(mask), "iscrowd": 0}
            where = {"id": len(annotations) + 1, "image_id": first_image_id + number}
            annotations.append({**where, "category_id": segment["category_id"], **rest})
    images = [{"id": first_image_id + n, "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in (0, 1)]
    categories = [{"id": i, "name": name} for i, name, _ in CATEGORIES]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return {"json_file": str(folder / "instances.json")}


def write_semantic(folder: Path) -> list[dict]:
    """The record entries of semantic label files."""
    for number in (0, 1):
        Image.fromarray(class_map(number)).save(folder / f"{number}_labels.png")
    return [{"sem_seg_file_name": str(folder / f"{number}_labels.png")} for number in (0, 1)]


def class_map(number: int) -> np.ndarray:
    ids, segments = truth_of(number)
    labels = np.full(SIZE, 255, dtype=np.uint8)
    for segment in segments:
        labels[ids == segment["id"]] = CLASS_OF_ID[segment["category_id"]]
    return labels


def box_of(mask: np.ndarray) -> list[int]:
    ys, xs = np.nonzero(mask)
    return [int(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)]


def perfect_output(number: int) -> dict:
    """What a model says that is right everywhere, in the form that models promise."""
    ids, segments = truth_of(number)
    small = {i: n for n, i in enumerate(np.unique(ids).tolist())}
    things = [s for s in segments if s["category_id"] in THING_OF_ID]
    masks = np.stack([ids == s["id"] for s in things])
    boxes = torch.tensor([box_of(mask) for mask in masks], dtype=torch.float32)
    boxes[:, 2:] += boxes[:, :2]
    instances = Instances(SIZE, pred_boxes=Boxes(boxes), pred_masks=torch.from_numpy(masks))
    instances.pred_classes = torch.tensor([THING_OF_ID[s["category_id"]] for s in things])
    instances.scores = torch.full((len(things),), 0.9)
    labels = torch.from_numpy(class_map(number)).long()
    return {
        "panoptic_seg": (
            torch.from_numpy(np.vectorize(small.get)(ids)).int(),
            [
                {
                    "id": small[s["id"]],
                    "category_id": CLASS_OF_ID[s["category_id"]],
                    "isthing": s["category_id"] in THING_OF_ID,
                }
                for s in segments
            ],
        ),
        "instances": instances,
        "sem_seg": torch.nn.functional.one_hot(labels.where(labels != 255, 0), 4).permute(2, 0, 1).float(),
    }


def inputs_of(number: int) -> dict:
    return {"file_name": f"/images/{number}.jpg", "image_id": number, "height": SIZE[0], "width": SIZE[1]}


def evaluate(evaluator: object, outputs: list[dict] | None = None) -> dict:
    evaluator.reset()
    for number, output in enumerate(outputs or [perfect_output(0), perfect_output(1)]):
        evaluator.process([inputs_of(number)], [output])
    return evaluator.evaluate()


HEADLINES = [
    ("panoptic_seg", "PQ"),
    ("panoptic_seg", "PQ_th"),
    ("panoptic_seg", "PQ_st"),
    ("bbox", "AP"),
    ("segm", "AP"),
    ("segm", "AP-cat"),
    ("sem_seg", "mIoU"),
    ("sem_seg", "IoU-sky"),
]
