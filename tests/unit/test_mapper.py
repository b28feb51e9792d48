"""The mapper: every kind of file is read, every kind of truth becomes the same masks, and padding and crops agree."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T
from PIL import Image

from mask2former_ext.config import add_config
from mask2former_ext.data import Mapper
from mask2former_ext.data.image_io import BrokenImageError, read_image, read_labels, read_panoptic
from mask2former_ext.data.targets.instance import InstanceTarget
from mask2former_ext.data.targets.masks import run_lengths
from mask2former_ext.data.targets.panoptic import PanopticTarget
from mask2former_ext.data.targets.semantic import SemanticTarget

HEIGHT, WIDTH = 6, 8
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[1:4, 2:7] = True
KINDS = {"semantic": SemanticTarget, "instance": InstanceTarget, "panoptic": PanopticTarget}
POLYGON = [[2, 1, 7, 1, 7, 4, 2, 4]]


@pytest.fixture
def image_path(tmp_path: Path) -> str:
    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return str(tmp_path / "image.png")


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_config(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.DATASETS.TRAIN = ("a_set_of_the_mapper_tests",)
    return cfg


def mapper(augmentations: tuple = (), targets: str = "panoptic", ignore_label: int = 255, **options: Any) -> Mapper:
    target = KINDS[targets](ignore_label)
    return Mapper(True, augmentations=list(augmentations), image_format="RGB", target=target, **options)


def panoptic_record(image_path: str, ids: np.ndarray, segments: list[dict]) -> dict[str, Any]:
    path = image_path.replace("image.png", "panoptic.png")
    Image.fromarray(np.stack([ids % 256, ids // 256, 0 * ids], axis=2).astype(np.uint8)).save(path)
    return {"file_name": image_path, "pan_seg_file_name": path, "segments_info": segments}


def segment(segment_id: int, category: int, **fields: Any) -> dict[str, Any]:
    return {"id": segment_id, "category_id": category, "iscrowd": 0, "isthing": True, **fields}


def instance_record(image_path: str, *segmentations: Any) -> dict[str, Any]:
    annotations = [{"segmentation": form, "category_id": 4, "iscrowd": 0} for form in segmentations]
    return {"file_name": image_path, "annotations": annotations}


CROP_AND_FLIP = (T.CropTransform(1, 1, 5, 4), T.HFlipTransform(5))


@pytest.mark.parametrize("augmentations", [(), CROP_AND_FLIP], ids=["as it is", "cropped and flipped"])
def test_one_object_in_five_encodings_gives_the_same_mask(image_path: str, augmentations: tuple) -> None:
    rle = {"size": [HEIGHT, WIDTH], "counts": run_lengths(MASK)}
    encodings = instance_record(image_path, POLYGON, rle, MASK.astype(np.uint8))
    masks = mapper(augmentations, targets="instance")(encodings)["instances"].gt_masks
    panoptic = mapper(augmentations)(panoptic_record(image_path, MASK * 300, [segment(300, 4)]))
    expected = MASK[1:5, 1:6][:, ::-1] if augmentations else MASK
    assert all((mask.numpy() == expected).all() for mask in [*masks, panoptic["instances"].gt_masks[0]])


def test_semantic_labels_become_one_mask_a_class(image_path: str, tmp_path: Path) -> None:
    Image.fromarray(np.where(MASK, 3, 255).astype(np.uint8)).save(tmp_path / "labels.png")
    record = {"file_name": image_path, "sem_seg_file_name": str(tmp_path / "labels.png")}
    result = mapper(targets="semantic")(record)
    assert result["instances"].gt_classes.tolist() == [3]
    assert (result["instances"].gt_masks[0].numpy() == MASK).all()
    assert (result["sem_seg"].numpy() == np.where(MASK, 3, 255)).all() and result["sem_seg"].dtype == torch.int64


def test_labels_above_255_are_read(image_path: str, tmp_path: Path) -> None:
    Image.fromarray(np.where(MASK, 800, 65535).astype(np.uint16)).save(tmp_path / "labels.tif")
    record = {"file_name": image_path, "sem_seg_file_name": str(tmp_path / "labels.tif")}
    result = mapper(targets="semantic", ignore_label=65535)(record)
    assert result["instances"].gt_classes.tolist() == [800]


def test_semantic_targets_come_from_a_panoptic_png_without_label_files(image_path: str) -> None:
    ids = np.where(MASK, 7, 8)
    record = panoptic_record(image_path, ids, [segment(7, 2), segment(8, 2)])
    assert mapper(targets="semantic")(record)["sem_seg"].unique().tolist() == [2]


def test_instance_targets_are_a_panoptic_pngs_things_without_annotations(image_path: str) -> None:
    record = panoptic_record(image_path, np.where(MASK, 7, 8), [segment(7, 2), segment(8, 5, isthing=False)])
    assert mapper(targets="instance")(record)["instances"].gt_classes.tolist() == [2]


def test_masks_emptied_by_cropping_leave_with_their_labels(image_path: str) -> None:
    ids = np.zeros((HEIGHT, WIDTH), int)
    ids[0, 0], ids[4:, 6:] = 1, 2
    record = panoptic_record(image_path, ids, [segment(1, 11), segment(2, 12)])
    instances = mapper((T.CropTransform(4, 3, 4, 3),))(record)["instances"]
    assert instances.gt_classes.tolist() == [12] and len(instances.gt_masks) == 1


def test_an_image_without_objects_is_an_example_without_masks(image_path: str) -> None:
    instances = mapper(targets="instance")(instance_record(image_path))["instances"]
    assert len(instances) == 0 and instances.gt_masks.shape == (0, HEIGHT, WIDTH)
    assert instances.gt_classes.dtype == torch.int64


def test_crowd_annotations_are_not_learned(image_path: str) -> None:
    record = instance_record(image_path, POLYGON)
    record["annotations"][0]["iscrowd"] = 1
    assert len(mapper(targets="instance")(record)["instances"]) == 0


def test_padding_is_gray_in_the_image_ignored_in_labels_and_empty_in_masks(image_path: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), 3, np.uint8)).save(tmp_path / "labels.png")
    record = {"file_name": image_path, "sem_seg_file_name": str(tmp_path / "labels.png")}
    result = mapper(targets="semantic", padded_side=10)(record)
    assert result["image"].shape == (3, 10, 10) and (result["image"][:, HEIGHT:] == 128).all()
    assert (result["sem_seg"][:, WIDTH:] == 255).all() and (result["sem_seg"][:HEIGHT, :WIDTH] == 3).all()
    assert result["instances"].gt_masks.sum() == HEIGHT * WIDTH
    assert result["instances"].image_size == (10, 10)


def test_an_image_larger_than_the_padding_keeps_its_size(image_path: str) -> None:
    assert mapper(padded_side=7, targets="instance")(instance_record(image_path))["image"].shape == (3, 7, 8)


def test_large_scale_jitter_gives_images_of_one_size(image_path: str, cfg: CfgNode) -> None:
    cfg.INPUT.AUGMENTATION, cfg.INPUT.IMAGE_SIZE, cfg.INPUT.TARGETS = "large_scale_jitter", 16, "instance"
    jitter = Mapper(cfg, True)
    shapes = {tuple(jitter(instance_record(image_path, POLYGON))["image"].shape) for _ in range(10)}
    assert shapes == {(3, 16, 16)}


def test_a_crop_full_of_one_category_is_drawn_again(image_path: str, cfg: CfgNode) -> None:
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (HEIGHT,), "none"
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [6, 2]
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.9
    ids = np.where(np.arange(WIDTH) < 4, 1, 2)[None].repeat(HEIGHT, axis=0)
    record = panoptic_record(image_path, ids, [segment(1, 0), segment(2, 1)])
    found = [len(Mapper(cfg, True)({**record, "sampling_seed": seed})["instances"]) for seed in range(30)]
    # One place in seven shows both; ten tries find it in 1 - (6/7) ** 10 = 79 % of the images, one try in 14 %.
    assert found.count(2) >= 15


def test_the_same_sampling_seed_gives_the_same_example(image_path: str, cfg: CfgNode) -> None:
    cfg.INPUT.TARGETS, cfg.INPUT.COLOR_AUG_SSD = "instance", True
    record = {**instance_record(image_path, POLYGON), "sampling_seed": 5}
    first, second = (Mapper(cfg, True)(record) for _ in range(2))
    assert (first["image"] == second["image"]).all() and first["sampling_seed"] == 5


def test_mapping_an_image_does_not_disturb_the_random_numbers_of_others(image_path: str, cfg: CfgNode) -> None:
    cfg.INPUT.TARGETS = "instance"
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    Mapper(cfg, True)({**instance_record(image_path), "sampling_seed": 5})
    assert np.random.rand() == expected


def test_the_record_is_left_as_it_was(image_path: str, cfg: CfgNode) -> None:
    cfg.INPUT.TARGETS = "instance"
    record = instance_record(image_path, [list(POLYGON[0])])
    Mapper(cfg, True)(record)
    assert record == instance_record(image_path, POLYGON)


def test_a_test_example_keeps_its_files_size_and_the_way_to_its_truth(image_path: str, cfg: CfgNode) -> None:
    cfg.INPUT.MIN_SIZE_TEST = 12
    result = Mapper(cfg, False)({**panoptic_record(image_path, MASK * 1, [segment(1, 0)]), "image_id": 9})
    assert result["image"].shape == (3, 12, 16) and (result["height"], result["width"]) == (HEIGHT, WIDTH)
    assert result["image_id"] == 9 and "instances" not in result and "pan_seg_file_name" in result


def test_a_broken_image_is_left_out_as_often_as_allowed_then_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    broken = mapper(max_broken_images=2, targets="instance")
    record = {"file_name": str(tmp_path / "cut.png"), "annotations": []}
    assert broken(record) is None and broken(record) is None
    with pytest.raises(ValueError, match=r"cut.png.*number 3, more than DATALOADER.MAX_BROKEN_IMAGES \(2\)"):
        broken(record)


def test_copies_of_the_mapper_count_broken_images_together(tmp_path: Path) -> None:
    first = mapper(max_broken_images=1, targets="instance")
    second = pickle.loads(pickle.dumps(first))
    record = {"file_name": str(tmp_path / "absent.png"), "annotations": []}
    assert first(record) is None
    with pytest.raises(ValueError, match="number 2"):
        second(record)


def test_a_broken_image_at_test_time_raises(cfg: CfgNode, tmp_path: Path) -> None:
    with pytest.raises(BrokenImageError, match="absent.png"):
        Mapper(cfg, False)({"file_name": str(tmp_path / "absent.png")})


def test_an_image_of_another_size_than_the_json_says_is_named(image_path: str, cfg: CfgNode) -> None:
    with pytest.raises(BrokenImageError, match=r"image.png: its size is 6 x 8 .* the json says 9 x 8"):
        Mapper(cfg, False)({"file_name": image_path, "height": 9, "width": 8})


def test_rejects_targets_that_the_data_cannot_give(image_path: str) -> None:
    with pytest.raises(ValueError, match="INPUT.TARGETS asks for panoptic.*no pan_seg_file_name"):
        mapper()(instance_record(image_path, POLYGON))


def test_rejects_unknown_targets(cfg: CfgNode) -> None:
    cfg.INPUT.TARGETS = "things"
    with pytest.raises(ValueError, match="INPUT.TARGETS is 'things'"):
        Mapper(cfg, True)


@pytest.mark.parametrize(("augmentation", "size"), [("crop_resize", (6, 8)), ("resize_crop", (3, 4))])
def test_a_crop_is_before_or_after_the_resizing(image_path: str, cfg: CfgNode, augmentation: str, size: tuple) -> None:
    cfg.INPUT.AUGMENTATION, cfg.INPUT.MIN_SIZE_TRAIN = augmentation, [6]
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [3, 4]
    record = panoptic_record(image_path, np.ones((HEIGHT, WIDTH), int), [segment(1, 0)])
    assert tuple(Mapper(cfg, True)(record)["image"].shape[1:]) == size


def sizes_of_detr(cfg: CfgNode, image_path: str, ids: np.ndarray) -> set[tuple[int, int]]:
    cfg.INPUT.AUGMENTATION, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.CROP.TYPE = "detr", [60], "absolute_range"
    cfg.INPUT.CROP.SIZE = [300, 300]  # of the 400, 500 or 600 pixels of the shortest side
    train, record = Mapper(cfg, True), panoptic_record(image_path, ids, [segment(1, 0)])
    examples = [train({**record, "sampling_seed": seed}) for seed in range(8)]
    assert all(x["instances"].gt_masks.shape[1:] == x["image"].shape[1:] for x in examples)
    return {tuple(x["image"].shape[1:]) for x in examples}


def test_detrs_augmentation_crops_some_images_before_it_resizes_all(image_path: str, cfg: CfgNode) -> None:
    # whole: 6 x 8 px become 60 x 80; cropped to a square: 60 x 60
    cfg.INPUT.CROP.ENABLED = True
    assert sizes_of_detr(cfg, image_path, np.ones((HEIGHT, WIDTH), int)) == {(60, 80), (60, 60)}


def test_detrs_augmentation_without_a_crop_only_resizes(image_path: str, cfg: CfgNode) -> None:
    cfg.INPUT.CROP.ENABLED = False
    assert sizes_of_detr(cfg, image_path, np.ones((HEIGHT, WIDTH), int)) == {(60, 80)}


def test_rejects_an_unknown_augmentation(cfg: CfgNode) -> None:
    cfg.INPUT.AUGMENTATION = "jitter"
    with pytest.raises(ValueError, match="INPUT.AUGMENTATION is 'jitter'"):
        Mapper(cfg, True)


def test_a_polygon_error_names_image_and_annotation(image_path: str) -> None:
    record = instance_record(image_path, [[1, 2, 3, 4]])
    record["annotations"][0]["id"] = 77
    with pytest.raises(ValueError, match="image.png: annotation 77: a polygon"):
        mapper(targets="instance")(record)


# Files of every kind.


def test_gray_images_are_read_as_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 200]], dtype=np.uint8)).save(tmp_path / "gray.png")
    assert read_image(str(tmp_path / "gray.png"), "RGB").tolist() == [[[0, 0, 0], [200, 200, 200]]]


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert read_image(str(tmp_path / "deep.png"), "RGB")[0, :, 0].tolist() == [0, 128, 255]


def test_an_alpha_channel_is_dropped(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[10, 20, 30, 0]]], dtype=np.uint8)).save(tmp_path / "alpha.png")
    assert read_image(str(tmp_path / "alpha.png"), "RGB").tolist() == [[[10, 20, 30]]]


def test_bgr_is_rgb_turned_round(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[10, 20, 30]]], dtype=np.uint8)).save(tmp_path / "color.png")
    assert read_image(str(tmp_path / "color.png"), "BGR").tolist() == [[[30, 20, 10]]]


def paletted(path: Path) -> str:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([9, 8, 7, 1, 2, 3])
    image.putdata([0, 1])
    image.save(path)
    return str(path)


def test_an_image_with_a_palette_is_read_in_its_colors(tmp_path: Path) -> None:
    assert read_image(paletted(tmp_path / "palette.png"), "RGB").tolist() == [[[9, 8, 7], [1, 2, 3]]]


def test_a_label_file_with_a_palette_is_read_in_its_indices(tmp_path: Path) -> None:
    assert read_labels(paletted(tmp_path / "palette.png")).tolist() == [[0, 1]]


def test_an_image_turned_by_its_exif_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter
    Image.fromarray(np.array([[[1, 1, 1]], [[2, 2, 2]]], dtype=np.uint8)).save(tmp_path / "turned.png", exif=exif)
    path = str(tmp_path / "turned.png")
    assert read_image(path, "RGB")[:, :, 0].tolist() == [[2, 1]]
    assert read_image(path, "RGB").shape[:2] == (1, 2)


def test_a_truncated_image_is_named(image_path: str, tmp_path: Path) -> None:
    whole = Path(image_path).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(BrokenImageError, match="cut.png: cannot be read"):
        read_image(str(tmp_path / "cut.png"), "RGB")


def test_a_label_file_in_color_is_refused(image_path: str) -> None:
    with pytest.raises(BrokenImageError, match="one channel, but its mode is RGB"):
        read_labels(image_path)


def test_a_panoptic_png_in_gray_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "gray.png")
    with pytest.raises(BrokenImageError, match="ids in RGB, but its mode is L"):
        read_panoptic(str(tmp_path / "gray.png"))


def test_rejects_an_unknown_format(image_path: str) -> None:
    with pytest.raises(ValueError, match="INPUT.FORMAT is 'HSV'"):
        read_image(image_path, "HSV")
