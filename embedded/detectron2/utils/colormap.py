"""Distinct colors for drawing."""

from __future__ import annotations

import colorsys

import numpy as np

_GOLDEN_RATIO = 0.618033988749895  # steps of it around the hue circle never come close to an earlier hue
_NUM_COLORS = 79


def colormap(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """(79, 3) float32 colors in [0, maximum], RGB or BGR, neighbors well apart."""
    if maximum not in (255, 1):
        raise ValueError(f"colors go up to 255 or 1, not {maximum}")
    saturations, values = (0.9, 0.55, 0.75), (0.95, 0.8, 0.65)
    colors = [
        colorsys.hsv_to_rgb(number * _GOLDEN_RATIO % 1, saturations[number % 3], values[number // 3 % 3])
        for number in range(_NUM_COLORS)
    ]
    table = np.asarray(colors, dtype=np.float32) * maximum
    return table if rgb else table[:, ::-1]


def random_color(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """One of the colors of `colormap`, (3,)."""
    return random_colors(1, rgb, maximum)[0]


def random_colors(N: int, rgb: bool = False, maximum: float = 255) -> np.ndarray:  # noqa: N803
    """(N, 3) different colors of `colormap`, N up to 79."""
    chosen = np.random.choice(_NUM_COLORS, N, replace=False)
    return colormap(rgb, maximum)[chosen]
