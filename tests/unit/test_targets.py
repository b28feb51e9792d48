"""Label pictures and annotations become masks: worked out by hand on pictures of a few pixels."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as coco_mask
import pytest

from mask2former_ext.data.targets.masks import (
    check_segment_ids,
    encode_mask,
    panoptic_ids,
    panoptic_masks,
    panoptic_png,
    panoptic_to_semantic,
    polygon_mask,
    run_lengths,
    segmentation_mask,
    semantic_masks,
    stack_masks,
)

IDS = np.array([[5, 5, 0], [7, 7, 9]])


def segment(segment_id: int, category: int, iscrowd: int = 0) -> dict:
    return {"id": segment_id, "category_id": category, "iscrowd": iscrowd}


def test_a_panoptic_color_is_red_plus_256_green_plus_65536_blue() -> None:
    assert panoptic_ids(np.array([[[1, 2, 3]]], dtype=np.uint8)).tolist() == [[1 + 2 * 256 + 3 * 65536]]


def test_panoptic_png_is_the_inverse_of_panoptic_ids() -> None:
    ids = np.array([[0, 1 + 2 * 256 + 3 * 65536], [255, 256**3 - 1]])
    assert panoptic_png(ids)[0].tolist() == [[0, 0, 0], [1, 2, 3]]
    assert (panoptic_ids(panoptic_png(ids)) == ids).all()


@pytest.mark.parametrize("wrong", [-1, 256**3])
def test_panoptic_png_rejects_ids_that_three_bytes_cannot_hold(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"segment ids from .*{wrong}.* do not fit .* holds 0 to 16777215"):
        panoptic_png(np.array([[wrong]]))


def test_check_segment_ids_counts_the_ids_that_it_does_not_show() -> None:
    check_segment_ids(IDS, [5, 7, 9], "a.png")
    with pytest.raises(ValueError, match=r"a.png: segment ids \[0, 1, 2, 3, 4\] and 2 more are in segments_info but"):
        check_segment_ids(np.array([[7, 8]]), range(9), "a.png")


def test_encode_mask_is_read_by_pycocotools() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)
    assert encode_mask(mask)["size"] == [2, 3] and (segmentation_mask(encode_mask(mask), 2, 3) == mask).all()


def test_each_panoptic_segment_becomes_a_mask_with_its_class() -> None:
    masks, classes = panoptic_masks(IDS, [segment(7, 2), segment(5, 2)])
    assert classes.tolist() == [2, 2]
    assert masks.astype(int).tolist() == [[[0, 0, 0], [1, 1, 0]], [[1, 1, 0], [0, 0, 0]]]


def test_a_crowd_segment_has_no_mask() -> None:
    _, classes = panoptic_masks(IDS, [segment(5, 1, iscrowd=1), segment(7, 2)])
    assert classes.tolist() == [2]


def test_a_segment_cropped_away_leaves_with_its_class() -> None:
    masks, classes = panoptic_masks(IDS[:1], [segment(7, 2), segment(5, 1)])
    assert classes.tolist() == [1] and masks.shape == (1, 1, 3)


def test_no_segments_give_no_masks_of_the_right_size() -> None:
    masks, classes = panoptic_masks(IDS, [])
    assert masks.shape == (0, 2, 3) and classes.shape == (0,) and masks.dtype == bool


def test_semantic_labels_from_panoptic_keep_crowds_and_ignore_void() -> None:
    labels = panoptic_to_semantic(IDS, [segment(5, 1, iscrowd=1), segment(7, 2)], ignore_label=255)
    assert labels.tolist() == [[1, 1, 255], [2, 2, 255]]


def test_each_class_present_is_one_semantic_mask() -> None:
    masks, classes = semantic_masks(np.array([[3, 0], [3, 255]]), ignore_label=255)
    assert classes.tolist() == [0, 3]
    assert masks.astype(int).tolist() == [[[0, 1], [0, 0]], [[1, 0], [1, 0]]]


def test_ignored_pixels_have_no_mask() -> None:
    masks, classes = semantic_masks(np.full((2, 2), 65535), ignore_label=65535)
    assert masks.shape == (0, 2, 2) and len(classes) == 0


def test_empty_masks_leave_together_with_their_classes() -> None:
    full, empty = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    masks, classes = stack_masks([empty, full, empty], [4, 5, 6], 2, 2)
    assert classes.tolist() == [5] and masks.tolist() == [full.tolist()]


def test_four_forms_of_one_object_give_the_same_mask() -> None:
    expected = np.zeros((6, 7), bool)
    expected[1:4, 2:5] = True
    compressed = coco_mask.encode(np.asfortranarray(expected, dtype=np.uint8))
    forms = [
        [[2, 1, 5, 1, 5, 4, 2, 4]],
        {"size": [6, 7], "counts": [13, 3, 3, 3, 3, 3, 14]},  # columns of 6: two empty, then 1 + 3 + 2, three times
        {"size": [6, 7], "counts": compressed["counts"].decode()},
        expected,
    ]
    assert all((segmentation_mask(form, 6, 7) == expected).all() for form in forms)


def test_several_polygons_are_one_object() -> None:
    mask = polygon_mask([[0, 0, 1, 0, 1, 1, 0, 1], [2, 1, 3, 1, 3, 2, 2, 2]], 2, 3)
    assert mask.astype(int).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_that_leaves_the_picture_is_filled_as_on_a_larger_one(seed: int) -> None:
    polygon = np.random.default_rng(seed).uniform(-15, 45, (6, 2))
    larger = polygon_mask([(polygon + 50).ravel()], 150, 150)
    assert (polygon_mask([polygon.ravel()], 25, 30) == larger[50:75, 50:80]).all()


def test_rejects_a_polygon_of_two_points() -> None:
    with pytest.raises(ValueError, match="at least 6, but has 4"):
        polygon_mask([[0, 0, 1, 1]], 2, 2)


def test_rejects_a_polygon_with_a_coordinate_that_is_not_finite() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        polygon_mask([[0, 0, float("nan"), 1, 1, 1]], 2, 2)


def test_rejects_an_rle_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\] belongs to a picture of \[3, 2\]"):
        segmentation_mask({"size": [2, 3], "counts": [6]}, 3, 2)


def test_rejects_runs_that_do_not_fill_their_size() -> None:
    with pytest.raises(ValueError, match="sum to 5"):
        segmentation_mask({"size": [2, 3], "counts": [5]}, 2, 3)


@pytest.mark.parametrize("rows", [["01", "11"], ["10", "00"], ["00", "00"], ["11", "11"]])
def test_run_lengths_are_read_back_as_the_same_mask(rows: list[str]) -> None:
    mask = np.array([[int(value) for value in row] for row in rows], dtype=bool)
    assert (segmentation_mask({"size": [2, 2], "counts": run_lengths(mask)}, 2, 2) == mask).all()


def test_run_lengths_go_down_the_columns_and_start_with_zeros() -> None:
    assert run_lengths(np.array([[1, 0], [1, 1]], dtype=bool)) == [0, 2, 1, 1]
