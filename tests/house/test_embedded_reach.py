"""embedded/ may shrink, not grow: whatever stands there is reached by the package or by a recorded public name."""

from __future__ import annotations

import pytest

from tests.embedded_reach import Reach, Source, reach_of_users
from tests.places import EMBEDDED
from tests.source import python_files

MOST_LINES = 7_734


@pytest.mark.skipif(not EMBEDDED, reason="it asks the classes of the embedded Detectron2 what they override")
def test_everything_in_embedded_is_reached():
    assert reach_of_users().unreached() == []


def test_embedded_stays_small():
    files = python_files("embedded")
    assert sum(len(path.read_text().splitlines()) for path in files) <= MOST_LINES


def test_names_are_followed_through_imports_and_classes():
    reach = Reach.__new__(Reach)
    reach.sources = {
        "d": Source("from .inner import used as public", "d", is_package=True),
        "d.inner": Source("def used(): return helper()\ndef helper(): ...\ndef dead(): ...", "d.inner"),
    }
    reach.reached, reach.methods, reach.words = set(), {}, set()
    reach.follow(["d.public"], ())
    assert reach.unreached() == ["d.inner:dead"]
