"""Swin against a slow version of its own rules: whole-map attention with a mask, no windows cut out."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch.nn import functional as F

from mask2former_ext.layers.swin import (
    PatchMerging,
    SwinBlock,
    SwinTransformer,
    join_windows,
    relative_positions,
    shifted_window_mask,
    split_into_windows,
)
from mask2former_ext.models.backbones import add_backbone_config
from tests.places import SHARED

KEYS = SHARED / "fixtures" / "keys"
TINY = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "window_size": 3}


def tiny(**changes):
    torch.manual_seed(0)
    return SwinTransformer(**{**TINY, **changes})


def block(shift):
    torch.manual_seed(0)
    options = {"mlp_ratio": 2.0, "qkv_bias": True, "qk_scale": 0.7}
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "drop_path": 0.0}
    result = SwinBlock(4, num_heads=2, window_size=3, shift=shift, **options, **rates)
    torch.nn.init.normal_(result.attn.relative_position_bias_table)
    return result


def slow_attention(module, x, shift):
    """Each cell of `x` (H, W, C), padded, attends to the cells of its window, which are found by their coordinates."""
    side, heads = module.window_size, module.attn.num_heads
    height, width, channels = x.shape
    padded = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = padded.shape[:2]
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    query, key, value = module.attn.qkv(padded.reshape(rows * columns, channels)).chunk(3, dim=-1)
    table = module.attn.relative_position_bias_table.view(2 * side - 1, 2 * side - 1, heads)
    # Windows begin at -(side - shift), shift, shift + side, ...: cells of one window share this pair.
    window = [((row - shift) // side, (column - shift) // side) for row, column in cells]
    output = []
    for i, (row, column) in enumerate(cells):
        near = [j for j in range(len(cells)) if window[j] == window[i]]
        attended = []
        for head in range(heads):
            part = slice(head * channels // heads, (head + 1) * channels // heads)
            bias = [table[row - cells[j][0] + side - 1, column - cells[j][1] + side - 1, head] for j in near]
            logits = 0.7 * key[near][:, part] @ query[i, part] + torch.stack(bias)
            attended.append(logits.softmax(0) @ value[near][:, part])
        output.append(torch.cat(attended))
    return module.attn.proj(torch.stack(output)).view(rows, columns, channels)[:height, :width]


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [(5, 7), (6, 3), (2, 2)])
def test_window_attention_equals_attention_over_cells_that_share_a_window(shift, size):
    module, x = block(shift), torch.randn(*size, 4)
    rows, columns = (side + -side % 3 for side in size)
    mask = shifted_window_mask(rows, columns, 3, 1, like=x)
    torch.testing.assert_close(module.attend(x[None], mask)[0], slow_attention(module, x, shift))


def test_windows_are_cut_row_by_row_and_joined_again():
    x = torch.arange(24).view(1, 4, 6, 1)
    windows = split_into_windows(x, 2)
    assert windows[1].flatten().tolist() == [2, 3, 8, 9]
    assert torch.equal(join_windows(windows, 2, 4, 6), x)


def test_relative_positions_of_a_window_of_four_cells():
    # Table of 3 x 3 positions: a cell sees itself in the middle (4); cell 0 sees cell 3, below right of it, at 0.
    assert relative_positions(2).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_patch_merging_goes_down_the_left_column_first():
    merging = PatchMerging(1)
    merging.norm = torch.nn.Identity()
    merging.reduction = torch.nn.Identity()
    # 1 2 5       2 x 2 neighbors, the odd column padded with zeros.
    # 3 4 6
    x = torch.tensor([[1.0, 2.0, 5.0], [3.0, 4.0, 6.0]]).view(1, 2, 3, 1)
    assert merging(x).tolist() == [[[[1.0, 3.0, 2.0, 4.0], [5.0, 6.0, 0.0, 0.0]]]]


def test_odd_sizes_are_rounded_up_at_each_stage():
    outputs = tiny()(torch.randn(2, 3, 57, 83))
    shapes = {name: tuple(output.shape) for name, output in outputs.items()}
    assert shapes == {"res2": (2, 8, 15, 21), "res3": (2, 16, 8, 11), "res4": (2, 32, 4, 6), "res5": (2, 64, 2, 3)}


def test_an_image_of_a_batch_gives_what_it_gives_alone():
    model, images = tiny().eval(), torch.randn(3, 3, 40, 36)
    torch.testing.assert_close(model(images)["res5"][1:2], model(images[1:2])["res5"], rtol=1e-4, atol=1e-5)


def test_every_parameter_learns():
    model = tiny(ape=True)
    sum((output**2).sum() for output in model(torch.randn(1, 3, 45, 50)).values()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_stages_behind_the_last_output_are_not_built():
    model = tiny(out_features=("res3",))
    assert list(model(torch.randn(1, 3, 32, 32))) == ["res3"]
    assert not [name for name in model.state_dict() if name.startswith(("layers.2", "layers.1.downsample", "norm0"))]


@pytest.mark.slow
def test_checkpointing_changes_no_gradient():
    images, grads = torch.randn(1, 3, 24, 24), []
    for use_checkpoint in (False, True):
        model = tiny(use_checkpoint=use_checkpoint, drop_path_rate=0.0)
        model(images)["res5"].square().sum().backward()
        grads.append(model.patch_embed.proj.weight.grad)
    torch.testing.assert_close(*grads)


def test_drop_path_rises_linearly_from_zero():
    model = tiny(drop_path_rate=0.7)
    rates = [block.drop_path.p for layer in model.layers for block in layer.blocks]
    assert rates == pytest.approx([0.1 * step for step in range(8)])


def test_freezing_at_two_leaves_only_the_later_stages_to_learn():
    model = tiny(freeze_at=2, ape=True).train()
    learning = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"layers", "norm0", "norm1", "norm2", "norm3"}
    assert not any(parameter.requires_grad for parameter in model.layers[0].parameters())
    assert not model.layers[0].training and model.layers[1].training


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_heads": (3, 2, 2, 4)}, "stage 0 has 8 channels, which 3 heads do not divide"),
        ({"num_heads": (1, 2)}, "depths and num_heads must be of one length"),
        ({"window_size": 1}, "window_size must be 2 or more"),
        ({"out_features": ("res6",)}, "out_features must be some of"),
        ({"freeze_at": 6}, "freeze_at must be 0 to 5, got 6"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def swin_config(**keys):
    cfg = get_cfg()
    add_backbone_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    for key, value in keys.items():
        cfg.MODEL.SWIN[key] = value
    return cfg


def test_detectron2_builds_it_and_learns_its_outputs():
    keys = {"EMBED_DIM": 8, "NUM_HEADS": [1, 2, 2, 4], "DEPTHS": [1, 1, 1, 1], "OUT_FEATURES": ["res3", "res5"]}
    backbone = build_backbone(swin_config(**keys))
    shapes = {name: (shape.channels, shape.stride) for name, shape in backbone.output_shape().items()}
    assert shapes == {"res3": (16, 8), "res5": (64, 32)}
    assert backbone.size_divisibility == 32


@pytest.mark.parity
@pytest.mark.skipif(not KEYS.is_dir(), reason=f"no recorded names at {KEYS}")
@pytest.mark.parametrize(
    "record, keys",
    [
        ("mask2former__coco__panoptic-segmentation__swin__maskformer2_swin_tiny_bs16_50ep", {}),
        ("maskformer__ade20k-150__swin__maskformer_swin_tiny_bs16_160k", {}),
        (
            "oneformer__ade20k__swin__oneformer_swin_large_bs16_160k",
            {"EMBED_DIM": 192, "DEPTHS": [2, 2, 18, 2], "NUM_HEADS": [6, 12, 24, 48], "WINDOW_SIZE": 12},
        ),
    ],
)
def test_names_and_shapes_are_the_published_ones(record, keys):
    published = json.loads((KEYS / f"{record}.json").read_text())
    with torch.device("meta"):
        cfg = swin_config(**keys, DROP_PATH_RATE=0.0)
        ours = {f"backbone.{name}": list(value.shape) for name, value in build_backbone(cfg).state_dict().items()}
    assert ours == {name: shape for name, shape in published.items() if name.startswith("backbone.")}
