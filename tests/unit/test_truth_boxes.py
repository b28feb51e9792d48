"""Truth boxes: moved with the picture, drawn around masks, and those of a file that say nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from mask2former_ext import add_config
from mask2former_ext.data import Mapper, check_datasets, prepare_data
from mask2former_ext.data.loader import training_records
from mask2former_ext.data.targets.annotations import annotated_boxes, annotated_masks
from mask2former_ext.data.targets.boxes import box_fault, without_faulty_boxes
from mask2former_ext.data.targets.masks import box_of_mask

NAME = "a_set_of_the_truth_box_tests"
SIZE = (20, 40)  # height, width
L_SHAPE = [[10, 4, 14, 4, 14, 12, 22, 12, 22, 16, 10, 16]]


def annotation(box: list[float] | None, **changes: Any) -> dict[str, Any]:
    """`box`: x, y, width, height."""
    return {"id": 7, "category_id": 0, "iscrowd": 0, "bbox": box, "bbox_mode": BoxMode.XYWH_ABS, **changes}


L_ANNOTATION = annotation([10, 4, 12, 12], segmentation=L_SHAPE)


def moved(annotations: list[dict], *changes: T.Transform, size: tuple[int, int] = SIZE, with_masks: bool = True):
    record = {"file_name": "a.png", "annotations": annotations}
    return annotated_boxes(record, T.TransformList(list(changes)), SIZE, size, with_masks=with_masks)


def test_the_box_of_a_mask_ends_one_past_its_last_pixel() -> None:
    mask = np.zeros(SIZE, bool)
    mask[3:5, 7] = True
    assert box_of_mask(mask).tolist() == [7, 3, 8, 5] and not box_of_mask(mask & False).any()


def test_a_box_is_moved_as_the_file_has_it_not_to_whole_pixels() -> None:
    _, _, boxes = moved([annotation([10.5, 4, 12, 12], segmentation=L_SHAPE)], T.HFlipTransform(40))
    assert boxes.tolist() == [[17.5, 4, 29.5, 16]]


def test_a_box_is_cut_at_the_edge_of_the_picture() -> None:
    _, _, boxes = moved([annotation([-5, 10, 20, 100])], with_masks=False)
    assert boxes.tolist() == [[0, 10, 15, 20]]


def test_after_a_crop_the_box_bounds_what_is_left_of_the_mask() -> None:
    # The upper 11 rows hold the upright bar of the L alone, which is 4 wide; its box would still be 12 wide.
    _, _, boxes = moved([L_ANNOTATION], T.CropTransform(0, 0, 40, 11), size=(11, 40))
    assert boxes.tolist() == [[10, 4, 14, 11]]


def test_an_object_that_the_crop_leaves_out_has_no_box() -> None:
    masks, classes, boxes = moved([L_ANNOTATION], T.CropTransform(30, 0, 10, 20), size=(20, 10))
    assert masks.shape == (0, 20, 10) and classes.shape == (0,) and boxes.shape == (0, 4)


def test_without_a_bbox_the_box_is_drawn_around_the_mask() -> None:
    _, _, boxes = moved([{"category_id": 2, "segmentation": L_SHAPE}])
    assert boxes.tolist() == [[10, 4, 22, 16]]


def test_a_detector_draws_no_mask_where_a_box_is_known() -> None:
    broken = annotation([10, 4, 12, 12], segmentation=[[1, 2, 3, 4]])  # drawing it would raise
    assert moved([broken], with_masks=False)[2].tolist() == [[10, 4, 22, 16]]


def test_a_box_alone_teaches_a_detector_and_no_model_of_masks() -> None:
    box_alone, record = annotation([1, 1, 5, 5]), {"file_name": "a.png", "annotations": [annotation([1, 1, 5, 5])]}
    assert len(moved([box_alone], with_masks=False)[2]) == 1 and len(moved([box_alone])[2]) == 0
    assert len(annotated_masks(record, T.TransformList([]), SIZE, SIZE)[0]) == 0


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([5, 5, 0, 10], "has no area"),
        ([5, 5, 10, -1], "has no area"),
        ([40, 0, 5, 5], "lies outside of the image"),
        ([0, -9, 5, 9], "lies outside of the image"),
        ([float("nan"), 0, 5, 5], "is not finite"),
        ([0, 0, float("inf"), 5], "is not finite"),
        ([0, 0, 5], "is not four numbers"),
        (None, "is not four numbers"),
        ([39, 19, 5, 5], None),
    ],
)
def test_boxes_that_say_nothing(box: list[float] | None, fault: str | None) -> None:
    assert box_fault(annotation(box), *SIZE) == fault


def test_what_says_nothing_is_counted_and_named_and_the_rest_stays(caplog: pytest.LogCaptureFixture) -> None:
    annotations = [annotation([5, 5, 0, 10]), annotation([1, 1, 5, 5]), annotation([50, 5, 5, 5])]
    record = {"file_name": "a.png", "height": 20, "width": 40, "annotations": annotations}
    with caplog.at_level("WARNING"):
        (kept,) = without_faulty_boxes([record])
    assert kept["annotations"] == annotations[1:2] and record["annotations"] == annotations
    (message,) = caplog.messages
    assert message.startswith("Left out 2 truth boxes: a.png: annotation 7: bbox [5, 5, 0, 10] has no area; a.png:")


def test_a_crowd_without_area_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    crowd = annotation([5, 5, 0, 10], iscrowd=1)
    assert without_faulty_boxes([{"file_name": "a.png", "annotations": [crowd]}])[0]["annotations"] == [crowd]
    assert not caplog.messages


# From the json to the loader.


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "b.png")
    yield tmp_path
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def config(folder: Path, *annotations: dict, masks: bool = False) -> CfgNode:
    """Faster R-CNN (or Mask R-CNN) on two images, with annotations of the first alone."""
    images = [{"id": n, "file_name": f"{stem}.png", "height": 20, "width": 40} for n, stem in enumerate("ab")]
    content = {"images": images, "categories": [{"id": 5, "name": "dog"}]}
    content["annotations"] = [{"id": n, "image_id": 0, "category_id": 5, **a} for n, a in enumerate(annotations)]
    (folder / "boxes.json").write_text(json.dumps(content))
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.MASK_ON, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "MaskRCNN", masks, 1
    cfg.INPUT.TARGETS, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = "instance", (20,), "none"
    cfg.DATASETS.CUSTOM = [{"NAME": NAME, "IMAGES": str(folder), "INSTANCES": str(folder / "boxes.json")}]
    cfg.DATASETS.TRAIN = (NAME,)
    prepare_data(cfg)
    return cfg


@pytest.mark.parametrize("form", [{}, {"segmentation": []}, {"segmentation": None}], ids=["absent", "empty", "null"])
def test_a_json_of_boxes_trains_a_detector(folder: Path, form: dict) -> None:
    cfg = config(folder, {"bbox": [1, 2, 10, 10], **form})
    check_datasets(cfg)
    (record,) = training_records(cfg)  # the image without a box has nothing to teach
    assert Mapper(cfg, True)(record)["instances"].gt_boxes.tensor.tolist() == [[1, 2, 11, 12]]


def test_a_json_of_boxes_alone_teaches_no_masks(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config(folder, {"bbox": [1, 2, 10, 10]}, masks=True)
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="no image has an instance to learn from"):
        training_records(cfg)
    assert any("1 annotations have a box alone: models of masks leave them out" in line for line in caplog.messages)


def test_the_loader_leaves_out_boxes_that_say_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config(folder, {"bbox": [1, 2, 10, 10]}, {"bbox": [1, 2, 0, 10]}, {"bbox": [float("nan"), 2, 5, 10]})
    (record,) = training_records(cfg)
    assert [a["id"] for a in record["annotations"]] == [0]
    assert any(line.startswith("Left out 2 truth boxes") for line in caplog.messages)
