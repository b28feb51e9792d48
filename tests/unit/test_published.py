"""The catalog of published models: every row's names fit, names are found, and a word filters the list."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.modeling import build_model

from mask2former_ext import load_config
from mask2former_ext.commands import models
from mask2former_ext.interop.huggingface import convert_state_dict
from mask2former_ext.interop.published import DEFAULT_MODEL, find_published, published_models

ON_HUB = [model for model in published_models() if model.is_on_hub]
ELSEWHERE = [model for model in published_models() if not model.is_on_hub]
# Catalog name -> the record of the authors' code, in fixtures/keys, of the same network; class counts may differ.
RECORDS = {
    "mask2former-r50-": "mask2former__coco__panoptic-segmentation__maskformer2_R50_bs16_50ep",
    "mask2former-r101-": "mask2former__coco__instance-segmentation__maskformer2_R101_bs16_50ep",
    "maskformer-r50-ade": "maskformer__ade20k-150__maskformer_R50_bs16_160k",
    "maskformer-r50-coco": "maskformer__coco-panoptic__maskformer_panoptic_R50_bs64_554k",
    "maskformer-r101c-ade": "maskformer__ade20k-150__maskformer_R101c_bs16_160k",
    "per-pixel-baseline-r50": "maskformer__ade20k-150__per_pixel_baseline_R50_bs16_160k",
    "per-pixel-baseline-plus": "maskformer__ade20k-150__per_pixel_baseline_plus_R50_bs16_160k",
    "mask-rcnn-r50-": "d2__COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x",
    "mask-rcnn-x101-": "d2__COCO-InstanceSegmentation__mask_rcnn_X_101_32x8d_FPN_3x",
    "panoptic-fpn-r50-": "d2__COCO-PanopticSegmentation__panoptic_fpn_R_50_3x",
}
CLASS_HEADS = ("class_embed.weight", "class_embed.bias", "empty_weight")


def shapes_of(model) -> dict[str, list[int]]:
    """Of the network that the row's configuration builds, without memory for it."""
    cfg = load_config(model.config, [*model.changes, "MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        tensors = build_model(cfg).state_dict()
    return {name: list(tensor.shape) for name, tensor in tensors.items() if "num_batches_tracked" not in name}


def of_transformers(model) -> dict[str, list[int]]:
    """Of the same network in transformers, converted. The checkpoints are of its default sizes but for these."""
    transformers = pytest.importorskip("transformers", reason="names are held against transformers")
    keys = load_config(model.config, model.changes).MODEL
    swin = {"embed_dim": keys.SWIN.EMBED_DIM, "depths": keys.SWIN.DEPTHS, "num_heads": keys.SWIN.NUM_HEADS}
    stages = {"window_size": keys.SWIN.WINDOW_SIZE, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
    options = {"backbone_config": transformers.SwinConfig(**swin, **stages)}
    options["num_labels"] = keys.MASK_CLASSIFIER.NUM_CLASSES
    task = "InstanceSegmentation" if model.architecture == "MaskFormer" else "UniversalSegmentation"
    if model.architecture != "MaskFormer":
        options["num_queries"] = keys[model.architecture.upper()].NUM_QUERIES
    with torch.device("meta"):
        config = getattr(transformers, f"{model.architecture}Config")(**options)
        theirs = getattr(transformers, f"{model.architecture}For{task}")(config)
    converted = convert_state_dict(theirs.state_dict(), config.model_type)
    return {name: list(tensor.shape) for name, tensor in converted.items()}


@pytest.mark.slow
@pytest.mark.parametrize("model", ON_HUB, ids=lambda model: model.name)
def test_every_tensor_of_a_hub_model_finds_its_place(model):
    derived = ("relative_position_index", "empty_weight", "backbone.norm.weight", "backbone.norm.bias")
    ours = {name: shape for name, shape in shapes_of(model).items() if not name.endswith(derived)}
    theirs = {name: shape for name, shape in of_transformers(model).items() if not name.endswith(derived)}
    assert theirs == ours


@pytest.mark.parity
@pytest.mark.parametrize("model", ELSEWHERE, ids=lambda model: model.name)
def test_names_of_a_zoo_file_are_those_of_the_record(model, fixtures_dir):
    records = [record for start, record in RECORDS.items() if model.name.startswith(start)]
    if not records:
        pytest.skip("no record of this network")
    recorded = json.loads((fixtures_dir / "keys" / f"{records[0]}.json").read_text())
    ours = {name: shape for name, shape in shapes_of(model).items() if not name.endswith(CLASS_HEADS)}
    assert ours == {name: shape for name, shape in recorded.items() if not name.endswith(CLASS_HEADS)}


@pytest.mark.parametrize("model", published_models(), ids=lambda model: model.name)
def test_a_row_says_where_it_lives_and_under_which_license(model):
    assert model.place.startswith("https://") != ("/" in model.place and model.is_on_hub)
    assert model.license and model.source.startswith("https://") and model.megabytes > 100


def test_find_published_takes_a_name_and_a_repository_of_the_hub():
    by_name = find_published("mask2former-swin-tiny-coco-panoptic")
    assert find_published("facebook/mask2former-swin-tiny-coco-panoptic") is by_name
    assert find_published(DEFAULT_MODEL) is by_name


def test_find_published_shows_the_nearest_names():
    with pytest.raises(
        ValueError, match="'mask2former-tony-panoptic' is neither .* mask2former-swin-tiny-coco-panoptic"
    ):
        find_published("mask2former-tony-panoptic")


def test_words_leave_the_rows_that_have_them_all(capsys):
    assert models.main(["Swin-T", "oneformer"]) == 0
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == "oneformer-swin-tiny-ade Swin-T ADE20K, all three tasks - 203 MIT names only".split()


def test_words_that_no_row_has_end_with_exit_code_1(capsys):
    assert models.main(["no-such-model"]) == 1
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1  # the titles
    assert told.err == "mask2former-ext models: no published model has 'no-such-model' in its row\n"


def test_details_say_source_place_and_configuration(capsys):
    models.main(["mask2former-r101-coco-panoptic", "--details"])
    shown = capsys.readouterr().out
    assert "published: PQ 52.6, AP 42.6, mIoU 62.4 (https://github.com/facebookresearch/Mask2Former/" in shown
    assert "configuration: mask2former/coco_panoptic_r50 with MODEL.RESNETS.DEPTH 101" in shown
    assert "place: https://dl.fbaipublicfiles.com/maskformer/mask2former/coco/panoptic/" in shown
