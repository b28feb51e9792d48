"""Rules of size: a file is read in one sitting, a function fits on a screen, a test's name in a line."""

from __future__ import annotations

import pytest

from tests.source import functions_of, python_files, shown

LONGEST_FILE, LONGEST_FUNCTION, LONGEST_TEST_NAME = 400, 55, 70
PLACES = ("mask2former_ext", "embedded", "tools", "demo", "datasets", "tests", "train_net.py", "setup.py")


@pytest.mark.parametrize("place", PLACES)
def test_a_file_has_at_most_400_lines(place):
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files(place)}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


@pytest.mark.parametrize("place", PLACES)
def test_a_function_has_at_most_55_lines(place):
    long = {f"{shown(path)}: {f}": n for path in python_files(place) for f, n in functions_of(path)}
    assert {name: length for name, length in long.items() if length > LONGEST_FUNCTION} == {}


def test_the_name_of_a_test_has_at_most_70_characters():
    names = {name for path in python_files("tests") for name, _ in functions_of(path) if name.startswith("test_")}
    assert sorted(name for name in names if len(name) > LONGEST_TEST_NAME) == []
