"""Write synthetic scenes to disk in the three standard forms at once: COCO instances, COCO panoptic, semantic PNG.

root/recipe.json                           the options that the files follow from
root/{train,val}/{images,panoptic,semantic}/000001.png
root/{instances,panoptic}_{train,val}.json
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from mask2former_ext.data.sets.shapes import CATEGORIES, DIFFICULTIES, ID_OF, Scene, Segment, draw_scene
from mask2former_ext.data.targets.masks import encode_mask, panoptic_png, run_lengths

SPLITS = ("train", "val")
_CONTIGUOUS = {category["id"]: index for index, category in enumerate(CATEGORIES)}
_IS_THING = {category["id"]: bool(category["isthing"]) for category in CATEGORIES}


@dataclass(frozen=True)
class Recipe:
    """All that the files follow from. Sizes in pixels; `train` and `val` count images."""

    train: int = 2000
    val: int = 200
    height: int = 128
    width: int = 128
    seed: int = 0
    difficulty: str = "medium"
    version: int = 1  # of the drawing: raised whenever the same recipe would give other pixels


def make_shapes(root: str, recipe: Recipe, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> bool:
    """Write the data set under `root`. Returns False, writing nothing, if it is there already, of the same recipe.

    `progress` wraps the numbers of the images, as tqdm does.
    """
    if recipe.difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty is '{recipe.difficulty}', but must be one of {', '.join(DIFFICULTIES)}")
    recipe_path = os.path.join(root, "recipe.json")
    if os.path.isfile(recipe_path):
        with open(recipe_path, encoding="utf-8") as file:
            if json.load(file) == asdict(recipe):
                return False
        os.remove(recipe_path)  # written again at the end, so that a broken run is not taken for a whole one
    counts = [recipe.train, recipe.val]
    contents = {split: _empty_jsons() for split in SPLITS}
    for number in progress(range(sum(counts))):
        split_index, index = (0, number) if number < counts[0] else (1, number - counts[0])
        _write_image(root, recipe, split_index, index, contents[SPLITS[split_index]])
    for split, jsons in contents.items():
        for form, content in jsons.items():
            _write_json(os.path.join(root, f"{form}_{split}.json"), content)
    _write_json(recipe_path, asdict(recipe))
    return True


def _empty_jsons() -> dict[str, dict[str, list[Any]]]:
    things = [category for category in CATEGORIES if category["isthing"]]
    return {
        "instances": {"images": [], "annotations": [], "categories": things},
        "panoptic": {"images": [], "annotations": [], "categories": list(CATEGORIES)},
    }


def _write_image(root: str, recipe: Recipe, split_index: int, index: int, jsons: dict[str, dict[str, Any]]) -> None:
    scene = draw_scene((recipe.seed, split_index, index), recipe.height, recipe.width, DIFFICULTIES[recipe.difficulty])
    name = f"{index + 1:06d}.png"
    panoptic, semantic, segments = label_pictures(scene)
    for folder, pixels in (("images", scene.image), ("panoptic", panoptic), ("semantic", semantic)):
        path = os.path.join(root, SPLITS[split_index], folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(pixels).save(path, compress_level=1 if folder == "images" else 6)

    image_id = index + 1
    image = {"id": image_id, "file_name": name, "height": recipe.height, "width": recipe.width}
    jsons["panoptic"]["images"].append(image)
    jsons["panoptic"]["annotations"].append({"image_id": image_id, "file_name": name, "segments_info": segments})
    jsons["instances"]["images"].append(image)
    annotations = jsons["instances"]["annotations"]
    for segment in scene.segments:
        if _IS_THING[ID_OF[segment.name]]:
            annotations.append(_annotation(segment, len(annotations) + 1, image_id))


def label_pictures(scene: Scene) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """(panoptic PNG uint8 (H, W, 3), contiguous class of each pixel uint8 (H, W), segments_info)."""
    height, width = scene.image.shape[:2]
    ids, semantic = np.zeros((height, width), dtype=np.int64), np.zeros((height, width), dtype=np.uint8)
    segments = []
    for number, segment in enumerate(scene.segments, start=1):
        category_id = ID_OF[segment.name]
        segment_id = 1000 * category_id + number
        ids[segment.mask], semantic[segment.mask] = segment_id, _CONTIGUOUS[category_id]
        area_and_box = _area_and_box(segment.mask)
        segments.append({"id": segment_id, "category_id": category_id, "iscrowd": 0, **area_and_box})
    return panoptic_png(ids), semantic, segments


def _annotation(segment: Segment, annotation_id: int, image_id: int) -> dict[str, Any]:
    """A polygon where one can say it; of the rest every other one compressed RLE, every other one not."""
    segmentation: Any
    if segment.polygon is not None:
        segmentation = [segment.polygon]
    elif annotation_id % 2:
        segmentation = {"size": list(segment.mask.shape), "counts": run_lengths(segment.mask)}
    else:
        segmentation = encode_mask(segment.mask)
    identity = {"id": annotation_id, "image_id": image_id, "category_id": ID_OF[segment.name], "iscrowd": 0}
    return {**identity, **_area_and_box(segment.mask), "segmentation": segmentation}


def _area_and_box(mask: np.ndarray) -> dict[str, Any]:
    """`area` in pixels and `bbox` as x, y, width, height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {"area": int(mask.sum()), "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]}


def _write_json(path: str, content: Any) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, separators=(",", ":"))
