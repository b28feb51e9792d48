"""The visualizer's finer methods: pixels worked out by hand, on black or gray images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import BoxMode, Instances
from detectron2.utils.visualizer import ColorMode, GenericMask, Visualizer, _create_text_labels

from tests.places import EMBEDDED

pytestmark = pytest.mark.skipif(not EMBEDDED, reason="matplotlib draws for the real Detectron2")

BLACK = np.zeros((40, 60, 3), dtype=np.uint8)
LARGE = np.full((400, 400, 3), 100, dtype=np.uint8)


def left_half() -> np.ndarray:
    mask = np.zeros((40, 60), dtype=bool)
    mask[:, :30] = True
    return mask


def test_draw_binary_mask_mixes_the_color_in_by_alpha():
    picture = Visualizer(BLACK).draw_binary_mask(left_half(), color="red", alpha=0.2).get_image()
    assert picture[5, 5].tolist() == [51, 0, 0]  # 0.2 * 255
    assert picture[5, 35].tolist() == [0, 0, 0]


def test_draw_binary_mask_leaves_out_parts_below_the_area_threshold():
    mask = left_half()
    mask[0, 50:55] = True  # five pixels
    picture = Visualizer(BLACK).draw_binary_mask(mask, color=(0, 1, 0), alpha=1, area_threshold=6).get_image()
    assert picture[0, 52].tolist() == [0, 0, 0]
    assert picture[0, 10].tolist() == [0, 255, 0]


def test_finer_methods_add_to_the_picture_at_its_scale():
    visualizer = Visualizer(BLACK, scale=2.0)
    visualizer.draw_binary_mask(left_half(), color="b", alpha=1)
    picture = visualizer.draw_box([40, 10, 50, 20], alpha=1, edge_color="w").get_image()
    assert picture.shape == (80, 120, 3)
    assert (picture[10, 59].tolist(), picture[20, 90].tolist()) == ([0, 0, 255], [255, 255, 255])


@pytest.mark.parametrize("form", [torch.tensor, np.array, list])
def test_overlay_instances_takes_boxes_in_any_form(form):
    boxes = form([[2.0, 2.0, 20.0, 20.0], [30.0, 5.0, 50.0, 30.0]])
    picture = Visualizer(BLACK).overlay_instances(boxes=boxes, labels=["a", "b"], assigned_colors=["w", "w"])
    assert picture.get_image()[30, 40].tolist() == [128, 128, 128]  # the lower edge, half mixed


def test_overlay_instances_rejects_unequal_numbers():
    with pytest.raises(AssertionError, match=r"\[1, 2\] objects"):
        Visualizer(BLACK).overlay_instances(boxes=[[0, 0, 1, 1]], labels=["a", "b"])


def test_draw_dataset_dict_draws_annotations():
    polygon = [[2.0, 2, 30, 2, 30, 30, 2, 30]]
    annotation = {"bbox": [2, 2, 28, 28], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "segmentation": polygon}
    picture = Visualizer(BLACK).draw_dataset_dict({"annotations": [annotation]}).get_image()
    assert picture[20, 20].any()
    assert not picture[35, 50].any()


@pytest.mark.parametrize(
    "record",
    [
        {"sem_seg": np.ones((400, 400))},
        {"pan_seg": np.ones((400, 400)), "segments_info": [{"id": 1, "category_id": 1}]},
    ],
)
def test_draw_dataset_dict_draws_labels_and_segments(record):
    picture = Visualizer(LARGE).draw_dataset_dict(record).get_image()
    assert picture[100, 100].tolist() != [100, 100, 100]


@pytest.mark.parametrize(("alpha", "changes"), [(0.0, False), (1.0, True)])
def test_draw_sem_seg_mixes_by_alpha(alpha, changes):
    labels = np.repeat([[0], [1]], 200, axis=0).repeat(400, axis=1)
    picture = Visualizer(LARGE).draw_sem_seg(labels, alpha=alpha).get_image()
    assert (picture[50, 50] != LARGE[50, 50]).any() == changes


def test_draw_sem_seg_leaves_small_classes_uncolored():
    labels = np.zeros((400, 400), dtype=int)
    labels[190:210, 190:210] = 1  # 400 pixels
    picture = Visualizer(LARGE).draw_sem_seg(labels, area_threshold=401).get_image()
    assert picture[200, 200].tolist() == [100, 100, 100]
    assert picture[50, 50].tolist() != [100, 100, 100]


@pytest.mark.parametrize(("threshold", "changes"), [(400, True), (401, False)])
def test_draw_panoptic_seg_leaves_small_segments_uncolored(threshold, changes):
    ids = torch.zeros(400, 400, dtype=torch.int32)
    ids[190:210, 190:210] = 7
    segments = [{"id": 7, "category_id": 0, "isthing": True}]
    picture = Visualizer(LARGE).draw_panoptic_seg(ids, segments, area_threshold=threshold, alpha=1.0).get_image()
    assert (picture[191, 191].tolist() != [100, 100, 100]) == changes


def test_classes_are_drawn_in_the_colors_of_the_metadata():
    metadata = Metadata(stuff_classes=["sky", "dog"], thing_classes=["dog"], thing_dataset_id_to_contiguous_id={9: 1})
    metadata.set(stuff_colors=[[200, 100, 50], [50, 200, 100]], thing_colors=[[50, 200, 100]])
    ids = torch.ones(400, 400, dtype=torch.int32)
    segments = [{"id": 1, "category_id": 1, "isthing": True}]
    of_labels = Visualizer(LARGE, metadata).draw_sem_seg(ids - 1, alpha=1.0)
    of_segments = Visualizer(LARGE, metadata).draw_panoptic_seg(ids, segments, alpha=1.0)
    assert of_labels.get_image()[5, 5].tolist() == [200, 100, 50]
    assert of_segments.get_image()[5, 5].tolist() == [50, 200, 100]


def test_draw_instance_predictions_takes_boxes_given_as_a_tensor():
    fields = {"pred_classes": torch.tensor([0]), "scores": torch.tensor([0.9])}
    found = Instances((400, 400), pred_boxes=torch.tensor([[100.0, 100, 300, 300]]), **fields)
    picture = Visualizer(LARGE, instance_mode=ColorMode.IMAGE_BW).draw_instance_predictions(found).get_image()
    assert picture[200, 100].tolist() != [100, 100, 100]


def test_create_text_labels_joins_what_is_known():
    assert _create_text_labels([1], [0.5], ["cat", "dog"], [True]) == ["dog 50%|crowd"]
    assert _create_text_labels([1], None, None) == ["1"]


def test_a_generic_mask_knows_its_pixels_and_outline():
    mask = GenericMask([[1.0, 1, 4, 1, 4, 4, 1, 4]], 6, 6)
    assert mask.area() == 9
    (outline,) = mask.polygons
    assert outline.reshape(-1, 2).min(axis=0).tolist() == [1.5, 1.5]  # the center of the first pixel


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_predictions_are_drawn_at_the_size_of_the_image_times_scale(scale):
    ids = torch.ones(40, 60, dtype=torch.int32)
    found = Instances((40, 60), pred_classes=torch.tensor([0]), scores=torch.tensor([0.9]), pred_masks=ids[None] > 0)
    visualizer = Visualizer(BLACK, scale=scale)
    pictures = [
        visualizer.draw_instance_predictions(found),
        visualizer.draw_sem_seg(ids),
        visualizer.draw_panoptic_seg(ids, [{"id": 1, "category_id": 0, "isthing": False}]),
    ]
    assert {picture.get_image().shape for picture in pictures} == {(40 * scale, 60 * scale, 3)}


def test_what_the_visualizer_lacks_says_the_install_line():
    with pytest.raises(ImportError, match="pip install"):
        Visualizer(BLACK).draw_and_connect_keypoints(None)
