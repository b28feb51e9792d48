"""What the documents say exists: linked files, quoted code, files and names of the tour, keys of the configuration."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import write_configuration

from tests.places import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "datasets" / "README.md"])
LINK = re.compile(r"\]\(([^)\s]+)\)")
QUOTE = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_of_a_page_leads_to_a_file(page: Path):
    targets = [target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8"))]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_configuration_md_is_what_write_configuration_writes():
    assert write_configuration.main(["--check"]) == 0


def test_write_configuration_refuses_a_key_without_a_comment(monkeypatch):
    monkeypatch.setattr(write_configuration, "comments", dict)
    with pytest.raises(ValueError, match="gives it no comment"):
        write_configuration.our_keys()
