"""The colors in which classes are drawn: the data set's own where it has some, else chosen so that classes differ.

A class whose name says so looks natural: sky, vegetation, road, water, buildings. Every other class, things before
stuff, gets the color that is farthest from all that the table has so far, for eyes that tell red from green and for
those that do not. The choice follows from the table alone: a class keeps its color from picture to picture. A color so
dark that it would hide the photograph is lightened, also one of the data set.

Colors are RGB in 0..255; arrays hold N of them, float64 (N, 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mask2former_ext.classes import ClassTable, Color

Rows = NDArray[np.float64]

DARKEST = 40.0  # L* of CIELAB, 0 to 100, that a drawn color has at least
_APART = 16.0  # in `_seen`: the least distance of two natural colors
_SHADES = 35.0  # in `_seen`: how far a shade lies from its natural color at most
_BEYOND = 256  # colors for classes that no table names; further ones repeat
_NATURAL = {
    (110, 185, 240): "sky",
    (70, 155, 70): "tree trees vegetation plant plants bush bushes foliage forest hedge leaves",
    (165, 205, 85): "grass lawn meadow field terrain",
    (130, 105, 165): "road street highway asphalt",
    (240, 150, 200): "sidewalk pavement footpath",
    (40, 115, 190): "water sea ocean river lake pond pool",
    (205, 150, 110): "building buildings house facade skyscraper",
    (190, 150, 60): "ground earth soil dirt sand",
    (145, 130, 140): "mountain mountains hill rock",
    (235, 240, 250): "snow",
}
_COLOR_OF_WORD = {word: color for color, words in _NATURAL.items() for word in words.split()}
_ORDER = {color: place for place, color in enumerate(_NATURAL)}  # in which they are given: the sky first
_WITHOUT_MEANING = {"other", "merged", "stuff", "general"}  # as COCO and others write: "sky-other-merged"
# Of linear red, green and blue, what eyes without the cones for green see: Machado, Oliveira and Fernandes, "A
# physiologically-based model for simulation of color vision deficiency" (2009), severity 1.
_DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
# Lightness counts half in distances: the photograph below changes it more than hue.
_WEIGHTS = np.array([0.5, 1.0, 1.0])


@lru_cache(maxsize=64)
def colored(table: ClassTable) -> ClassTable:
    """The table with a color for every class, none too dark to draw with."""
    known = table.colors or (None,) * len(table)
    return replace(table, colors=_filled(table.names, table.is_thing or (False,) * len(table), known))


def color_of(table: ClassTable | None, number: int, is_thing: bool = False) -> Color:
    """The color in which a class is drawn, also one that the table does not name, or where there is no table."""
    known = None if table is None else colored(table).color(number, is_thing)
    if known is not None:
        return known
    key, count = (number, 0) if table is None else (table.color_key(number, is_thing), len(table))
    return _colors_beyond(table)[(key - count) % _BEYOND]


@lru_cache(maxsize=64)
def _colors_beyond(table: ClassTable | None) -> tuple[Color, ...]:
    known = () if table is None else colored(table).colors
    count = len(known) + _BEYOND
    return _filled(("",) * count, (False,) * count, (*known, *(None,) * _BEYOND))[len(known) :]


def readable(color: Color) -> Color:
    """The color, or, if it is darker than `DARKEST`, mixed with as little white as makes it light enough."""
    white = np.linspace(0, 1, 101)[:, None]
    mixed = np.rint(np.array(color) * (1 - white) + 255 * white)
    return _color(mixed[int(np.argmax(_lab(mixed / 255)[:, 0] >= DARKEST))])


def natural_color(name: str) -> Color | None:
    """What a class of this name looks like ("sky-other-merged", "tall building", "tree, plant"); None if unknown.

    The last word of the first synonym decides: a street light is no street.
    """
    first = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).split(",")[0].lower()
    words = [word for word in re.findall(r"[a-z]+", first) if word not in _WITHOUT_MEANING]
    return _COLOR_OF_WORD.get(words[-1]) if words else None


def _filled(names: tuple[str, ...], is_thing: tuple[bool, ...], known: tuple[Color | None, ...]) -> tuple[Color, ...]:
    """The known colors, and one for each of the other classes."""
    colors = {place: readable(color) for place, color in enumerate(known) if color is not None}
    spread = _Spread(colors.values())
    looks = {place: look for place, name in enumerate(names) if (look := natural_color(name)) and place not in colors}
    for place in sorted(looks, key=lambda place: (is_thing[place], _ORDER[looks[place]])):
        colors[place] = spread.shade_of(looks[place])
    for place in sorted(range(len(names)), key=lambda place: not is_thing[place]):
        if place not in colors:
            colors[place] = spread.farthest()
    return tuple(colors[place] for place in range(len(names)))


class _Spread:
    """Colors taken one after the other, each far from those before."""

    def __init__(self, taken: Iterable[Color]):
        self.candidates, self._seen = _candidates()
        self._room = np.full(len(self.candidates), np.inf)  # of each candidate: distance to the nearest color taken
        for color in taken:
            self._take(color)

    def _take(self, color: Color) -> Color:
        self._room = np.minimum(self._room, self._distances(color))
        return color

    def _distances(self, color: Color) -> Rows:
        """(N,) of each candidate to a color."""
        return np.asarray(np.linalg.norm(self._seen - _seen(np.array([color], dtype=np.float64)), axis=1))

    def farthest(self) -> Color:
        return self._take(_color(self.candidates[int(self._room.argmax())]))

    def shade_of(self, natural: Color) -> Color:
        """The natural color, or, if another class has it, the shade of it with most room."""
        distances = self._distances(natural)
        if self._room[int(distances.argmin())] >= _APART:
            return self._take(natural)
        return self._take(_color(self.candidates[int(np.where(distances < _SHADES, self._room, -1).argmax())]))


@cache
def _candidates() -> tuple[Rows, Rows]:
    """Colors (N, 3) that show over any photograph, neither dark, pale, gray nor glaring; and as they are seen."""
    steps = np.linspace(0, 255, 16)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(grid / 255)
    chroma = np.linalg.norm(lab[:, 1:], axis=1)
    shows = (lab[:, 0] >= 50) & (lab[:, 0] <= 85) & (chroma >= 35) & (chroma <= 75)
    first = np.array([[230.0, 159.0, 0.0]])  # what a table without natural colors begins with
    colors = np.concatenate([first, np.rint(grid[shows])])
    return colors, _seen(colors)


def _seen(colors: Rows) -> Rows:
    """Colors (N, 3) -> (N, 6), whose distances are differences that show: CIELAB, and half as much without green."""
    linear = np.where(colors <= 10.31475, colors / 255 / 12.92, ((colors / 255 + 0.055) / 1.055) ** 2.4)  # of sRGB
    without_green = np.clip(linear @ _DEUTERANOPIA.T, 0, 1)
    encoded = np.where(without_green <= 0.0031308, 12.92 * without_green, 1.055 * without_green ** (1 / 2.4) - 0.055)
    return np.concatenate([_lab(colors / 255) * _WEIGHTS, 0.5 * _lab(encoded) * _WEIGHTS], axis=1)


def _lab(colors: Rows) -> Rows:
    """Colors (N, 3) in [0, 1] -> CIELAB: L* in 0..100, a*, b*."""
    return np.asarray(cv2.cvtColor(colors[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0], dtype=np.float64)


def _color(row: Rows) -> Color:
    red, green, blue = row.astype(int).tolist()
    return red, green, blue
