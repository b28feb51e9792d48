"""The sources of this repository as the rules of tests/house read them: files, imports, words, functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.places import ROOT

PACKAGE = ROOT / "mask2former_ext"


def python_files(*places: str) -> list[Path]:
    """The Python files at or below these places of the checkout, none of them empty of files; copies that a build has
    left are none."""
    files = []
    for place in places:
        below = sorted((ROOT / place).rglob("*.py")) if (ROOT / place).is_dir() else [ROOT / place]
        below = [path for path in below if "build" not in path.relative_to(ROOT).parts]
        assert below and below[0].is_file(), f"{place} holds no Python file"
        files += below
    return files


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it: modules, and `module.name` of what comes from one."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, [*_packages_above(path, node.level), node.module]))
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def _packages_above(path: Path, level: int) -> list[str]:
    """What the dots of a relative import stand for; nothing for an absolute one."""
    if level == 0:
        return []
    root = ROOT / "embedded" if path.is_relative_to(ROOT / "embedded") else ROOT
    return list(path.relative_to(root).parts[:-level])


def lies_in(name: str, *places: str) -> bool:
    """Whether a dotted name is one of these places or lies in one of them."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of identifiers and strings in a file; docstrings and comments are prose and left out."""
    prose = {id(node.value) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree_of(path)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield line, node.value
        elif isinstance(node, ast.ImportFrom):
            yield line, node.module or ""
        for field in ("id", "attr", "name", "arg", "asname"):
            if isinstance(word := getattr(node, field, None), str):
                yield line, word


def functions_of(path: Path) -> Iterator[tuple[str, int]]:
    """(name, number of lines) of each function and method of a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None, "ast.parse gives every function its last line"
            yield node.name, node.end_lineno - node.lineno + 1


@cache
def attributes_read(*places: str) -> frozenset[str]:
    """Every x of `something.x` that is read, not written, in the Python files of these places."""
    nodes = [node for path in python_files(*places) for node in ast.walk(tree_of(path))]
    return frozenset(n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load))
