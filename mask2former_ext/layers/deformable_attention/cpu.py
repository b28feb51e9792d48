"""Multi-scale deformable attention for CPUs: four weighted table look-ups, one for each bilinear corner.

A sample is a weighted sum of four cells, so a head of a query is the weighted sum of 4 * L * P rows of the table of all
cells. `embedding_bag` does just that sum at the speed of the cache, without the (B, H, D, N, L * P) intermediate of
`grid_sample`. Levels lie in the table with a border of zeros, so that no corner needs a test for being inside.

Shapes as in `reference.py`; K = L * P samples of a head; a cell's row in the table is (image, padded cell, head).
The four corners of a sample are named by row and column: 00 above left, 01 above right, 10 below left, 11 below right.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference import LevelShapes, compute_dtype, level_slices


class PaddedLevels:
    """Where cells lie in the table.

    A level of height h and width w takes (h + 2) rows of (w + 1) cells: one row of zeros above and one below, one cell
    of zeros before each row, which serves as the end of the row before it too.
    """

    def __init__(self, level_shapes: LevelShapes, batch: int, heads: int, points: int) -> None:
        self.level_shapes = [(int(height), int(width)) for height, width in level_shapes]
        self.batch, self.heads, self.points = batch, heads, points
        self.starts = []
        cells = 0
        for height, width in self.level_shapes:
            self.starts.append(cells)
            cells += (height + 2) * (width + 1)
        # A sample at the far corner of the last level's border still names four corners.
        self.cells = cells + max(width for _, width in self.level_shapes) + 3
        self.rows = batch * self.cells * heads

    def per_sample(self, per_level: list[int], dtype: torch.dtype) -> Tensor:
        """One number for each level -> (1, H * K), the order of the samples of a query."""
        level = torch.tensor(per_level, dtype=dtype)
        return level[None, :, None].expand(self.heads, len(per_level), self.points).reshape(1, -1)

    def level_views(self, table: Tensor) -> list[Tensor]:
        """(rows, D) -> per level (B, h + 2, w + 1, H, D), sharing memory."""
        table = table.view(self.batch, self.cells, self.heads, -1)
        return [
            table[:, start : start + (height + 2) * (width + 1)].unflatten(1, (height + 2, width + 1))
            for start, (height, width) in zip(self.starts, self.level_shapes, strict=True)
        ]

    def table(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, S, H, D) -> (rows, D) of `dtype`, zero where no cell lies."""
        table = torch.zeros(self.rows, value.shape[-1], dtype=dtype)
        levels = zip(self.level_views(table), level_slices(self.level_shapes), self.level_shapes, strict=True)
        for view, cells, shape in levels:
            view[:, 1:-1, 1:] = value[:, cells].unflatten(1, shape)
        return table


