"""Modules that have moved can be imported under their old names for one release."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from mask2former_ext import moved

SCRIPT = """
import warnings
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    import mask2former_ext.visualize
    import mask2former_ext.visualize
    from mask2former_ext.visualize import Colors, draw
    from mask2former_ext import visualize
ours = [str(w.message) for w in caught if "mask2former_ext" in str(w.message)]
from mask2former_ext.inference import drawing
assert visualize is drawing and Colors is drawing.Colors, visualize
assert drawing.__spec__.name == "mask2former_ext.inference.drawing", drawing.__spec__
print(ours)
"""


@pytest.mark.parametrize("old", sorted(moved.MOVED))
def test_an_old_name_gives_the_very_module_of_the_new_one(old, monkeypatch):
    name = f"mask2former_ext.{old}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(FutureWarning, match=f"{name} is now mask2former_ext.{moved.MOVED[old]}; .* version 0.2"):
        module = importlib.import_module(name)
    assert module is importlib.import_module(f"mask2former_ext.{moved.MOVED[old]}")


@pytest.mark.slow
def test_an_old_name_warns_once(repository):
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=repository)
    assert done.returncode == 0, done.stderr
    message = "mask2former_ext.visualize is now mask2former_ext.inference.drawing; the old name goes with version 0.2"
    assert done.stdout.strip() == str([message])


def test_a_name_that_never_was_is_no_module():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mask2former_ext.never_was")
