"""The boxes that a region proposal network starts from: some at every cell of every feature map.

Shapes: A anchors of a cell; h, w size of a map in cells. A box is x0, y0, x1, y1 in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Boxes (A, 4) around (0, 0), of area size² and height / width = ratio: all ratios of the first size first."""
    size = torch.tensor(sizes, dtype=torch.float64)[:, None]
    stretch = torch.tensor(aspect_ratios, dtype=torch.float64).sqrt()
    half = torch.stack((size / stretch, size * stretch), dim=-1).view(-1, 2) / 2
    return torch.cat((-half, half), dim=1).float()


class AnchorGrid(nn.Module):
    """Anchors of all levels of a pyramid (arXiv 1612.03144, section 4.1).

    `sizes` in pixels and `aspect_ratios` (height / width) are given for each level, or once for all; `strides` are in
    pixels. Anchors of a cell are centered `offset` strides off its top left corner, 0 <= offset < 1. `rounded`: the
    corners of a cell's anchors lie on whole pixels, as torchvision's do.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]],
        *,
        strides: Sequence[int],
        offset: float,
        rounded: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= offset < 1:
            raise ValueError(f"ANCHOR_GENERATOR.OFFSET is {offset}, but must be at least 0 and less than 1")
        self.strides, self.offset = list(strides), offset
        per_level = zip(
            self._for_each_level(sizes, "SIZES"), self._for_each_level(aspect_ratios, "ASPECT_RATIOS"), strict=True
        )
        self.cells: list[str] = []
        for level, (level_sizes, level_ratios) in enumerate(per_level):
            self.cells.append(f"cell_{level}")
            cell = cell_anchors(level_sizes, level_ratios)
            self.register_buffer(self.cells[-1], cell.round() if rounded else cell, persistent=False)
        counts = {len(self.get_buffer(name)) for name in self.cells}
        if len(counts) > 1:
            raise ValueError(f"levels have {sorted(counts)} anchors a cell, but one head serves all: make them equal")
        self.num_anchors = counts.pop()

    def _for_each_level(self, values: Sequence[Sequence[float]], key: str) -> list[Sequence[float]]:
        if len(values) not in (1, len(self.strides)):
            raise ValueError(
                f"ANCHOR_GENERATOR.{key} has {len(values)} entries, but must have 1 or one for each of the "
                f"{len(self.strides)} maps of RPN.IN_FEATURES"
            )
        return [*values] * (len(self.strides) if len(values) == 1 else 1)

    def forward(self, map_sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Sizes (h, w) of the levels' maps -> per level (h w A, 4), row by row, the anchors of a cell together."""
        anchors = []
        for name, stride, (height, width) in zip(self.cells, self.strides, map_sizes, strict=True):
            cell = self.get_buffer(name)
            x = (torch.arange(width, device=cell.device) + self.offset) * stride
            y = (torch.arange(height, device=cell.device) + self.offset) * stride
            center = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1)
            anchors.append((center.repeat(1, 1, 2)[:, :, None] + cell).view(-1, 4))
        return anchors
