"""The pixel decoder as one graph, and its geometry with and without padding."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec

from mask2former_ext.layers.padding import valid_size
from mask2former_ext.layers.transformer import sine_position_encoding
from mask2former_ext.models.mask2former import PixelDecoder, _reference_points

OPERATOR = "mask2former_ext.multi_scale_deformable_attention"
STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


def a_decoder(**changes) -> PixelDecoder:
    torch.manual_seed(0)
    options = {
        "deformable_in_features": ["res3", "res4", "res5"],
        "conv_dim": 32,
        "mask_dim": 16,
        "norm": "GN",
        "num_layers": 2,
        "num_heads": 4,
        "num_points": 4,
        "feedforward_dim": 48,
        "dropout": 0.0,
        "common_stride": 4,
    }
    shapes = {name: ShapeSpec(channels=8, stride=stride) for name, stride in STRIDES.items()}
    return PixelDecoder(shapes, **{**options, **changes}).eval()


def some_features(height: int = 64, width: int = 96, batch: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(batch, 8, height // s, width // s) for name, s in STRIDES.items()}


def operators_in(graph: torch.fx.Graph) -> int:
    return sum(node.op == "call_function" and str(node.target).startswith(OPERATOR) for node in graph.nodes)


def test_export_sees_each_attention_layer_as_one_operator():
    program = torch.export.export(a_decoder(), (some_features(),))
    assert operators_in(program.graph) == 2


def test_compile_sees_an_attention_layer_as_one_operator_without_breaks():
    graphs = []

    def backend(module, _):
        graphs.append(module.graph)
        return module

    decoder, features = a_decoder(), some_features()
    torch.compiler.reset()
    compiled = torch.compile(decoder, backend=backend, fullgraph=True)(features)
    assert [operators_in(graph) for graph in graphs] == [2]
    torch.testing.assert_close(compiled[0], decoder(features)[0])


def test_maps_come_from_coarse_to_fine_with_the_embeddings_at_stride_4():
    mask_features, memory = a_decoder()(some_features(64, 96))
    assert mask_features.shape == (1, 16, 16, 24)
    assert [x.shape[-2:] for x in memory] == [(2, 3), (4, 6), (8, 12)]


def test_a_fully_valid_canvas_gives_the_same_maps_as_no_padding():
    decoder, features = a_decoder(), some_features()
    without, _ = decoder(features)
    with_sizes, _ = decoder(features, torch.ones(1, 2))
    torch.testing.assert_close(with_sizes, without)


def test_padding_does_not_reach_the_valid_part_through_attention():
    # one level, no FPN step: what stands on the padding must not change the valid left half
    decoder = a_decoder(deformable_in_features=["res5"], common_stride=32)
    features, fraction = some_features(128, 128), torch.tensor([[1.0, 0.5]])
    decoder.input_proj[0][1] = torch.nn.Identity()  # GroupNorm's statistics cover the whole map
    before = decoder(features, fraction)[0][..., :2]
    features["res5"][..., 2:] = 100.0
    torch.testing.assert_close(decoder(features, fraction)[0][..., :2], before)


def test_reference_points_are_cell_centers():
    # a 1 x 2 level: centers (0.25, 0.5) and (0.75, 0.5), x first
    points = _reference_points([(1, 2)], None, "cpu")
    assert points[0, :, 0].tolist() == [[0.25, 0.5], [0.75, 0.5]]


def test_reference_points_shrink_to_the_valid_part():
    # of 4 columns the left 2 are valid: their centers are 1/8 and 3/8 of the canvas
    points = _reference_points([(1, 4)], [torch.tensor([[1, 2]])], "cpu")
    assert points[0, :2, 0].tolist() == [[0.125, 0.5], [0.375, 0.5]]


def test_valid_sizes_are_rounded_up():
    # 96 of 160 columns: at stride 32 3 of 5, at stride 8 12 of 20; 0.55 of 5 is 2.75, so 3
    assert valid_size((1, 5), torch.tensor([[1.0, 96 / 160]])).tolist() == [[1, 3]]
    assert valid_size((1, 20), torch.tensor([[1.0, 96 / 160]])).tolist() == [[1, 12]]
    assert valid_size((1, 5), torch.tensor([[1.0, 0.55]])).tolist() == [[1, 3]]


def test_position_encoding_of_one_pixel_by_hand():
    # 4 channels, map 1 x 2: y = 2 pi (all of 1), x = pi then 2 pi; frequency 1: sin and cos of each
    encoding = sine_position_encoding((1, 2), 4)[0, :, 0]
    expected = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [-1.0, 1.0]])
    torch.testing.assert_close(encoding, expected, atol=1e-5, rtol=0)


def test_a_level_that_is_no_input_is_refused():
    with pytest.raises(ValueError, match="must be among IN_FEATURES"):
        a_decoder(deformable_in_features=["res3", "res6"])
