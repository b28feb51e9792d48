"""Images of other channels than three: their names, their files, and what augmentations change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from mask2former_ext.config import add_config
from mask2former_ext.config.checks import check_model
from mask2former_ext.contract import color_places
from mask2former_ext.data import Mapper, check_datasets, prepare_data
from mask2former_ext.data.augmentation import build_train_augmentations, seeded
from mask2former_ext.data.channels import (
    CHANNEL_FILES,
    ChannelInput,
    apply_by_channel,
    check_format,
    file_order,
    in_model_order,
    shown,
)
from mask2former_ext.data.image_io import BrokenImageError, read_image
from mask2former_ext.inference.video import resized
from mask2former_ext.layers.input_channels import for_channels

RGBT = np.arange(6 * 8 * 4, dtype=np.uint8).reshape(6, 8, 4)
NAME = "a_set_of_the_channel_tests"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One image of four channels, whole in all/, as color and thermal picture in color/ and thermal/; its labels."""
    for kind in ("all", "color", "thermal", "labels"):
        (tmp_path / kind).mkdir()
    Image.fromarray(RGBT).save(tmp_path / "all" / "a.png")
    Image.fromarray(RGBT[:, :, :3]).save(tmp_path / "color" / "a.png")
    Image.fromarray(RGBT[:, :, 3]).save(tmp_path / "thermal" / "a.tif")
    Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(tmp_path / "labels" / "a.png")
    return tmp_path


@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L", "RGBT", "TBGR", "LD", "RGBTD"])
def test_check_format_takes_a_letter_for_each_channel(image_format: str) -> None:
    check_format(image_format)


@pytest.mark.parametrize("image_format", ["", "RBG", "RGBR", "RGBTT", "RG", "T", "rgb", "RGB-T", "HSV", "RTGB"])
def test_check_format_refuses_what_names_no_channels(image_format: str) -> None:
    with pytest.raises(ValueError, match=f"INPUT.FORMAT is '{image_format}', but must be RGB, BGR or L, with"):
        check_format(image_format)


def test_file_order_has_the_colors_first() -> None:
    assert [file_order(f) for f in ("TBGR", "DL", "L", "BGR")] == ["RGBT", "LD", "L", "RGB"]


def test_color_places_are_where_the_colors_stand() -> None:
    assert [list(color_places(f)) for f in ("RGBT", "TBGR", "LD")] == [[0, 1, 2], [1, 2, 3], []]


def test_in_model_order_puts_each_channel_to_its_letter() -> None:
    assert in_model_order(np.array([[[1, 2, 3, 4]]]), "TBGR").tolist() == [[[4, 3, 2, 1]]]


def test_shown_is_the_color_or_the_gray() -> None:
    pixel = np.array([[[1, 2, 3, 4]]])
    assert shown(pixel, "RGBT").tolist() == [[[1, 2, 3]]] and shown(pixel[:, :, :2], "LD").tolist() == [[[1, 1, 1]]]


# Files.


def test_read_image_takes_four_channels_from_one_file_or_from_two(folder: Path) -> None:
    whole = read_image(str(folder / "all" / "a.png"), "RGBT")
    parts = read_image(str(folder / "color" / "a.png"), "RGBT", [str(folder / "thermal" / "a.tif")])
    assert (whole == RGBT).all() and (parts == RGBT).all()


def test_read_image_gives_the_order_of_the_format(folder: Path) -> None:
    assert (read_image(str(folder / "all" / "a.png"), "TBGR") == RGBT[:, :, ::-1]).all()


def test_the_other_files_are_not_read_where_the_format_has_no_such_channel(folder: Path) -> None:
    assert (read_image(str(folder / "color" / "a.png"), "RGB", ["absent.png"]) == RGBT[:, :, :3]).all()


def test_sixteen_bits_of_a_channel_file_are_scaled_to_eight(folder: Path) -> None:
    Image.fromarray(np.full((6, 8), 32896, np.uint16)).save(folder / "thermal" / "a.tif")
    image = read_image(str(folder / "color" / "a.png"), "RGBT", [str(folder / "thermal" / "a.tif")])
    assert (image[:, :, 3] == 128).all() and (image[:, :, :3] == RGBT[:, :, :3]).all()


def test_each_channel_file_is_turned_as_its_exif_says(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(RGBT[::-1, ::-1, 3].copy()).save(folder / "thermal" / "a.png", exif=exif)
    image = read_image(str(folder / "color" / "a.png"), "RGBT", [str(folder / "thermal" / "a.png")])
    assert (image == RGBT).all()


def test_a_picture_without_the_channels_of_the_format_is_named(folder: Path) -> None:
    with pytest.raises(BrokenImageError, match="color/a.png: INPUT.FORMAT RGBT needs 4 channels .* its mode is RGB"):
        read_image(str(folder / "color" / "a.png"), "RGBT")


def test_a_wrong_number_of_files_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="a.png: INPUT.FORMAT RGBTD names 2 channels beside RGB, but there are"):
        read_image(str(folder / "color" / "a.png"), "RGBTD", ["a.png"])


def test_a_channel_file_of_another_size_is_named(folder: Path) -> None:
    Image.fromarray(RGBT[:3, :, 3]).save(folder / "thermal" / "a.tif")
    with pytest.raises(BrokenImageError, match="thermal/a.tif: its size is 3 x 8 .*color/a.png says 6 x 8"):
        read_image(str(folder / "color" / "a.png"), "RGBT", [str(folder / "thermal" / "a.tif")])


