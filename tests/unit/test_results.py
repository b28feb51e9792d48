"""What a model found, in one form: label files, json, names, thresholds and classes; COCO and YouTube-VIS json."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

from mask2former_ext.classes import ClassTable
from mask2former_ext.inference.coco_files import CocoFile, TrackFile
from mask2former_ext.inference.drawing import Colors, draw, side_by_side
from mask2former_ext.inference.label_places import label_centers
from mask2former_ext.inference.prediction import Prediction
from mask2former_ext.inference.segmentation import (
    boxes_of_indices,
    check_classes,
    instance_segmentation,
    panoptic_segmentation,
    segmentations,
    semantic_segmentation,
)
from mask2former_ext.inference.tracking import Tracker
from mask2former_ext.postprocess import ResizedMasks, instance_inference

SIZE = (6, 8)


# Numbers: grass 0, dog 1, cat 2; dataset ids 10, 20.
TABLE = ClassTable(("grass", "dog", "cat"), (False, True, True), (None, 10, 20))


def instances(*found: tuple[int, float, tuple[int, int, int, int]]) -> Instances:
    """(class, score, (x0, y0, x1, y1)) of each."""
    masks = torch.zeros(len(found), *SIZE, dtype=torch.bool)
    for mask, (_, _, (x0, y0, x1, y1)) in zip(masks, found, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances(
        SIZE,
        pred_masks=masks,
        pred_boxes=Boxes(torch.tensor([list(map(float, box)) for _, _, box in found]).view(-1, 4)),
        scores=torch.tensor([score for _, score, _ in found]),
        pred_classes=torch.tensor([k for k, _, _ in found], dtype=torch.int64),
    )


def panoptic(*segments: tuple[int, tuple[int, int, int, int], bool]):
    ids, listed = torch.zeros(SIZE, dtype=torch.int32), []
    for i, (k, (x0, y0, x1, y1), is_thing) in enumerate(segments):
        ids[y0:y1, x0:x1] = i + 1
        listed.append({"id": i + 1, "category_id": k, "isthing": is_thing, **({"score": 0.75} if is_thing else {})})
    return ids, listed


def test_the_best_class_of_each_pixel_is_that_of_argmax():
    scores = torch.rand(7, 30, 40)
    found = semantic_segmentation(scores, None)
    assert (found.labels() == scores.argmax(dim=0).numpy()).all()


def test_pixels_whose_best_score_is_too_low_are_unlabeled():
    scores = torch.tensor([[[0.9, 0.2]], [[0.1, 0.3]]])
    found = semantic_segmentation(scores, TABLE, threshold=0.5)
    assert found.labels().tolist() == [[0, 255]]
    assert [(s.name, s.area) for s in found.segments] == [("grass", 1)]


def test_label_files_of_more_than_255_classes_have_16_bits():
    scores = torch.zeros(300, 1, 2)
    scores[299, 0, 0] = 1
    labels = semantic_segmentation(scores, None, threshold=0.5).labels()
    assert labels.dtype == np.uint16 and labels.tolist() == [[299, 65535]]


def test_instances_come_best_first_and_the_better_lies_on_top_in_labels():
    found = instance_segmentation(instances((1, 0.6, (0, 0, 8, 6)), (2, 0.9, (0, 0, 2, 2))), TABLE)
    assert [(s.name, round(s.score, 1), s.area) for s in found.segments] == [("cat", 0.9, 4), ("dog", 0.6, 48)]
    assert found.labels()[0, 0] == 1 and found.labels()[5, 7] == 2


def test_an_instance_of_a_stuff_class_or_below_the_threshold_is_left_out():
    found = instance_segmentation(instances((0, 0.9, (0, 0, 2, 2)), (1, 0.4, (0, 0, 3, 3))), TABLE)
    assert found.segments == ()


def test_instances_without_names_are_kept():
    """A data set that is not registered here names no classes."""
    assert len(instance_segmentation(instances((1, 0.9, (0, 0, 2, 2))), None).segments) == 1


def test_masks_that_are_covered_keep_all_of_their_pixels():
    found = instance_segmentation(instances((1, 0.6, (0, 0, 8, 6)), (2, 0.9, (0, 0, 2, 2))), TABLE)
    assert found.mask(1).sum() == 48 and (found.index_map == 2).sum() == 44


def test_large_panoptic_ids_are_found():
    ids = torch.tensor([[0, 16_000_000, 7]])
    segments = [{"id": 16_000_000, "category_id": 1, "isthing": True}, {"id": 9, "category_id": 2, "isthing": True}]
    found = panoptic_segmentation((ids, segments), TABLE)
    assert found.index_map.tolist() == [[0, 1, 0]] and [s.area for s in found.segments] == [1, 0]


def test_only_the_asked_classes_are_kept_in_every_task():
    result = {
        "sem_seg": torch.stack([torch.full(SIZE, 0.1), torch.full(SIZE, 0.8), torch.full(SIZE, 0.3)]),
        "instances": instances((1, 0.9, (0, 0, 2, 2)), (2, 0.9, (4, 0, 6, 2))),
        "panoptic_seg": panoptic((0, (0, 0, 8, 3), False), (1, (0, 3, 8, 6), True)),
    }
    found = segmentations(result, TABLE, classes=["Dog"])
    assert {task: [s.name for s in one.segments] for task, one in found.items()} == {
        "semantic": ["dog"],
        "instance": ["dog"],
        "panoptic": ["dog"],
    }
    assert found["panoptic"].labels()[0].max() == 0


def test_an_unknown_class_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="class 'dogg' is not one of the model's 3 classes; did you mean 'dog'"):
        check_classes(["dogg"], TABLE)


def test_boxes_end_one_past_the_last_pixel():
    index_map = np.zeros(SIZE, dtype=np.uint8)
    index_map[1:3, 2:6] = 2
    assert boxes_of_indices(index_map, 2) == [(0, 0, 0, 0), (2, 1, 6, 3)]


def test_a_low_score_saves_the_enlarging_and_changes_no_other_instance():
    class_logits, masks = torch.randn(9, 4), ResizedMasks(torch.randn(9, 12, 16))
    every = instance_inference(class_logits, masks, max_instances=20)
    threshold = float(every.scores[5])
    some = instance_inference(class_logits, masks, max_instances=20, min_score=threshold)
    assert len(some.scores) == 6
    for a, b in zip(every, some, strict=True):
        assert torch.equal(a[:6], b)


def test_coco_json_is_read_by_pycocotools(tmp_path):
    with CocoFile(tmp_path / "coco.json", TABLE) as file:
        for name in ("a.png", "b.png"):
            result = {"instances": instances((2, 0.9, (1, 1, 4, 3)))}
            file.add(name, segmentations(result, TABLE))
    coco = COCO(str(tmp_path / "coco.json"))
    (first, second) = coco.loadAnns(coco.getAnnIds())
    assert [i["file_name"] for i in coco.loadImgs([first["image_id"], second["image_id"]])] == ["a.png", "b.png"]
    assert first["bbox"] == [1, 1, 3, 2] and coco.loadCats([first["category_id"]])[0] == {"id": 20, "name": "cat"}
    assert coco.annToMask(first)[1:3, 1:4].sum() == first["area"] == 6


def test_tracks_have_a_place_for_each_frame(tmp_path):
    tracker = Tracker()
    with TrackFile(tmp_path / "tracks.json", "clip", TABLE) as file:
        for frame, shapes in enumerate(([(1, (0, 0, 2, 2), True)], [], [(1, (1, 0, 3, 2), True)])):
            found = panoptic_segmentation(panoptic(*shapes), TABLE)
            file.add(5 * frame, {"panoptic": tracker.update(found)})
    content = json.loads((tmp_path / "tracks.json").read_text())
    (video,), (track,) = content["videos"], content["annotations"]
    assert video["length"] == 3 and video["file_names"][2] == "clip/00010.jpg"
    assert (track["category_id"], track["score"], track["areas"]) == (10, 0.75, [4, None, 4])
    assert track["bboxes"] == [[0, 0, 2, 2], None, [1, 0, 2, 2]] and track["segmentations"][1] is None


def test_things_are_needed_for_coco_json(tmp_path):
    with CocoFile(tmp_path / "coco.json", None) as file:
        with pytest.raises(ValueError, match="needs the instance or the panoptic task"):
            file.add("a.png", segmentations({"sem_seg": torch.rand(2, *SIZE)}, None))


def test_colors_stay_from_frame_to_frame_whatever_comes_and_goes():
    colors = Colors()
    first = colors.slots([3, 19])
    assert colors.slots([19, 5, 3]).tolist()[::2] == first[::-1].tolist()
    assert len(set(colors.slots([3, 5, 19]).tolist())) == 3


def test_colors_of_many_tracks_are_forgotten():
    colors = Colors()
    for number in range(3000):
        colors.slots([number, number + 1])
    assert len(colors._slot_of) <= Colors.REMEMBERED


def test_alpha_decides_how_much_of_the_image_is_seen():
    image = np.full((400, 400, 3), 100, dtype=np.uint8)
    ids, segments = np.zeros((400, 400), dtype=np.int32), [{"id": 1, "category_id": 0}]
    ids[100:300, 100:300] = 1
    found = panoptic_segmentation((ids, segments), None)
    inside = [draw(image, found, alpha=alpha)[120, 120].astype(int) for alpha in (0.0, 0.5, 1.0)]
    assert inside[0].tolist() == [100, 100, 100]
    assert np.abs(inside[0] + inside[2] - 2 * inside[1]).max() <= 1
    with pytest.raises(ValueError, match=r"alpha is 1.5, but must lie in \[0, 1\]"):
        draw(image, found, alpha=1.5)


def test_pictures_side_by_side_keep_their_sizes():
    row = side_by_side({"a": np.zeros((50, 60, 3), np.uint8), "b": np.zeros((80, 60, 3), np.uint8)})
    assert row.shape == (80, 120, 3)
    assert (row[60:, :60] == 255).all() and (row[60:, 60:] == 0).all()


def test_names_lie_in_their_segment_and_not_on_each_other():
    index_map = np.zeros((200, 300), dtype=np.uint8)
    index_map[:, :150], index_map[:, 150:] = 1, 2
    centers = label_centers(index_map, [(0, 0, 150, 200), (150, 0, 300, 200)], [(80, 16), (80, 16)])
    assert centers[0, 0] < 150 < centers[1, 0]
    assert all(40 <= x <= 260 and 8 <= y <= 192 for x, y in centers)


def test_a_name_that_would_hide_its_segment_lies_above_it():
    index_map = np.zeros((200, 300), dtype=np.uint8)
    index_map[100:110, 100:110] = 1
    ((x, y),) = label_centers(index_map, [(100, 100, 110, 110)], [(80, 16)])
    assert (x, y) == (105, 92)


def test_names_of_small_things_in_one_place_do_not_overlap():
    index_map = np.zeros((200, 300), dtype=np.uint8)
    boxes = [(100 + 12 * i, 100, 110 + 12 * i, 110) for i in range(4)]
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        index_map[y0:y1, x0:x1] = i + 1
    centers = label_centers(index_map, boxes, [(60, 16)] * 4)
    for a in range(4):
        for b in range(a):
            assert abs(centers[a, 0] - centers[b, 0]) >= 60 or abs(centers[a, 1] - centers[b, 1]) >= 16


def test_a_prediction_says_what_was_found_and_draws_it():
    result = {"panoptic_seg": panoptic((0, (0, 0, 8, 3), False), (1, (0, 3, 8, 6), True))}
    prediction = Prediction(result, np.zeros((*SIZE, 3), np.uint8), TABLE)
    assert repr(prediction) == (
        "Prediction of an image of 6 x 8 pixels (height x width)\n  panoptic: 2: grass, dog 0.75"
    )
    assert prediction._repr_png_().startswith(b"\x89PNG")
    assert prediction.draw("panoptic").shape == (6, 8, 3)
    assert prediction.draw("panoptic", keep_size=False).shape == (402, 536, 3)
    with pytest.raises(ValueError, match="task is 'semantic', but the model answered panoptic"):
        prediction.draw("semantic")
