"""The synthetic scenes: the same seed gives the same bytes, all forms agree, color does not give the class away."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask2former_ext.data.image_io import read_labels, read_panoptic
from mask2former_ext.data.sets.shapes import CATEGORIES, DIFFICULTIES, ID_OF, draw_scene
from mask2former_ext.data.sets.shapes_files import Recipe, label_pictures, make_shapes
from mask2former_ext.data.targets.masks import panoptic_ids, segmentation_mask
from mask2former_ext.evaluation.panoptic_quality import PanopticQuality
from tests.reference import MeanColorSegmenter

SMALL = Recipe(train=12, val=4, height=48, width=64, seed=3)
CONTIGUOUS = {category["id"]: index for index, category in enumerate(CATEGORIES)}
IS_THING = [bool(category["isthing"]) for category in CATEGORIES]


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    make_shapes(str(root), SMALL)
    return root


def all_bytes(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def scenes(count: int, split: int) -> list:
    return [draw_scene((0, split, index), 128, 128, DIFFICULTIES["medium"]) for index in range(count)]


def class_map(scene) -> np.ndarray:
    return label_pictures(scene)[1]


def test_the_same_seed_gives_the_same_bytes(synthetic: Path, tmp_path: Path) -> None:
    make_shapes(str(tmp_path), SMALL)
    assert all_bytes(tmp_path) == all_bytes(synthetic)


def test_another_seed_gives_other_pictures() -> None:
    first, second = (draw_scene((seed, 0, 0), 64, 64, DIFFICULTIES["medium"]) for seed in (0, 1))
    assert (first.image != second.image).any()


def test_an_image_does_not_depend_on_how_many_are_made(synthetic: Path, tmp_path: Path) -> None:
    make_shapes(str(tmp_path), Recipe(train=2, val=1, height=48, width=64, seed=3))
    name = "train/images/000002.png"
    assert (tmp_path / name).read_bytes() == (synthetic / name).read_bytes()


def test_train_and_val_hold_different_pictures(synthetic: Path) -> None:
    train, val = ((synthetic / split / "images" / "000001.png").read_bytes() for split in ("train", "val"))
    assert train != val


def test_the_same_recipe_is_not_made_twice(synthetic: Path) -> None:
    assert make_shapes(str(synthetic), SMALL) is False


def test_another_recipe_in_the_same_folder_is_made(tmp_path: Path) -> None:
    make_shapes(str(tmp_path), Recipe(train=1, val=1, height=32, width=32))
    assert make_shapes(str(tmp_path), Recipe(train=2, val=1, height=32, width=32)) is True


def test_rejects_an_unknown_difficulty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="difficulty is 'brutal'"):
        make_shapes(str(tmp_path), Recipe(difficulty="brutal"))


def test_rejects_a_picture_too_small_to_hold_a_scene() -> None:
    with pytest.raises(ValueError, match="16 x 64"):
        draw_scene((0,), 16, 64, DIFFICULTIES["medium"])


def test_every_pixel_belongs_to_exactly_one_segment() -> None:
    for scene in scenes(20, 0):
        assert (np.sum([segment.mask for segment in scene.segments], axis=0) == 1).all()


def test_every_class_appears_and_so_do_scenes_without_things() -> None:
    names = [{segment.name for segment in scene.segments} for scene in scenes(120, 0)]
    assert set().union(*names) == set(ID_OF)
    assert any(not {"disk", "square", "triangle", "star", "ring", "cross"} & present for present in names)


def test_the_panoptic_png_holds_the_ids_and_areas_of_its_json(synthetic: Path) -> None:
    content = json.loads((synthetic / "panoptic_train.json").read_text())
    for annotation in content["annotations"]:
        ids = panoptic_ids(read_panoptic(str(synthetic / "train" / "panoptic" / annotation["file_name"])))
        found = dict(zip(*(part.tolist() for part in np.unique(ids, return_counts=True)), strict=True))
        assert found == {segment["id"]: segment["area"] for segment in annotation["segments_info"]}


def test_the_semantic_png_holds_the_contiguous_class_of_each_segment(synthetic: Path) -> None:
    annotation = json.loads((synthetic / "panoptic_train.json").read_text())["annotations"][0]
    ids = panoptic_ids(read_panoptic(str(synthetic / "train" / "panoptic" / annotation["file_name"])))
    labels = read_labels(str(synthetic / "train" / "semantic" / annotation["file_name"]))
    for segment in annotation["segments_info"]:
        assert set(labels[ids == segment["id"]]) == {CONTIGUOUS[segment["category_id"]]}


def test_instances_and_panoptic_segments_are_the_same_masks(synthetic: Path) -> None:
    instances = json.loads((synthetic / "instances_train.json").read_text())["annotations"]
    panoptic = json.loads((synthetic / "panoptic_train.json").read_text())["annotations"]
    masks = {
        a["image_id"]: panoptic_ids(read_panoptic(str(synthetic / "train/panoptic" / a["file_name"]))) for a in panoptic
    }
    for annotation in instances:
        mask = segmentation_mask(annotation["segmentation"], 48, 64)
        ids = set(masks[annotation["image_id"]][mask].tolist())
        assert mask.sum() == annotation["area"] and len(ids) == 1
        assert ids.pop() // 1000 == annotation["category_id"]


def test_instances_come_as_polygons_and_as_both_kinds_of_rle(synthetic: Path) -> None:
    annotations = json.loads((synthetic / "instances_train.json").read_text())["annotations"]
    kinds = {
        type(a["segmentation"]["counts"]) if isinstance(a["segmentation"], dict) else "polygon" for a in annotations
    }
    assert kinds == {"polygon", str, list}


def test_some_things_are_tiny_and_some_are_covered_in_part() -> None:
    things = [segment for scene in scenes(60, 0) for segment in scene.segments if ID_OF[segment.name] < 10]
    assert min(thing.mask.sum() for thing in things) < 100 < 2000 < max(thing.mask.sum() for thing in things)
    assert sum(thing.polygon is None and thing.name != "ring" for thing in things) > 0.1 * len(things)


def test_color_alone_scores_at_most_20_pq() -> None:
    train, val = scenes(60, 0), scenes(30, 1)
    segmenter = MeanColorSegmenter([s.image for s in train], [class_map(s) for s in train], IS_THING)
    quality = PanopticQuality(dict(enumerate(IS_THING)))
    for scene in val:
        png, _, segments = label_pictures(scene)
        true = [{**segment, "category_id": CONTIGUOUS[segment["category_id"]]} for segment in segments]
        quality.update(*segmenter.panoptic(scene.image), panoptic_ids(png), true)
    assert quality.compute()["PQ"] <= 20


def test_images_are_as_large_as_asked_for(synthetic: Path) -> None:
    assert Image.open(synthetic / "val" / "images" / "000004.png").size == (64, 48)
