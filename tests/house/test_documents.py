"""What the documents say exists: linked files, quoted code, files and names of the tour, keys of the configuration."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import quote_examples
import write_configuration

from tests.places import ROOT
from tests.source import tree_of

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "datasets" / "README.md"])
# A file, or file:name, in backticks: how a page names a place of the code.
PLACE = re.compile(r"`([\w/]+\.py)(?::([\w.]+))?`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_of_a_page_leads_to_a_file(page: Path):
    targets = [target.partition("#")[0] for target in LINK.findall(page.read_text(encoding="utf-8"))]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def defines(file: Path, name: str) -> bool:
    """Whether a file defines `Class`, `Class.method`, a function or a value by that name."""
    body: list[ast.stmt] = tree_of(file).body
    for part in name.split("."):
        named = [node for node in body if part in names_of(node)]
        if not named:
            return False
        body = getattr(named[0], "body", [])
    return True


def names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef) else []


def place_of(file: str) -> Path | None:
    """The file that a page means, which may leave out the package's own folder."""
    return next((path for path in (ROOT / file, ROOT / "mask2former_ext" / file) if path.is_file()), None)


@pytest.mark.parametrize("page", ["docs/tour.md", "docs/extend.md", "CONTRIBUTING.md", "README.md"])
def test_every_place_of_the_code_that_a_page_names_exists(page: str):
    wrong = []
    for file, name in PLACE.findall((ROOT / page).read_text(encoding="utf-8")):
        path = place_of(file)
        if path is None or (name and not defines(path, name)):
            wrong.append(f"{file}:{name}")
    assert wrong == []


def test_the_tour_names_places_of_each_room_that_an_image_passes():
    files = {file for file, _ in PLACE.findall((ROOT / "docs" / "tour.md").read_text(encoding="utf-8"))}
    rooms = {"config", "data", "models", "layers", "engine", "evaluation", "inference", "interop"}
    assert {file.split("/")[1] for file in files if file.count("/") > 1} >= rooms


def test_configuration_md_is_what_write_configuration_writes():
    # in a process of its own: a model that another test imports has keys of its own
    command = [sys.executable, "tools/write_configuration.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_write_configuration_refuses_a_key_without_a_comment(monkeypatch):
    monkeypatch.setattr(write_configuration, "comments", dict)
    with pytest.raises(ValueError, match="gives it no comment"):
        write_configuration.our_keys()


def test_every_quote_of_an_example_is_what_its_file_holds():
    assert quote_examples.main(["--check"]) == 0


def test_with_quotes_puts_the_file_into_the_block(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text("now = 2\n")
    monkeypatch.setattr(quote_examples, "ROOT", tmp_path)
    block = '```python title="own.py"\n{}```'
    assert quote_examples.with_quotes(block.format("old = 1\n")) == block.format("now = 2\n")


def test_the_site_builds_strictly_and_no_link_leads_nowhere(tmp_path):
    load = pytest.importorskip("mkdocs.config").load_config
    from mkdocs.commands.build import build

    config = load(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    build(config)
    assert (tmp_path / "site" / "configuration.html").is_file()


def test_site_link_refuses_a_link_that_leads_nowhere():
    pytest.importorskip("mkdocs")
    from mkdocs.exceptions import PluginError
    from site_hooks import site_link

    with pytest.raises(PluginError, match="leads to no file of the checkout"):
        site_link("text", "no_such.md", "docs/index.md")
