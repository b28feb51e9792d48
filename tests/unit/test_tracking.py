"""Identities over the frames of synthetic videos whose truth is known, and memory over their length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from measure_video import GROUND, SKY, idf1, segmented, synthetic_frames, tracked_pairs, write_video

from mask2former_ext.inference.segmentation import instance_segmentation, panoptic_segmentation
from mask2former_ext.inference.tracking import Tracker

SIZE = (60, 80)
SMALL = {"size": (120, 160), "num_shapes": 6}  # of synthetic videos


def panoptic(*shapes: tuple[int, tuple[int, int, int, int], bool]):
    """(class, (x0, y0, x1, y1), is a thing) of each segment, later ones on top -> a Segmentation."""
    ids, segments = np.zeros(SIZE, dtype=np.int32), []
    for i, (k, (x0, y0, x1, y1), is_thing) in enumerate(shapes):
        ids[y0:y1, x0:x1] = i + 1
        segments.append({"id": i + 1, "category_id": k, "isthing": is_thing, "score": 0.9})
    return panoptic_segmentation((ids, segments), None)


def track_ids(tracker: Tracker, *shapes) -> list[int]:
    return [segment.track_id for segment in tracker.update(panoptic(*shapes)).segments]


def square(x: int, y: int = 20, k: int = 0) -> tuple[int, tuple[int, int, int, int], bool]:
    return k, (x, y, x + 10, y + 10), True


def test_a_moving_square_keeps_its_number_when_segments_change_order():
    tracker = Tracker()
    first = track_ids(tracker, square(0), square(60))
    assert track_ids(tracker, square(57), square(3)) == first[::-1]


def test_two_squares_that_cross_keep_their_numbers():
    """They meet on different rows, each hidden in part by the other at most."""
    tracker = Tracker()
    paths = [[square(4 * t, 20), square(64 - 4 * t, 26)] for t in range(17)]
    seen = [track_ids(tracker, *shapes) for shapes in paths]
    assert all(ids == seen[0] for ids in seen)


def test_a_square_that_passes_behind_a_larger_thing_keeps_its_number():
    tracker = Tracker()
    wall = (1, (30, 0, 50, 60), True)
    frames = [track_ids(tracker, square(2 * t), wall) for t in range(14)]
    for t in range(14, 26):  # hidden in full from 30 to 40
        track_ids(tracker, *([square(2 * t)] if not 30 <= 2 * t <= 40 else []), wall)
    assert track_ids(tracker, square(56), wall) == frames[0]


def test_a_thing_that_was_away_too_long_is_a_new_one():
    tracker = Tracker(max_missed=3)
    (first,) = track_ids(tracker, square(0))
    for _ in range(3):
        track_ids(tracker)
    assert track_ids(tracker, square(0)) == [first]
    for _ in range(4):
        track_ids(tracker)
    assert track_ids(tracker, square(0)) != [first]


def test_stuff_of_a_class_is_one_track_even_after_an_absence():
    tracker = Tracker(max_missed=1)
    (grass,) = track_ids(tracker, (7, (0, 40, 80, 60), False))
    for _ in range(5):
        track_ids(tracker, square(0))
    assert track_ids(tracker, (7, (0, 0, 80, 10), False)) == [grass]


def test_a_thing_whose_class_wavers_keeps_its_number():
    tracker = Tracker()
    (first,) = track_ids(tracker, square(0, k=0))
    assert track_ids(tracker, square(1, k=3)) == [first]


def test_a_thing_of_another_class_in_an_old_ones_place_is_a_new_one():
    tracker = Tracker()
    (first,) = track_ids(tracker, square(0, k=0))
    ids = track_ids(tracker, square(2, k=3), square(3, 34, k=0))
    assert ids[1] == first or ids[0] == first  # one of them is it
    assert len(set(ids)) == 2


@pytest.mark.parametrize(("color", "known"), [((200, 30, 30), True), ((30, 30, 200), False)])
def test_a_sliver_that_comes_out_elsewhere_is_known_by_its_color(color, known):
    """Its middle is 18 px from where it should be, and the mask that was there does not meet it."""
    tracker = Tracker()
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    image[20:40, 20:40] = 200, 30, 30
    (first,) = (s.track_id for s in tracker.update(panoptic((0, (20, 20, 40, 40), True)), image).segments)
    tracker.update(panoptic(), image)
    image[:] = color
    (second,) = (s.track_id for s in tracker.update(panoptic((0, (47, 28, 49, 32), True)), image).segments)
    assert (second == first) == known


def test_boxes_without_masks_are_tracked():
    tracker = Tracker()
    numbers = []
    for x in (0.0, 3.0, 6.0):
        boxes = Boxes(torch.tensor([[x, 5.0, x + 10, 25.0]]))
        found = Instances(SIZE, pred_boxes=boxes, scores=torch.tensor([0.9]), pred_classes=torch.tensor([0]))
        numbers.append(tracker.update(instance_segmentation(found, None)).segments[0].track_id)
    assert numbers == [1, 1, 1]


def followed(length: int, **options) -> tuple[list[tuple[int, int]], dict[int, set[int]]]:
    """((identity, track id) of each thing in each frame, track ids of each stuff class)."""
    tracker, pairs, stuff = Tracker(), [], {SKY: set(), GROUND: set()}
    for image, answer, identity_of in synthetic_frames(length, **options):
        for segment in tracker.update(panoptic_segmentation(answer["panoptic_seg"], None), image).segments:
            if segment.is_thing:
                pairs.append((identity_of[segment.id], segment.track_id))
            else:
                stuff[segment.category_id].add(segment.track_id)
    return pairs, stuff


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_identities_are_kept_over_200_frames_with_a_perfect_segmenter(seed):
    pairs, stuff = followed(200, size=(96, 128), num_shapes=5, seed=seed)
    assert idf1(pairs) >= 0.9
    assert [len(numbers) for numbers in stuff.values()] == [1, 1]


def test_idf1_of_a_track_that_changes_over_halfway():
    """Identity 1 is track 7 for two frames, then track 8; identity 2 is always track 9: (2 + 4) of 8."""
    assert idf1([(1, 7), (1, 7), (1, 8), (1, 8), (2, 9), (2, 9), (2, 9), (2, 9)]) == 6 / 8


def test_a_tracker_forgets():
    tracker = Tracker(max_missed=2)
    for t in range(300):
        track_ids(tracker, square(0, k=t % 100), *([square(40)] if t % 9 == 0 else []))
    assert len(tracker._tracks) <= 4


@pytest.fixture(scope="module")
def many_frames(tmp_path_factory):
    """A synthetic video of 300 frames, segmented perfectly and tracked: its folder, what was measured."""
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("many_frames")
    write_video(folder / "in.mp4", 300, **SMALL)
    return folder, segmented(folder / "in.mp4", folder, 300, **SMALL)


@pytest.mark.slow
def test_a_video_of_many_frames_is_read_tracked_and_written_in_flat_memory(many_frames):
    _, measured = many_frames
    assert measured["frames"] == 300
    assert measured["MiB at the end"] - measured["MiB at a quarter"] < 20


@pytest.mark.slow
def test_identities_are_kept_over_300_frames_of_a_file(many_frames):
    folder, _ = many_frames
    assert idf1(tracked_pairs(folder / "synthetic_tracks.json", 300, **SMALL)) >= 0.9
