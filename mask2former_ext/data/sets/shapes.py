"""Draw the synthetic scenes "shapes": textured stuff with overlapping things on it. All follows from a seed.

Shapes: H, W pixels. Lengths are in pixels, colors in RGB 0..255. A thing's class shows in its outline, that of stuff in
its texture and place. Colors are drawn anew for each scene and object and tell nothing of the class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mask2former_ext.data.targets.masks import polygon_mask

# Dataset ids have a gap between things and stuff, as COCO's have. Colors are for overlays only.
CATEGORIES: tuple[dict[str, Any], ...] = (
    {"id": 1, "name": "disk", "isthing": 1, "color": [220, 20, 60]},
    {"id": 2, "name": "square", "isthing": 1, "color": [0, 92, 230]},
    {"id": 3, "name": "triangle", "isthing": 1, "color": [250, 170, 30]},
    {"id": 4, "name": "star", "isthing": 1, "color": [255, 235, 60]},
    {"id": 5, "name": "ring", "isthing": 1, "color": [166, 54, 200]},
    {"id": 6, "name": "cross", "isthing": 1, "color": [0, 180, 150]},
    {"id": 11, "name": "sky", "isthing": 0, "color": [70, 130, 180]},
    {"id": 12, "name": "ground", "isthing": 0, "color": [140, 100, 60]},
    {"id": 13, "name": "water", "isthing": 0, "color": [40, 60, 140]},
)
ID_OF = {category["name"]: category["id"] for category in CATEGORIES}
THINGS = tuple(category["name"] for category in CATEGORIES if category["isthing"])

Rng = np.random.Generator


@dataclass(frozen=True)
class Difficulty:
    """How hard a scene is to read."""

    noise: float  # standard deviation of the noise on every pixel, in gray values
    texture: float  # amplitude of the textures, in gray values
    color_choices: int  # an object's color is, of so many drawn ones, the farthest from its neighbors'
    tiny_share: float  # share of the things whose radius is 3 to 5 % of the shorter side instead of 6 to 24 %
    min_visible: float  # a thing of which less than this fraction can be seen is not drawn


DIFFICULTIES = {
    "easy": Difficulty(noise=3, texture=14, color_choices=8, tiny_share=0.0, min_visible=0.6),
    "medium": Difficulty(noise=6, texture=22, color_choices=4, tiny_share=0.1, min_visible=0.3),
    "hard": Difficulty(noise=12, texture=32, color_choices=1, tiny_share=0.25, min_visible=0.15),
}


@dataclass(frozen=True)
class Thing:
    """One object before drawing."""

    name: str
    mask: np.ndarray  # bool (H, W), also where other things will cover it
    polygon: list[float] | None  # x1, y1, x2, y2, ...: exactly `mask`; None if it has a hole or leaves the picture


@dataclass(frozen=True)
class Segment:
    """What can be seen of one thing or one kind of stuff."""

    name: str
    mask: np.ndarray  # bool (H, W), not empty, apart from all other segments
    polygon: list[float] | None  # exactly `mask`, if a polygon can say it


@dataclass(frozen=True)
class Scene:
    """One picture and its truth; every pixel belongs to one segment."""

    image: np.ndarray  # uint8 (H, W, 3), RGB
    segments: list[Segment]


def draw_scene(seed: tuple[int, ...], height: int, width: int, difficulty: Difficulty) -> Scene:
    """The scene of a seed. The same arguments give the same pixels. `height` and `width`: at least 32."""
    if min(height, width) < 32:
        raise ValueError(f"a scene of {height} x {width} pixels is too small; both sides must be at least 32")
    rng = np.random.Generator(np.random.PCG64(seed))
    stuff = _layout(rng, height, width)
    things = _visible_things(_place_things(rng, height, width, difficulty), difficulty.min_visible)

    canvas = np.zeros((height, width, 3))
    colors: list[np.ndarray] = []
    for name, mask in stuff.items():
        colors.append(_distinct_color(rng, colors, difficulty))
        _paint(canvas, mask, colors[-1], _stuff_texture(rng, name, height, width), rng, difficulty)
    for thing in things:
        colors.append(_distinct_color(rng, colors, difficulty))
        shaded = _thing_texture(rng, height, width)
        _paint(canvas, thing.mask, colors[-1], shaded, rng, difficulty)
        canvas[thing.mask] *= _shading(rng, height, width, 0.3)[thing.mask][:, None]
    canvas *= _shading(rng, height, width, 0.12)[..., None]
    canvas += rng.normal(0, difficulty.noise, canvas.shape)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Scene(image, _segments(stuff, things, height, width))


def _segments(stuff: dict[str, np.ndarray], things: list[Thing], height: int, width: int) -> list[Segment]:
    free = np.ones((height, width), dtype=bool)
    segments = []
    for thing in reversed(things):  # the last one drawn lies on top
        mask = thing.mask & free
        whole = mask.sum() == thing.mask.sum()
        segments.append(Segment(thing.name, mask, thing.polygon if whole else None))
        free &= ~thing.mask
    segments += [Segment(name, mask & free, None) for name, mask in stuff.items()]
    return [segment for segment in segments if segment.mask.any()]


def _layout(rng: Rng, height: int, width: int) -> dict[str, np.ndarray]:
    """Masks of the stuff, which share out the picture: sky above a wavy horizon, then ground and mostly water."""
    rows = np.arange(height)[:, None] / height
    horizon = _wavy_line(rng, width, rng.uniform(0.2, 0.5)) if rng.random() < 0.9 else np.full(width, -1.0)
    sky = rows < horizon
    if rng.random() < 0.3:
        return {name: mask for name, mask in (("sky", sky), ("ground", ~sky)) if mask.any()}
    shore = np.maximum(horizon, 0) + _wavy_line(rng, width, rng.uniform(0.15, 0.4))
    near, far = ("water", "ground") if rng.random() < 0.5 else ("ground", "water")
    masks = (("sky", sky), (far, ~sky & (rows < shore)), (near, ~sky & (rows >= shore)))
    return {name: mask for name, mask in masks if mask.any()}


def _wavy_line(rng: Rng, width: int, level: float) -> np.ndarray:
    """(W) heights around `level`, as fractions of the picture."""
    x = np.arange(width) / width
    slope = rng.uniform(-0.1, 0.1) * (x - 0.5)
    waves = sum(rng.uniform(0, 0.02) * np.sin(2 * math.pi * (k * x + rng.random())) for k in (1, 2, 4))
    return level + slope + waves


def _place_things(rng: Rng, height: int, width: int, difficulty: Difficulty) -> list[Thing]:
    """Up to six things, the first one at the back; 3 % of the scenes have none."""
    if rng.random() < 0.03:
        return []
    side, things = min(height, width), []
    for _ in range(rng.integers(1, 7)):
        tiny = rng.random() < difficulty.tiny_share
        radius = side * math.exp(rng.uniform(*np.log((0.03, 0.05) if tiny else (0.06, 0.24))))
        radius = max(radius, 3.0)
        margin = 0.4 * radius
        center = rng.uniform((margin, margin), (width - margin, height - margin))
        things.append(_thing(rng, THINGS[rng.integers(len(THINGS))], center, radius, height, width))
    return [thing for thing in things if thing.mask.any()]


def _visible_things(things: list[Thing], min_visible: float) -> list[Thing]:
    """Without those of which too little would be seen, of the whole and in pixels. Order is kept."""
    kept: list[Thing] = []
    for index, thing in enumerate(things):
        seen = thing.mask.copy()
        for above in things[index + 1 :]:
            seen &= ~above.mask
        if seen.sum() >= max(12, min_visible * thing.mask.sum()):
            kept.append(thing)
    return kept


def _thing(rng: Rng, name: str, center: np.ndarray, radius: float, height: int, width: int) -> Thing:
    """A thing of any rotation, its sides stretched by up to a fifth."""
    angle = rng.uniform(0, 2 * math.pi)
    stretch = np.exp(rng.uniform(-0.2, 0.2, 2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    def place(points: np.ndarray) -> list[float]:
        # Rounded before filling, so that the polygon in the json gives the very mask that was drawn.
        return np.round((points * stretch * radius) @ turn.T + center, 2).ravel().tolist()

    outline = place(_outline(name))
    mask = polygon_mask([outline], height, width)
    if name == "ring":
        return Thing(name, mask & ~polygon_mask([place(0.55 * _outline(name))], height, width), None)
    inside = min(outline) >= 0 and max(outline[0::2]) <= width and max(outline[1::2]) <= height
    return Thing(name, mask, outline if inside else None)


def _outline(name: str) -> np.ndarray:
    """(P, 2) corner points around the origin, within the unit circle."""
    if name in ("disk", "ring"):
        return _circle(40)
    if name == "square":
        return _circle(4, math.pi / 4)  # sides along the axes, so that stretching makes a rectangle of it
    if name == "triangle":
        return _circle(3)
    if name == "star":
        return _circle(10) * np.where(np.arange(10) % 2 == 0, 1.0, 0.42)[:, None]
    assert name == "cross", f"no outline for '{name}'"
    arm, tip = 0.3, 0.95
    quarter = [(arm, arm), (arm, tip), (-arm, tip)]
    turns = [(1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0)]
    return np.array([(a * x + b * y, c * x + d * y) for a, b, c, d in turns for x, y in quarter])


def _circle(points: int, start: float = 0.0) -> np.ndarray:
    angles = start + 2 * math.pi * np.arange(points) / points
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _stuff_texture(rng: Rng, name: str, height: int, width: int) -> np.ndarray:
    """(H, W) in about [-1, 1]: clouds for sky, grains for ground, level waves for water."""
    if name == "sky":
        return _smooth_noise(rng, height, width, 24)
    if name == "ground":
        return 0.6 * _smooth_noise(rng, height, width, 3) + 0.4 * rng.uniform(-1, 1, (height, width))
    return _stripes(rng, height, width, math.pi / 2 + rng.uniform(-0.15, 0.15), rng.uniform(5, 8), wobble=1.0)


def _thing_texture(rng: Rng, height: int, width: int) -> np.ndarray:
    """(H, W) in about [-1, 1]: plain, clouds, grains, stripes or checks, whatever the class."""
    kind = rng.integers(5)
    angle, period = rng.uniform(0, math.pi), rng.uniform(4, 10)
    if kind == 0:
        return np.zeros((height, width))
    if kind == 1:
        return _smooth_noise(rng, height, width, 10)
    if kind == 2:
        return rng.uniform(-1, 1, (height, width))
    stripes = _stripes(rng, height, width, angle, period, wobble=0.0)
    return stripes if kind == 3 else stripes * _stripes(rng, height, width, angle + math.pi / 2, period, wobble=0.0)


def _stripes(rng: Rng, height: int, width: int, angle: float, period: float, wobble: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    across = x * math.cos(angle) + y * math.sin(angle)
    bend = wobble * _smooth_noise(rng, height, width, 16)
    return np.sin(2 * math.pi * (across / period + rng.random()) + 2 * bend)


def _smooth_noise(rng: Rng, height: int, width: int, cell: int) -> np.ndarray:
    """(H, W) in [-1, 1]: random values on a grid of `cell` pixels, joined by straight lines in both directions."""
    grid = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2))
    y, x = np.arange(height) / cell, np.arange(width) / cell
    row, column = y.astype(int), x.astype(int)
    fy, fx = (y - row)[:, None], (x - column)[None, :]
    upper = grid[row][:, column] * (1 - fx) + grid[row][:, column + 1] * fx
    lower = grid[row + 1][:, column] * (1 - fx) + grid[row + 1][:, column + 1] * fx
    return upper * (1 - fy) + lower * fy


def _shading(rng: Rng, height: int, width: int, strength: float) -> np.ndarray:
    """(H, W) factors around 1 that fall along a random direction by up to `strength` on either side."""
    y, x = np.mgrid[:height, :width]
    angle = rng.uniform(0, 2 * math.pi)
    along = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle)
    return 1 + strength * np.sqrt(2) * along


def _distinct_color(rng: Rng, others: list[np.ndarray], difficulty: Difficulty) -> np.ndarray:
    drawn = rng.uniform(45, 210, (difficulty.color_choices, 3))
    if not others:
        return drawn[0]
    distances = np.linalg.norm(drawn[:, None] - np.stack(others)[None], axis=2).min(axis=1)
    return drawn[int(distances.argmax())]


def _paint(
    canvas: np.ndarray, mask: np.ndarray, color: np.ndarray, texture: np.ndarray, rng: Rng, difficulty: Difficulty
) -> None:
    """Fill `mask` with `color`, varied by `texture` along a random color direction that keeps mostly to gray."""
    direction = np.array([1.0, 1.0, 1.0]) + rng.uniform(-0.6, 0.6, 3)
    canvas[mask] = (color + difficulty.texture * texture[..., None] * direction)[mask]