# Augmentation.


def test_a_channel_is_resized_by_itself() -> None:
    # As color with transparency Pillow would weigh the colors by the fourth channel, which is 0 in one half.
    image = np.full((4, 4, 4), 100, np.uint8)
    image[:, :2, 3] = 0
    smaller = apply_by_channel(T.ResizeTransform(4, 4, 2, 2), image, "RGBT")
    assert (smaller[:, :, :3] == 100).all() and (smaller[:, 0, 3] < smaller[:, 1, 3]).all()


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_a_picture_made_smaller_keeps_its_channels(count: int) -> None:
    image = np.full((40, 60, count), 100, np.uint8)
    assert (resized(image, (20, 30)) == np.full((20, 30, count), 100)).all()


@pytest.mark.parametrize("image_format", ["RGBT", "TBGR"])
def test_color_changes_touch_the_colors_alone(image_format: str) -> None:
    cfg = get_cfg()
    add_config(cfg)
    cfg.INPUT.FORMAT, cfg.INPUT.COLOR_AUG_SSD, cfg.INPUT.RANDOM_FLIP = image_format, True, "none"
    cfg.INPUT.MIN_SIZE_TRAIN = [6]
    place, augmentations = image_format.index("T"), T.AugmentationList(build_train_augmentations(cfg, 255))
    changes = 0
    for seed in range(5):
        changed = ChannelInput(RGBT.copy(), image_format)
        with seeded(seed):
            augmentations(changed)
        assert (changed.image[:, :, place] == RGBT[:, :, place]).all()
        changes += (changed.image != RGBT).any()
    assert changes


def test_color_changes_are_refused_without_colors() -> None:
    cfg = get_cfg()
    add_config(cfg)
    cfg.INPUT.FORMAT, cfg.INPUT.COLOR_AUG_SSD = "LD", True
    with pytest.raises(ValueError, match="INPUT.COLOR_AUG_SSD needs colors, but INPUT.FORMAT LD has no RGB or BGR"):
        build_train_augmentations(cfg, 255)


# From the configuration to the model's input.


def config(folder: Path, images: Any, image_format: str = "RGBT") -> CfgNode:
    cfg = get_cfg()
    add_config(cfg)
    cfg.DATASETS.CUSTOM = [
        {"NAME": NAME, "IMAGES": images, "SEMANTIC_MASKS": str(folder / "labels"), "CLASSES": ["ground", "line"]}
    ]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.INPUT.TARGETS = (NAME,), (), "semantic"
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = image_format, [6], "none"
    cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES = 0
    prepare_data(cfg)
    return cfg


@pytest.fixture(autouse=True)
def _no_data_set() -> Any:
    yield
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME, None)


def test_a_list_of_folders_gives_each_record_its_channel_files(folder: Path) -> None:
    cfg = config(folder, [str(folder / "color"), str(folder / "thermal")])
    (record,) = DatasetCatalog.get(NAME)
    assert record[CHANNEL_FILES] == [str(folder / "thermal" / "a.tif")]
    check_datasets(cfg)
    example = Mapper(cfg, True)(record)
    assert (example["image"].numpy() == RGBT.transpose(2, 0, 1)).all() and example["sem_seg"].shape == (6, 8)


def test_a_test_example_has_all_channels(folder: Path) -> None:
    cfg = config(folder, str(folder / "all"), "TBGR")
    cfg.INPUT.MIN_SIZE_TEST = 6
    example = Mapper(cfg, False)(DatasetCatalog.get(NAME)[0])
    assert (example["image"].numpy() == RGBT[:, :, ::-1].transpose(2, 0, 1)).all()


def test_a_missing_channel_file_is_named_before_training(folder: Path) -> None:
    cfg = config(folder, [str(folder / "color"), str(folder / "thermal")])
    (folder / "thermal" / "a.tif").unlink()
    with pytest.raises(ValueError, match="thermal/a.png is missing; 1 of 1 files"):
        check_datasets(cfg)


def test_pictures_of_too_few_channels_are_named_before_training(folder: Path) -> None:
    with pytest.raises(ValueError, match="color/a.png: INPUT.FORMAT RGBT needs 4 channels"):
        check_datasets(config(folder, str(folder / "color")))


@pytest.mark.parametrize("key", ["PIXEL_MEAN", "PIXEL_STD"])
def test_a_mean_or_deviation_for_each_channel_is_needed(key: str) -> None:
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME, cfg.INPUT.FORMAT = "Mask2Former", "TimmBackbone", "RGBT"
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [1.0, 2.0, 3.0, 4.0]
    check_model(cfg)
    cfg.MODEL[key] = [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=rf"MODEL.{key} is \[1.0, 2.0, 3.0\], .* each of the 4 channels of INPUT"):
        check_model(cfg)


def test_for_channels_copies_colors_and_gives_their_mean_to_the_rest() -> None:
    weight = torch.tensor([3.0, 6.0, 9.0]).view(1, 3, 1, 1)
    assert for_channels(weight, 4, color_places("TBGR")).flatten().tolist() == [6, 3, 6, 9]
    assert for_channels(weight, 2, color_places("LD")).flatten().tolist() == [6, 6]