@dataclass
class Samples:
    """The samples of all queries, each tensor (B * N, H * K).

    `above` and `below`: table row of corner 00 and of corner 10. The corners to their right lie H rows further.
    `x` and `y`: distance from corner 00 in cells, in [0, 1). `inside_x`, `inside_y`: whether moving the sample along
    that axis can change what is read. A location that is not finite gives non-finite results and no invalid row.
    """

    above: Tensor
    below: Tensor
    x: Tensor
    y: Tensor
    inside_x: Tensor
    inside_y: Tensor

    @classmethod
    def locate(cls, sampling_locations: Tensor, levels: PaddedLevels, dtype: torch.dtype) -> Samples:
        """`sampling_locations` (B, N, H, L, P, 2) as (x, y), 0..1 from edge to edge of a level."""
        locations = sampling_locations.flatten(0, 1).flatten(1, 3)
        heads, batch = levels.heads, levels.batch
        widths = [width for _, width in levels.level_shapes]
        heights = [height for height, _ in levels.level_shapes]
        x, column, inside_x = _split(locations[..., 0], levels.per_sample(widths, dtype))
        y, row, inside_y = _split(locations[..., 1], levels.per_sample(heights, dtype))

        index_dtype = torch.int32 if max(levels.rows, x.numel()) < 2**31 else torch.int64
        row_stride = levels.per_sample([(width + 1) * heads for width in widths], index_dtype)
        # Cell (0, 0) of a level lies one row and one cell behind its start.
        origin = levels.per_sample(
            [(start + width + 2) * heads for start, width in zip(levels.starts, widths, strict=True)], index_dtype
        )
        origin = origin + torch.arange(heads, dtype=index_dtype).repeat_interleave(origin.shape[1] // heads)
        image = torch.arange(batch, dtype=index_dtype).mul_(levels.cells * heads)
        above = row.to(index_dtype).mul_(row_stride).add_(column.to(index_dtype), alpha=heads)
        above.view(batch, -1, above.shape[1]).add_((image[:, None] + origin).unsqueeze(1))
        # Only numbers that are not finite are clamped here.
        last = levels.rows - 1 - (max(widths) + 2) * heads
        above.clamp_(0, last)
        return cls(above, above + row_stride, x, y, inside_x, inside_y)

    def corner_weights(self, attention: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`attention` (B * N, H * K) split over the corners 00, 01, 10, 11 by bilinear weight."""
        below = attention * self.y
        above = attention - below
        above_right, below_right = above * self.x, below * self.x
        return above.sub_(above_right), above_right, below.sub_(below_right), below_right


def _split(location: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Location 0..1 -> (fraction, whole cell in [-1, size], inside), in units of cells between cell centers."""
    position = torch.addcmul(torch.full_like(size, -0.5), location.to(size.dtype), size)
    inside = (position > -1) & (position < size)
    # What lies further out reads zeros wherever it is; on the border the fraction is 0.
    position = position.clamp(torch.full_like(size, -1.0), size)
    whole = position.floor()
    return position.sub_(whole), whole, inside


def forward_by_embedding_bag(
    value: Tensor, level_shapes: LevelShapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """(B, S, H, D), (B, N, H, L, P, 2), (B, N, H, L, P) -> (B, N, H * D) in the type of `value`."""
    batch, queries, heads, num_levels, points, _ = sampling_locations.shape
    dtype = compute_dtype(value, sampling_locations, attention_weights)
    levels = PaddedLevels(level_shapes, batch, heads, points)
    table = levels.table(value, dtype)
    samples = Samples.locate(sampling_locations, levels, dtype)
    weights = samples.corner_weights(attention_weights.flatten(0, 1).flatten(1).to(dtype))

    output = torch.zeros((), dtype=dtype)
    bags = (-1, num_levels * points)
    for (first_row, shift), weight in zip(_corners(samples, heads), weights, strict=True):
        corner = F.embedding_bag(first_row.view(bags), table[shift:], mode="sum", per_sample_weights=weight.view(bags))
        output = corner.add_(output)
    return output.view(batch, queries, -1).to(value.dtype)


def backward_by_embedding_bag(
    grad_output: Tensor,
    value: Tensor,
    level_shapes: LevelShapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, sampling_locations and attention_weights for `grad_output` (B, N, H * D)."""
    batch, _, heads, _, points, _ = sampling_locations.shape
    dtype = compute_dtype(value, sampling_locations, attention_weights)
    levels = PaddedLevels(level_shapes, batch, heads, points)
    samples = Samples.locate(sampling_locations, levels, dtype)
    attention = attention_weights.flatten(0, 1).flatten(1).to(dtype)
    grad_rows = grad_output.to(dtype).reshape(-1, value.shape[-1])
    grad_value = _grad_value(grad_rows, samples, samples.corner_weights(attention), levels, value.dtype)
    table = levels.table(value, dtype)
    grad_x, grad_y, grad_attention = _grad_samples(grad_rows, table, samples, attention, levels)
    grad_locations = torch.stack((grad_x, grad_y), dim=-1).view(sampling_locations.shape)
    return (
        grad_value,
        grad_locations.to(sampling_locations.dtype),
        grad_attention.view(attention_weights.shape).to(attention_weights.dtype),
    )


def _corners(samples: Samples, heads: int) -> list[tuple[Tensor, int]]:
    """Of the corners 00, 01, 10, 11: rows as if the table began `shift` rows later, and that shift."""
    return [(samples.above, 0), (samples.above, heads), (samples.below, 0), (samples.below, heads)]


def _grad_value(
    grad_rows: Tensor, samples: Samples, weights: tuple[Tensor, ...], levels: PaddedLevels, dtype: torch.dtype
) -> Tensor:
    """(B * N * H, D) -> (B, S, H, D): the look-up the other way round, a bag for each row of the table.

    All four corners of a sample move together, so one sort by corner 00 serves all of them; what corner 01 adds to the
    cell on its right is gathered at corner 00 and moved there at the end.
    """
    samples_per_bag = samples.above.numel() // grad_rows.shape[0]
    sorted_rows, order = torch.sort(samples.above.view(-1), stable=True)
    bag_starts = torch.searchsorted(sorted_rows, torch.arange(levels.rows, dtype=sorted_rows.dtype))
    bag_of_sample = order.div(samples_per_bag, rounding_mode="floor")
    batch, heads = levels.batch, levels.heads
    size = sum(height * width for height, width in levels.level_shapes)
    grad_value = torch.zeros(batch, size, heads, grad_rows.shape[1], dtype=grad_rows.dtype)
    for (down, right), weight in zip(((0, 0), (0, 1), (1, 0), (1, 1)), weights, strict=True):
        gathered = F.embedding_bag(
            bag_of_sample,
            grad_rows,
            bag_starts,
            mode="sum",
            per_sample_weights=weight.view(-1).index_select(0, order),
        )
        parts = zip(levels.level_views(gathered), level_slices(levels.level_shapes), levels.level_shapes, strict=True)
        for view, cells, (height, width) in parts:
            moved = view[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
            grad_value[:, cells].unflatten(1, (height, width)).add_(moved)
    return grad_value.to(dtype)


def _grad_samples(
    grad_rows: Tensor, table: Tensor, samples: Samples, attention: Tensor, levels: PaddedLevels
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients, each (B * N, H * K), of x and y of the locations and of the attention weights.

    All follow from the product of the output's gradient with the cell at each corner. Bilinear interpolation of these
    products is the gradient of the weight, its slope along an axis that of the location.
    """
    above_left, above_right, below_left, below_right = (
        _products(grad_rows, table[shift:], rows) for rows, shift in _corners(samples, levels.heads)
    )
    slope_x = torch.lerp(above_right - above_left, below_right - below_left, samples.y)
    above = above_left.lerp_(above_right, samples.x)
    below = below_left.lerp_(below_right, samples.x)
    slope_y = below - above
    widths = levels.per_sample([width for _, width in levels.level_shapes], attention.dtype)
    heights = levels.per_sample([height for height, _ in levels.level_shapes], attention.dtype)
    grad_x = slope_x.mul_(attention).mul_(widths).mul_(samples.inside_x)
    grad_y = slope_y.mul_(attention).mul_(heights).mul_(samples.inside_y)
    return grad_x, grad_y, above.lerp_(below, samples.y)


def _products(grad_rows: Tensor, table: Tensor, rows: Tensor) -> Tensor:
    """Scalar product of each bag's row of `grad_rows` with the rows of `table` that the bag reads; shape of `rows`."""
    _silence_sparse_notice()
    samples_per_bag = rows.numel() // grad_rows.shape[0]
    pattern = torch.sparse_csr_tensor(
        torch.arange(0, rows.numel() + 1, samples_per_bag, dtype=rows.dtype),
        rows.view(-1),
        torch.zeros(rows.numel(), dtype=grad_rows.dtype),
        size=(grad_rows.shape[0], table.shape[0]),
        check_invariants=False,
    )
    return torch.sparse.sampled_addmm(pattern, grad_rows, table.t(), beta=0.0).values().view(rows.shape)


@cache
def _silence_sparse_notice() -> None:
    """PyTorch says once a process that CSR tensors are in beta. Users can do nothing about it: use that notice up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 1], [0], [1.0], size=(1, 1), check_invariants=False)
