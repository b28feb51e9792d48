"""Distinct colors for drawing."""

from __future__ import annotations

import colorsys

import numpy as np

# Steps of the golden ratio around the hue circle never come close to an earlier hue.
_COLORS = np.array([colorsys.hsv_to_rgb(n * 0.618034 % 1, (0.9, 0.55, 0.75)[n % 3], 0.8) for n in range(79)])


def colormap(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """(79, 3) float32 colors in [0, maximum], 255 or 1, RGB or BGR, neighbors well apart."""
    assert maximum in (255, 1), f"colors go up to 255 or 1, not {maximum}"
    return (_COLORS if rgb else _COLORS[:, ::-1]).astype(np.float32) * maximum


def random_color(rgb: bool = False, maximum: float = 255) -> np.ndarray:
    """One of the colors of `colormap`, (3,)."""
    return colormap(rgb, maximum)[np.random.randint(len(_COLORS))]
