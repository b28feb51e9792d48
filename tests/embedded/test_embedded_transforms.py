"""`detectron2.data.transforms`, the same under both providers: hand-worked cases on odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image


def image(height: int, width: int) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize(
    ("size", "short_edge", "max_size", "expected"),
    [
        ((7, 13), 5, 100, (5, 9)),  # 13 * 5/7 = 9.29
        ((13, 7), 5, 100, (9, 5)),
        ((7, 13), 5, 8, (4, 8)),  # the long side is limited to 8: 7 * 8/13 = 4.31
        ((3, 3), 5, 100, (5, 5)),
    ],
)
def test_the_short_edge_gets_the_asked_length_within_the_limit(size, short_edge, max_size, expected):
    assert T.ResizeShortestEdge.get_output_shape(*size, short_edge, max_size) == expected


def test_a_short_edge_of_zero_leaves_the_image_alone():
    assert isinstance(T.ResizeShortestEdge(0).get_transform(image(5, 9)), T.NoOpTransform)


def test_resize_scale_fits_the_image_into_the_scaled_target():
    # min(10/5, 10/9) = 10/9: height 5 * 10/9 = 5.56, width 10
    transform = T.ResizeScale(1.0, 1.0, 10, 10).get_transform(image(5, 9))
    assert transform.apply_image(image(5, 9)).shape == (6, 10, 3)


def test_fixed_size_crop_pads_below_and_crops_across():
    source = image(5, 9)
    augmented = T.AugInput(source, sem_seg=np.zeros((5, 9), dtype=np.uint8))
    T.FixedSizeCrop((7, 7), pad_value=128, seg_pad_value=255)(augmented)
    assert augmented.image.shape == (7, 7, 3)
    assert (augmented.image[5:] == 128).all() and (augmented.sem_seg[5:] == 255).all()
    assert any((augmented.image[:5] == source[:, x : x + 7]).all() for x in range(3))


def test_fixed_size_crop_without_padding_keeps_the_short_side():
    augmented = T.AugInput(image(5, 9))
    T.FixedSizeCrop((7, 7), pad=False)(augmented)
    assert augmented.image.shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("crop_type", "crop_size", "expected"),
    [("relative", (0.5, 0.5), (3, 5)), ("absolute", (4, 20), (4, 9)), ("absolute_range", (20, 30), (5, 9))],
)
def test_crop_sizes_on_a_5_by_9_image(crop_type, crop_size, expected):
    assert T.RandomCrop(crop_type, crop_size).get_crop_size((5, 9)) == expected


def test_relative_range_crops_lie_between_the_fraction_and_the_whole():
    sizes = [T.RandomCrop("relative_range", (0.4, 0.4)).get_crop_size((5, 9)) for _ in range(50)]
    assert all(2 <= h <= 5 and 4 <= w <= 9 for h, w in sizes) and len(set(sizes)) > 5


def test_the_category_constraint_refuses_windows_of_a_single_class():
    labels = np.repeat([[0, 1]], 4, axis=0).repeat(4, axis=1).astype(np.uint8)  # (4, 8): left 0, right 1
    for _ in range(20):
        augmented = T.AugInput(np.zeros((4, 8, 3), dtype=np.uint8), sem_seg=labels)
        T.RandomCrop_CategoryAreaConstraint("absolute", (4, 4), 0.9)(augmented)
        assert set(np.unique(augmented.sem_seg)) == {0, 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3)])
def test_resizing_keeps_type_and_channels(shape, dtype):
    resized = T.ResizeTransform(3, 5, 7, 11).apply_image(np.ones(shape, dtype=dtype))
    assert resized.shape == (7, 11, *shape[2:]) and resized.dtype == dtype and np.allclose(resized, 1)


def test_label_maps_are_resized_without_new_labels():
    labels = np.array([[0, 200], [7, 255]], dtype=np.uint8)
    resized = T.ResizeTransform(2, 2, 5, 3).apply_segmentation(labels)
    assert set(np.unique(resized)) <= {0, 7, 200, 255}


def test_coordinates_follow_a_resize_and_its_inverse():
    transform = T.ResizeTransform(3, 5, 6, 20)
    points = np.array([[5.0, 3.0], [1.0, 0.5]])
    moved = transform.apply_coords(points.copy())
    assert moved.tolist() == [[20.0, 6.0], [4.0, 1.0]]
    np.testing.assert_allclose(transform.inverse().apply_coords(moved), points)


def test_an_extent_may_reach_over_the_edge():
    # Source columns -1..3 of a 2 x 3 image, at the same scale: a black column, then the image.
    source = np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8)
    transform = T.ExtentTransform((-1, 0, 3, 2), (2, 4), interp=Image.NEAREST)
    assert transform.apply_image(source).tolist() == [[0, 10, 20, 30], [0, 40, 50, 60]]
    assert transform.apply_coords(np.array([[0.0, 0.0], [3.0, 2.0]])).tolist() == [[1, 0], [4, 2]]


def test_a_quarter_turn_exchanges_height_and_width():
    pytest.importorskip("cv2")
    source = np.array([[1.0, 2, 3], [4, 5, 6]])
    transform = T.RotationTransform(2, 3, 90)
    assert transform.apply_image(source).tolist() == [[3, 6], [2, 5], [1, 4]]
    assert np.allclose(transform.apply_coords([[0, 0], [3, 0]]), [[0, 3], [0, 0]])


def test_flipped_boxes_and_polygons_stay_on_their_object():
    flip = T.HFlipTransform(9)
    assert flip.apply_box(np.array([[1.0, 0, 3, 2]])).tolist() == [[6, 0, 8, 2]]
    assert flip.apply_rotated_box(np.array([[2.0, 1, 2, 2, 30]])).tolist() == [[7, 1, 2, 2, -30]]


def test_saturation_zero_gives_grey():
    gray = T.RandomSaturation(0, 0).get_transform(image(3, 5)).apply_image(image(3, 5).astype(np.float64))
    assert np.allclose(gray, gray[:, :, :1])
    assert gray[0, 0, 0] == pytest.approx(0.587 * 1 + 0.114 * 2)


def test_brightness_scales_and_clips():
    bright = T.RandomBrightness(2, 2).get_transform(None).apply_image(np.array([[10, 200]], dtype=np.uint8))
    assert bright.tolist() == [[20, 255]]


def test_a_seed_decides_every_random_draw():
    augmentations = [T.RandomFlip(), T.ResizeScale(0.5, 2, 9, 7), T.FixedSizeCrop((5, 5)), T.RandomContrast(0.5, 1.5)]
    results = []
    for _ in range(2):
        np.random.seed(3)
        results.append(T.apply_augmentations(augmentations, image(7, 9))[0])
    assert np.array_equal(*results)


def test_an_augmentation_gets_the_inputs_that_its_arguments_name():
    class Half(T.Augmentation):
        def get_transform(self, image, sem_seg):
            assert sem_seg.shape == image.shape[:2] == (5, 9)
            return T.CropTransform(0, 0, 4, 2)

    augmented = T.AugInput(image(5, 9), sem_seg=np.zeros((5, 9)), boxes=np.array([[1.0, 1, 2, 2]]))
    transforms = T.AugmentationList([Half(), T.HFlipTransform(4)])(augmented)
    assert augmented.sem_seg.shape == (2, 4) and augmented.boxes.tolist() == [[2, 1, 3, 2]]
    assert transforms.apply_box(np.array([[1.0, 1, 2, 2]])).tolist() == [[2, 1, 3, 2]]


def test_an_input_that_lacks_what_an_augmentation_needs_is_named():
    class NeedsDepth(T.Augmentation):
        def get_transform(self, image, depth):
            raise NotImplementedError

    with pytest.raises(AttributeError, match="depth"):
        NeedsDepth()(T.AugInput(image(3, 5)))


def test_the_text_of_an_augmentation_shows_what_is_not_the_default():
    assert str(T.RandomFlip()) == "RandomFlip()"
    assert str(T.RandomCrop("relative", (0.5, 0.5))) == "RandomCrop(crop_type='relative', crop_size=(0.5, 0.5))"
