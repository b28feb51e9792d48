"""Colors of classes: the data set's own, natural ones, and the others far from each other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mask2former_ext.classes import ClassTable
from mask2former_ext.inference.colors import DARKEST, _lab, color_of, colored, natural_color, readable

_THINGS = ("balcony-fence", "car", "shop", "traffic-infrastructure", "window")
_NAMES = (*_THINGS, "facade", "fence", "non-building-infrastructure", "street", "vegetation")
FACADES = ClassTable(_NAMES, tuple(name in _THINGS for name in _NAMES))


def distance(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """Of CIELAB, 1976: 2.3 is a difference that is just seen."""
    one, other = _lab(np.array([a, b]) / 255)
    return float(np.linalg.norm(one - other))


def test_lightness_of_cielab_is_that_of_its_definition():
    # L* = 116 (Y / Yn)^(1/3) - 16; of the gray 119 linear Y is 0.184, so L* is 50.0
    assert _lab(np.array([[119.0, 119.0, 119.0]]) / 255)[0, 0] == pytest.approx(50.0, abs=0.3)


def test_any_two_classes_of_a_small_table_contrast():
    colors = colored(FACADES).colors
    assert min(distance(a, b) for a, b in combinations(colors, 2)) > 25


def test_facade_and_window_which_always_touch_are_far_apart():
    assert distance(color_of(FACADES, 5), color_of(FACADES, 4, is_thing=True)) > 60


@pytest.mark.parametrize(
    ("name", "like"),
    [("sky-other-merged", "sky"), ("Tree", "vegetation"), ("tall building", "facade"), ("road, route", "street")],
)
def test_a_name_that_says_what_it_is_gets_its_natural_color(name: str, like: str):
    assert natural_color(name) == natural_color(like) is not None


@pytest.mark.parametrize("name", ["street light", "non-building-infrastructure", "SkyScraperCar", "", "7"])
def test_the_last_word_of_a_name_says_what_it_is(name: str):
    assert natural_color(name) is None


def test_two_classes_that_look_alike_in_nature_get_two_shades():
    tree, plant = colored(ClassTable(("tree", "plant"))).colors
    assert tree == natural_color("tree") and 20 < distance(tree, plant) < 100


def test_colors_of_the_data_set_are_kept():
    table = ClassTable(("sky", "dog"), colors=((200, 100, 50), None))
    first, second = colored(table).colors
    assert first == (200, 100, 50) and distance(first, second) > 60


def test_a_color_too_dark_to_see_a_photograph_through_is_lightened():
    navy = readable((0, 0, 90))
    assert _lab(np.array([navy]) / 255)[0, 0] == pytest.approx(DARKEST, abs=1)
    assert navy[2] > navy[0] == navy[1]  # still a blue
    assert readable((200, 100, 50)) == (200, 100, 50)


def test_classes_beyond_the_table_differ_from_its_own():
    table = ClassTable(("dog", "cat"))
    known = [color_of(table, 0), color_of(table, 1), color_of(table, 2), color_of(table, 30)]
    assert len(set(known)) == 4


def test_without_a_table_the_first_classes_differ():
    colors = [color_of(None, number) for number in range(16)]
    assert min(distance(a, b) for a, b in combinations(colors, 2)) > 15


def test_a_thing_and_a_stuff_class_of_one_number_have_two_colors():
    apart = ClassTable(("grass", "dog", "cat"), (False, True, True)).apart()
    assert color_of(apart, 1, is_thing=True) != color_of(apart, 1)
