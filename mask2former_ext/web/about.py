"""What the page tells of a model before it answers: what it is, what it knows, and a picture to try it on."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mask2former_ext.classes import ANY_THING, APART, ClassTable
from mask2former_ext.data.image_io import read_image
from mask2former_ext.data.sets.shapes import CATEGORIES, DIFFICULTIES, THINGS, draw_scene
from mask2former_ext.inference.predictor import Predictor
from mask2former_ext.inference.video import fitted_size, resized

# The sample for a model of the synthetic scenes, (H, W) px: as large as those of its training, since texture tells the
# classes, then enlarged for the eye; the model gets it at its first size again.
SCENE_SEED, SCENE_SIZE, SCENE_FACTOR = (2026, 17), (128, 176), 4
SAMPLE_SIDE = 1024  # px, the longest of a sample of one's own
TASK_WORDS = {
    "semantic": "a class for each pixel",
    "instance": "each thing on its own",
    "panoptic": "each thing on its own, and a class for all around it",
}


def about(predictor: Predictor) -> dict[str, Any]:
    """What page/about.js shows: `model`, `knows` and `limits` are sentences, `classes` names."""
    cfg, names = predictor.cfg, class_names(predictor.classes)
    trained_on = ", ".join(cfg.DATASETS.TRAIN) or "data that its configuration does not name"
    if not names:
        knows, limits = "Its classes have no names here: numbers are shown.", ""
    elif knows_scenes_alone(names):
        knows = f"It knows the {len(names)} classes of synthetic scenes, drawn by a program, and nothing else."
        limits = "It has never seen a photograph: what it says of one means nothing."
    else:
        knows = f"It knows {len(names)} classes and nothing else."
        limits = "What it does not know gets the nearest of these names, or none, and the score may be high even so."
    model = f"{cfg.MODEL.META_ARCHITECTURE}, trained on {trained_on}."
    return {"model": model, "knows": knows, "limits": limits, "classes": names}


def class_names(table: ClassTable | None) -> list[str]:
    """The names that the model can give, things first where they are numbered apart."""
    if table is None:
        return []
    if table.numbering == APART:
        return [*table.thing_names.values(), *table.label_names[ANY_THING + 1 :]]
    return list(table.names)


def knows_scenes_alone(names: list[str]) -> bool:
    """Whether the classes are those of the synthetic set "shapes"."""
    return set(THINGS) <= set(names) <= {category["name"] for category in CATEGORIES}


def scene_for(predictor: Predictor) -> dict[str, str] | None:
    """A picture to try the model on, as the page sends files (`name`, `data`); None if it knows none of ours."""
    if not knows_scenes_alone(class_names(predictor.classes)):
        return None
    scene = Image.fromarray(draw_scene(SCENE_SEED, *SCENE_SIZE, DIFFICULTIES["easy"]).image)
    enlarged = scene.resize((scene.width * SCENE_FACTOR, scene.height * SCENE_FACTOR), Image.Resampling.BICUBIC)
    return _as_file("synthetic scene.jpg", np.asarray(enlarged))


def own_sample(path: Path) -> dict[str, str]:
    """The picture of a file in the same form, its pixels alone. Raises BrokenImageError if it cannot be read."""
    image = read_image(str(path), "RGB")
    return _as_file(f"{path.stem}.jpg", resized(image, fitted_size(image.shape[:2], SAMPLE_SIDE)))


def _as_file(name: str, image: NDArray[np.uint8]) -> dict[str, str]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return {"name": name, "data": base64.b64encode(file.getvalue()).decode("ascii")}
