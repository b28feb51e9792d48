from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from mask2former_ext.classes import ClassTable, name_of
from mask2former_ext.inference import drawing as visualize
from mask2former_ext.inference.drawing import draw_instances, draw_panoptic, draw_semantic, enlarge

SIZE = (400, 500)


# Numbers: grass 0, dog 1, sky 2, cat 3.
TABLE = ClassTable(("grass", "dog", "sky", "cat"), (False, True, False, True), (None, 4, None, 9))


@pytest.fixture
def image() -> np.ndarray:
    return np.full((*SIZE, 3), 128, dtype=np.uint8)


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """The texts that were written into a picture, in order."""
    texts: list[str] = []
    write = visualize._write

    def _write(picture, names, corners, slots):
        texts.extend(names)
        return write(picture, names, corners, slots)

    monkeypatch.setattr(visualize, "_write", _write)
    return texts


def test_of_boxes_alone_the_outlines_are_drawn_with_names_and_scores(image, written):
    boxes = Boxes(torch.tensor([[50.0, 60, 150, 160], [300, 200, 450, 350]]))
    instances = Instances(SIZE, pred_boxes=boxes, pred_classes=torch.tensor([1, 3]), scores=torch.tensor([0.9, 0.2]))
    picture = draw_instances(image, instances, TABLE)
    assert written == ["dog 0.90"]
    assert (picture[110, 50] != 128).any() and (picture[110, 100] == 128).all()  # its edge, its inside
    assert (picture[200:] == 128).all()


def test_a_thing_and_a_stuff_class_of_one_number_have_two_colors(image):
    # Numbered apart: dog 0, cat 1; grass 1.
    apart = ClassTable(("grass", "dog", "cat"), (False, True, True)).apart()
    halves = np.repeat([[1] * 250 + [2] * 250], 400, axis=0)
    segments = [{"id": 1, "category_id": 1, "isthing": True}, {"id": 2, "category_id": 1, "isthing": False}]
    picture = draw_panoptic(image, (halves, segments), apart)
    assert (picture[20, 20] != picture[20, 480]).any()


def two_instances(scores: tuple[float, float]) -> Instances:
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[0, 50:150, 50:150] = masks[1, 200:350, 300:450] = True
    return Instances(SIZE, pred_masks=masks, pred_classes=torch.tensor([1, 3]), scores=torch.tensor(scores))


def test_every_drawing_leaves_the_image_untouched_and_is_rgb(image):
    class_map = np.zeros(SIZE, dtype=int)
    drawings = [
        draw_semantic(image, class_map, TABLE),
        draw_instances(image, two_instances((0.9, 0.8)), TABLE),
        draw_panoptic(image, (class_map + 1, [{"id": 1, "category_id": 0, "isthing": False}]), TABLE),
    ]
    assert (image == 128).all()
    assert all(d.dtype == np.uint8 and d.shape[1:] == (SIZE[1], 3) for d in drawings)


def test_pixels_outside_the_masks_keep_their_color(image):
    drawn = draw_instances(image, two_instances((0.9, 0.8)), TABLE)
    assert (drawn[380:, :250] == 128).all()
    assert (drawn[60:70, 60:70] != 128).any(axis=-1).all()


def test_names_and_scores_are_written(image, written):
    draw_instances(image, two_instances((0.912, 0.8)), TABLE)
    assert written == ["dog 0.91", "cat 0.80"]


def test_instances_below_the_threshold_are_not_drawn(image, written):
    draw_instances(image, two_instances((0.9, 0.3)), TABLE, min_score=0.4)
    assert written == ["dog 0.90"]


def test_panoptic_segments_get_names_of_things_and_stuff(image, written):
    ids = torch.ones(SIZE, dtype=torch.int32)
    ids[:200] = 2
    segments = [
        {"id": 1, "category_id": 0, "isthing": False, "score": 0.5},
        {"id": 2, "category_id": 3, "isthing": True},
    ]
    draw_panoptic(image, (ids, segments), TABLE)
    assert written == ["grass 0.50", "cat"]


def test_unlabeled_pixels_stay_and_the_legend_tells_shares(image, written):
    class_map = np.zeros(SIZE, dtype=int)
    class_map[:, :100] = 2
    class_map[:, 400:] = visualize.UNLABELED
    drawn = draw_semantic(image, class_map, TABLE, legend="below")
    assert written == ["grass 60%", "sky 20%"]
    assert (drawn[: SIZE[0], 410:] == 128).all()


def test_classes_of_one_image_differ_in_color_with_a_small_palette(image):
    class_map = np.full(SIZE, 3)
    class_map[:200] = 19  # the palette has 16 colors
    drawn = draw_semantic(image, class_map, TABLE)
    assert (drawn[100, 100] != drawn[300, 100]).any()


def test_a_class_keeps_its_color_from_image_to_image(image):
    halves = np.where(np.arange(SIZE[0])[:, None] < 200, 0, np.full(SIZE, 3))
    alone = draw_semantic(image, np.full(SIZE, 3), TABLE, legend="below")
    together = draw_semantic(image, halves, TABLE, legend="below")
    assert (alone[300, 100] == together[300, 100]).all()


def test_instances_of_a_class_differ_by_color_on_request(image):
    instances = two_instances((0.9, 0.9))
    instances.pred_classes[:] = 1
    by_class = draw_instances(image, instances, TABLE, color_by="class")
    by_instance = draw_instances(image, instances, TABLE, color_by="instance")
    assert (by_class[60, 60] == by_class[210, 310]).all()
    assert (by_instance[60, 60] != by_instance[210, 310]).any()


def test_small_images_are_enlarged_on_request_so_that_text_can_be_read():
    small = np.zeros((100, 150, 3), dtype=np.uint8)
    ids = np.ones((100, 150), dtype=np.int32)
    drawn = draw_panoptic(small, (ids, [{"id": 1, "category_id": 0}]), TABLE, keep_size=False)
    assert drawn.shape == enlarge(small).shape == (400, 600, 3)


@pytest.mark.parametrize(("size", "drawn"), [((1, 1900), (2, 3800)), ((1, 5000), (1, 5000))])
def test_thin_images_are_enlarged_no_further_than_a_screen_or_two(size, drawn):
    assert enlarge(np.zeros((*size, 3), dtype=np.uint8)).shape[:2] == drawn


def test_nothing_to_draw_gives_the_image(image):
    no_instances = two_instances((0.1, 0.1))
    assert (draw_instances(image, no_instances, TABLE) == image).all()
    assert (draw_panoptic(image, (np.zeros(SIZE, dtype=int), []), TABLE) == image).all()


def test_a_mask_of_another_size_is_refused(image):
    with pytest.raises(ValueError, match=r"\(5, 5\) pixels cannot be drawn on an image of \(400, 500\)"):
        draw_panoptic(image, (np.ones((5, 5), dtype=int), [{"id": 1, "category_id": 0}]), TABLE)


def test_a_class_without_a_name_is_called_by_its_number():
    assert name_of(None, 7) == name_of(TABLE, 7) == name_of(TABLE, 7, is_thing=True) == "class 7"


def test_the_colors_of_segments_are_those_that_are_painted(image):
    found = visualize.panoptic_segmentation((np.ones(SIZE, dtype=int), [{"id": 1, "category_id": 2}]), TABLE)
    (color,) = visualize.segment_colors(found)
    painted = visualize.draw(image, found, alpha=1.0)[5, 5]
    assert color == "#" + "".join(f"{value:02x}" for value in painted)
