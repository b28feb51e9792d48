"""Weights of a first convolution on three colors, for images of other channels.

Shapes: O outputs; C channels of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def for_channels(weight: Tensor, num_channels: int, color_places: Sequence[int]) -> Tensor:
    """(O, 3, h, w) -> (O, C, h, w): copied to the places of the three colors, their mean for every other channel."""
    assert weight.shape[1] == 3, f"a weight on three colors has 3 input channels, not {weight.shape[1]}"
    widened = weight.mean(dim=1, keepdim=True).repeat(1, num_channels, 1, 1)
    for source, place in enumerate(color_places):
        widened[:, place] = weight[:, source]
    return widened
