"""--import FILE.py: a user's own file runs before the configuration is read, once, and its errors name it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mask2former_ext.config import import_own_files, load_config, own_files
from mask2former_ext.engine import argument_parser, setup

TINY = str(Path(__file__).resolve().parents[2] / "configs" / "mask2former" / "tiny.yaml")


@pytest.fixture
def write(tmp_path, monkeypatch) -> Iterator[Callable[..., str]]:
    """Writes a Python file; what its import leaves in this process goes with the test."""
    monkeypatch.setattr(own_files, "_own_files", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write_file(text: str, name: str = "my_own_model.py") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    yield write_file
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_import_own_files_runs_a_file_once(write, tmp_path):
    path = write(f"open({str(tmp_path / 'runs')!r}, 'a').write('x')")
    import_own_files([path, path])
    import_own_files([path])
    assert (tmp_path / "runs").read_text() == "x"


def test_a_file_can_import_its_neighbor(write):
    write("VALUE = 3", "neighbor_of_mine.py")
    import_own_files([write("from neighbor_of_mine import VALUE")])
    assert sys.modules["my_own_model"].VALUE == 3


def test_load_config_knows_the_keys_of_an_imported_file(write, write_yaml):
    import_own_files([write("def add_config(cfg):\n    cfg.MODEL.MY_DEPTH = 2")])
    assert load_config(TINY).MODEL.MY_DEPTH == 2
    assert load_config(write_yaml(f"_BASE_: {TINY}\nMODEL: {{MY_DEPTH: 5}}")).MODEL.MY_DEPTH == 5


def test_add_config_of_an_imported_file_comes_after_ours(write):
    import_own_files([write("def add_config(cfg):\n    cfg.SOLVER.POLY_LR_POWER *= 2")])
    assert load_config(TINY).SOLVER.POLY_LR_POWER == 1.8  # ours is 0.9


def test_our_own_add_config_in_an_imported_file_adds_nothing(write):
    import_own_files([write("from mask2former_ext import add_config")])
    assert load_config(TINY).MODEL.META_ARCHITECTURE == "Mask2Former"


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="--import nowhere.py: no such file"):
        import_own_files(["nowhere.py"])


def test_a_file_that_is_no_python_file_is_named(write):
    with pytest.raises(ValueError, match=r"--import .*model.yaml: the name of a Python file must end in .py"):
        import_own_files([write("", "model.yaml")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = a + c\n", "line 2: NameError: name 'c' is not defined"),
        ("a = 1\n\nb = (\n", "line 3: SyntaxError: "),
        ("import json\njson.loads('x')\n", "line 2: JSONDecodeError: "),
    ],
)
def test_an_error_in_a_file_names_file_and_line(write, text, message):
    path = write(text)
    with pytest.raises(ValueError, match=f"--import {path}: {path}, {message}") as caught:
        import_own_files([path])
    assert caught.value.__cause__ is not None and "my_own_model" not in sys.modules


def test_a_file_named_as_an_imported_module_is_refused(write):
    with pytest.raises(ValueError, match="a module named 'json' is imported already .*; rename the file"):
        import_own_files([write("", "json.py")])


def test_setup_runs_the_files_of_import_before_the_configuration(write, tmp_path):
    path = write("def add_config(cfg):\n    cfg.MODEL.MY_DEPTH = 2")
    options = ["--import", path, "--config-file", TINY, "MODEL.MY_DEPTH", "7", "OUTPUT_DIR", str(tmp_path / "out")]
    options += ["DATASETS.TRAIN", "()"]  # so that setup stops once the configuration is read
    with pytest.raises(ValueError, match="DATASETS.TRAIN is empty"):
        setup(argument_parser().parse_args(options))


def test_no_yaml_key_names_a_file_to_import(write_yaml):
    with pytest.raises(ValueError, match="unknown key IMPORT"):
        load_config(write_yaml(f"_BASE_: {TINY}\nIMPORT: my_model.py"))
