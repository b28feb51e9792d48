"""The operator, its kernels and the layer. Sizes: levels 5x3, 2x7 and 1x1, all odd on purpose."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from mask2former_ext.layers.deformable_attention import MultiScaleDeformableAttention, multi_scale_deformable_attention
from mask2former_ext.layers.deformable_attention.cpu import backward_by_embedding_bag, forward_by_embedding_bag
from mask2former_ext.layers.deformable_attention.reference import backward_by_grid_sample, forward_by_grid_sample
from tests.reference import slow_multi_scale_deformable_attention

LEVELS = [(5, 3), (2, 7), (1, 1)]
KERNELS = [forward_by_embedding_bag, forward_by_grid_sample]


def arguments(dtype=torch.float64, batch=2, queries=4, heads=3, channels=5, points=2, levels=LEVELS, grad=False):
    """Value, locations (a third of them outside 0..1) and weights."""
    generator = torch.Generator().manual_seed(7)
    cells = sum(height * width for height, width in levels)
    value = torch.randn(batch, cells, heads, channels, generator=generator, dtype=torch.float64)
    locations = torch.rand(batch, queries, heads, len(levels), points, 2, generator=generator, dtype=torch.float64)
    weights = torch.randn(batch, queries, heads, len(levels), points, generator=generator, dtype=torch.float64)
    return [tensor.to(dtype).requires_grad_(grad) for tensor in (value, locations * 1.5 - 0.25, weights)]


def attend(value, locations, weights, levels=LEVELS):
    return multi_scale_deformable_attention(value, levels, locations, weights)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_equals_loops_over_cells_on_odd_sizes(kernel):
    value, locations, weights = arguments()
    expected = slow_multi_scale_deformable_attention(value, LEVELS, locations, weights)
    torch.testing.assert_close(kernel(value, LEVELS, locations, weights), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_sample_midway_between_four_cells_is_their_mean(kernel):
    # A 2 x 2 level of 1, 2, 3, 10 sampled in the middle: 16 / 4 = 4, times the weight 0.5 = 2.
    value = torch.tensor([1.0, 2.0, 3.0, 10.0]).view(1, 4, 1, 1)
    output = kernel(value, [(2, 2)], torch.full((1, 1, 1, 1, 1, 2), 0.5), torch.full((1, 1, 1, 1, 1), 0.5))
    assert output.item() == 2.0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("x, y", [(1.26, 0.5), (-0.26, 0.5), (0.5, 9.0), (-4.0, -4.0), (3.0, 3.0), (math.inf, 0.5)])
def test_a_sample_half_a_cell_or_more_outside_reads_zero(kernel, x, y):
    location = torch.tensor([x, y]).view(1, 1, 1, 1, 1, 2)
    output = kernel(torch.ones(1, 4, 1, 1), [(2, 2)], location, torch.ones(1, 1, 1, 1, 1))
    assert output.nan_to_num().item() == 0.0


def test_a_location_that_is_not_a_number_spoils_its_own_query_only():
    value, locations, weights = arguments()
    clean = attend(value, locations, weights)
    locations[1, 2] = math.nan
    output = attend(value, locations, weights)
    assert output[1, 2].isnan().all()
    output[1, 2] = clean[1, 2]
    assert torch.equal(output, clean)


@pytest.mark.slow
def test_gradients_agree_with_finite_differences():
    assert torch.autograd.gradcheck(attend, arguments(grad=True))


def test_gradients_are_finite_differences_for_one_image_head_and_level():
    inputs = arguments(batch=1, heads=1, channels=1, points=1, levels=[(3, 5)], grad=True)
    assert torch.autograd.gradcheck(lambda *tensors: attend(*tensors, levels=[(3, 5)]), inputs)


def test_both_backward_kernels_agree():
    value, locations, weights = arguments()
    grad = torch.randn_like(attend(value, locations, weights))
    expected = backward_by_grid_sample(grad, value, LEVELS, locations, weights)
    torch.testing.assert_close(backward_by_embedding_bag(grad, value, LEVELS, locations, weights), expected)


def test_the_operator_passes_the_checks_of_torch_library():
    value, locations, weights = arguments(grad=True)
    levels = [size for shape in LEVELS for size in shape]
    operator = torch.ops.mask2former_ext.multi_scale_deformable_attention.default
    torch.library.opcheck(operator, (value, levels, locations, weights))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_types_sum_in_float32_and_keep_their_type(dtype, tolerance):
    inputs = arguments(dtype, grad=True)
    output = attend(*inputs)
    output.sum().backward()
    expected = attend(*(tensor.detach().float() for tensor in inputs))
    torch.testing.assert_close(output, expected.to(dtype), rtol=tolerance, atol=tolerance)
    assert [tensor.grad.dtype for tensor in inputs] == [dtype] * 3


def test_half_values_may_meet_float32_locations():
    value, locations, weights = arguments(torch.float32)
    output = attend(value.bfloat16(), locations, weights)
    expected = attend(value.bfloat16().float(), locations, weights).bfloat16()
    assert torch.equal(output, expected)


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"queries": 0}, {"points": 0}, {"channels": 0}])
def test_nothing_to_attend_gives_zeros_and_zero_gradients(sizes):
    inputs = arguments(grad=True, **sizes)
    output = attend(*inputs)
    output.sum().backward()
    assert output.shape == (inputs[0].shape[0], inputs[1].shape[1], 3 * inputs[0].shape[3])
    assert not output.any() and not any(tensor.grad.any() for tensor in inputs)


def test_arguments_need_not_be_contiguous():
    value, locations, weights = arguments()
    strided = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in (value, locations, weights)]
    assert torch.equal(attend(*strided), attend(value, locations, weights))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v, x, w: (v[:, :-1], x, w), r"value has 29 cells in dimension 1, but spatial_shapes .* has 30"),
        (lambda v, x, w: (v[0], x, w), r"value must have 4 dimensions, got the shape \(30, 3, 5\)"),
        (lambda v, x, w: (v[:1], x, w), r"sampling_locations must be .* = \(1, 4, 3, 3, 2, 2\)"),
        (lambda v, x, w: (v, x[:, :, :, :2], w), r"sampling_locations must be .* and 3 levels"),
        (lambda v, x, w: (v, x, w[..., :1]), r"attention_weights must be \(2, 4, 3, 3, 2\)"),
        (lambda v, x, w: (v.long(), x, w), r"value must be float16, .* got torch.int64"),
        (lambda v, x, w: (v, x, w.to("meta")), r"attention_weights is on meta, but value on cpu"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    inputs = arguments()
    with pytest.raises(ValueError, match=message):
        attend(*change(*inputs))


@pytest.mark.parametrize("levels", [[], [(30, 0)], [(30, 1, 1)]])
def test_levels_without_a_height_and_a_width_are_refused(levels):
    with pytest.raises(ValueError, match="spatial_shapes"):
        attend(*arguments(), levels=levels)


def test_no_warning_reaches_the_user():
    inputs = arguments(grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attend(*inputs).sum().backward()


class Layer(nn.Module):
    """The layer with its level sizes, as a pixel decoder would call it."""

    def __init__(self):
        super().__init__()
        self.attention = MultiScaleDeformableAttention(embed_dim=16, num_heads=4, num_levels=3, num_points=2)

    def forward(self, query, reference_points):
        return self.attention(query, reference_points, query, LEVELS)


def layer_and_inputs():
    torch.manual_seed(0)
    layer = Layer()
    nn.init.normal_(layer.attention.sampling_offsets.weight, std=0.1)
    nn.init.normal_(layer.attention.attention_weights.weight, std=0.1)
    return layer, (torch.randn(2, 30, 16), torch.rand(2, 30, 3, 2))


def operators(graph) -> list[str]:
    return [str(node.target) for node in graph.nodes if "mask2former_ext" in str(node.target)]


def test_compile_sees_one_operator_and_keeps_results_and_gradients():
    layer, inputs = layer_and_inputs()
    twin, graphs = copy.deepcopy(layer), []

    def backend(module, _inputs):
        graphs.append(module.graph)
        return module

    output = torch.compile(layer, fullgraph=True, backend=backend)(*inputs)
    output.sum().backward()
    expected = twin(*inputs)
    expected.sum().backward()
    assert [operators(graph) for graph in graphs] == [["mask2former_ext.multi_scale_deformable_attention.default"]]
    torch.testing.assert_close(output, expected)
    offsets = layer.attention.sampling_offsets.weight.grad
    torch.testing.assert_close(offsets, twin.attention.sampling_offsets.weight.grad)


def test_export_sees_one_operator():
    layer, inputs = layer_and_inputs()
    program = torch.export.export(layer.eval(), inputs)
    assert operators(program.graph) == ["mask2former_ext.multi_scale_deformable_attention.default"]
    torch.testing.assert_close(program.module()(*inputs), layer(*inputs))


def test_the_layer_has_the_published_parameters():
    shapes = {name: tuple(parameter.shape) for name, parameter in Layer().attention.named_parameters()}
    assert shapes == {
        "sampling_offsets.weight": (48, 16),
        "sampling_offsets.bias": (48,),
        "attention_weights.weight": (24, 16),
        "attention_weights.bias": (24,),
        "value_proj.weight": (16, 16),
        "value_proj.bias": (16,),
        "output_proj.weight": (16, 16),
        "output_proj.bias": (16,),
    }


def test_a_new_layer_looks_at_the_neighbors_in_each_direction():
    # 4 heads look right, down, left, up; point 1 one cell, point 2 two cells away, the same in all 3 levels.
    bias = Layer().attention.sampling_offsets.bias.detach().view(4, 3, 2, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    expected = torch.stack((directions, 2 * directions), dim=1)[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(bias, expected, rtol=0, atol=1e-6)


def test_a_new_layer_weighs_all_samples_the_same():
    layer = Layer().attention
    assert not layer.attention_weights.weight.any() and not layer.attention_weights.bias.any()
    assert not layer.sampling_offsets.weight.any()


def test_padded_cells_count_as_zero():
    layer, (query, points) = layer_and_inputs()
    padding = torch.zeros(2, 30, dtype=torch.bool)
    padding[:, 20:] = True
    changed = query + 100 * padding.unsqueeze(-1)
    first = layer.attention(query, points, query, LEVELS, padding)
    torch.testing.assert_close(layer.attention(query, points, changed, LEVELS, padding), first)


def test_an_offset_is_measured_in_cells_of_its_level():
    # One head, one point, one level of 1 x 4 cells 0 1 2 3; from the center of cell 1, one cell to the right is cell 2.
    layer = MultiScaleDeformableAttention(embed_dim=1, num_heads=1, num_levels=1, num_points=1)
    for projection in (layer.value_proj, layer.output_proj):
        nn.init.ones_(projection.weight)
    value = torch.arange(4.0).view(1, 4, 1)
    output = layer(torch.zeros(1, 1, 1), torch.tensor([1.5 / 4, 0.5]).view(1, 1, 1, 2), value, [(1, 4)])
    assert output.item() == 2.0


def test_autocast_gives_nearly_the_same():
    layer, inputs = layer_and_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(*inputs)
    output.sum().backward()
    torch.testing.assert_close(output.float(), layer(*inputs), rtol=0.05, atol=0.02)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="embed_dim must be a multiple of num_heads, got 10 and 4"):
        MultiScaleDeformableAttention(embed_dim=10, num_heads=4, num_levels=1, num_points=1)


def test_another_number_of_levels_is_refused():
    layer, (query, points) = layer_and_inputs()
    with pytest.raises(ValueError, match="built for 3 levels"):
        layer.attention(query, points, query, LEVELS[:2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_a_processor_gives():
    inputs = arguments(torch.float32, grad=True)
    moved = [tensor.detach().cuda().requires_grad_() for tensor in inputs]
    output, output_gpu = attend(*inputs), attend(*moved)
    output.sum().backward()
    output_gpu.sum().backward()
    torch.testing.assert_close(output_gpu.cpu(), output)
    for tensor, tensor_gpu in zip(inputs, moved, strict=True):
        torch.testing.assert_close(tensor_gpu.grad.cpu(), tensor.grad, rtol=1e-4, atol=1e-4)
