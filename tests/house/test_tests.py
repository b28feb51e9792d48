"""What tests share lies in tests/*.py and in conftest.py: no test file imports another."""

from __future__ import annotations

import pytest

from tests.places import ROOT
from tests.source import imports_of, python_files, shown


def test_no_test_file_imports_another():
    files = {path.stem for path in python_files("tests") if path.stem.startswith("test_")} | {"conftest"}
    named = [(shown(path), name) for path in python_files("tests") for name in imports_of(path)]
    assert [arrow for arrow in named if files & set(arrow[1].split("."))] == []


def test_only_the_tools_are_put_on_the_path_of_the_tests():
    assert 'pythonpath = ["tools"]\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["models", "datasets"])
def test_every_base_is_named_by_another_yaml(folder):
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "configs").glob("*/*.yaml")}
    texts |= {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "examples").glob("*.yaml")}
    bases = [path for path in texts if path.parent.name == folder]
    unused = [path.name for path in bases if not any(path.name in text for p, text in texts.items() if p != path)]
    assert bases and unused == []
