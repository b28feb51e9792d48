"""Set-up: which environment, which Detectron2, and when nothing is left to do. No network, no installation."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import detectron2
import pytest

import mask2former_ext
from mask2former_ext import env, needed

ROOT = Path(__file__).resolve().parents[2]


def load_bootstrap():
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "tools/bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap = load_bootstrap()


class FakeSteps:
    """Stands for a machine: what is installed, whether the real Detectron2 can be built there, what was done."""

    log = "the.log"

    def __init__(self, installed=None, obstacle=None, build_works=True, embedded_works=True):
        self.now, self.obstacle = installed, obstacle
        self.build_works, self.embedded_works = build_works, embedded_works
        self.done = []

    def installed(self):
        return self.now and {"kind": self.now, "version": "0.6"}

    def obstacle_to_real(self):
        self.done.append("probe")
        return self.obstacle

    def build_real(self):
        self.done.append("build")
        self.now = "real" if self.build_works else None
        return self.installed()

    def install_embedded(self):
        self.done.append("embed")
        self.now = "embedded" if self.embedded_works else None


@pytest.mark.parametrize("kind", ["real", "embedded"])
def test_an_installed_detectron2_is_taken_without_asking_the_network(kind):
    steps = FakeSteps(installed=kind)
    assert bootstrap.choose_detectron2(steps)["kind"] == kind
    assert steps.done == []


def test_the_real_detectron2_is_built_where_it_can_be():
    steps = FakeSteps()
    assert bootstrap.choose_detectron2(steps)["kind"] == "real"
    assert steps.done == ["probe", "build"]


def test_without_a_route_the_embedded_one_is_taken_and_the_reason_kept():
    steps = FakeSteps(obstacle="no route")
    choice = bootstrap.choose_detectron2(steps)
    assert (choice["kind"], choice["why"]) == ("embedded", "no route")
    assert steps.done == ["probe", "embed"]


def test_a_failed_build_falls_through_to_the_embedded_one_with_its_log(capsys):
    steps = FakeSteps(build_works=False)
    assert bootstrap.choose_detectron2(steps)["kind"] == "embedded"
    assert steps.done == ["probe", "build", "embed"]
    assert "build failed; its log is kept in the.log" in capsys.readouterr().out


def test_a_detectron2_that_cannot_be_imported_after_all_is_an_error():
    with pytest.raises(bootstrap.SetupError, match="pip uninstall detectron2"):
        bootstrap.choose_detectron2(FakeSteps(obstacle="no route", embedded_works=False))


def test_a_failed_build_keeps_its_output_in_the_log(tmp_path):
    this = bootstrap.Environment(Path(sys.executable), tmp_path, ours=False)
    log = tmp_path / "logs/build.log"
    assert not this.run("-c", "print('compiling'); raise SystemExit(1)", log=log)
    assert log.read_text() == "compiling\n"


def put_git(folder: Path, script: str) -> None:
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", None),
        ("echo 'fatal: no such host' >&2; exit 128", "cannot be reached (fatal: no such host)"),
        ("sleep 30", "did not answer within 0.2 seconds"),
        ("sh -c 'sleep 30' & wait", "did not answer within 0.2 seconds"),
    ],
    ids=["answers", "refuses", "hangs", "hangs_in_a_child"],
)
def test_the_probe_of_the_repository_says_why_it_is_out_of_reach(tmp_path, monkeypatch, script, reason):
    put_git(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    obstacle = bootstrap.probe_repository("the://repository", seconds=0.2 if reason and "within" in reason else 20)
    assert obstacle == (reason and f"the://repository {reason}")


def test_the_probe_leaves_time_to_go_on_within_ten_seconds():
    assert bootstrap.PROBE_SECONDS < 10


def test_without_git_the_real_detectron2_is_out_of_reach(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert bootstrap.probe_repository() == "git is not installed"


def test_without_a_compiler_the_network_is_not_asked(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    steps = bootstrap.Detectron2Steps(bootstrap.Environment(Path(sys.executable), Path(), ours=False))
    assert steps.obstacle_to_real() == "there is no C++ compiler"


def test_the_environment_is_the_checkouts_own_unless_one_is_named(tmp_path):
    environment = bootstrap.choose_environment({}, root=tmp_path)
    assert environment.python == tmp_path / ".venv/bin/python"
    assert environment.ours


def test_a_named_environment_is_used_and_said(tmp_path, capsys):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    environment = bootstrap.choose_environment({"VENV": str(tmp_path)})
    assert (environment.python, environment.ours) == (tmp_path / "bin/python", False)
    assert f"VENV={tmp_path}: using that environment" in capsys.readouterr().out


def test_a_named_interpreter_stands_for_its_environment(capsys):
    environment = bootstrap.choose_environment({"PYTHON": sys.executable})
    assert environment.prefix == Path(sys.prefix)
    assert "instead of .venv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"VENV": "/nowhere"}, "VENV=/nowhere: no Python there"),
        ({"PYTHON": "/nowhere/python"}, "PYTHON=/nowhere/python: no Python there"),
        ({"VENV": "a", "PYTHON": "b"}, "both name an environment"),
    ],
)
def test_an_environment_that_does_not_exist_is_an_error(variables, message):
    with pytest.raises(bootstrap.SetupError, match=message):
        bootstrap.choose_environment(variables)


@pytest.mark.slow
def test_a_missing_environment_is_made_with_a_pip(tmp_path):
    environment = bootstrap.choose_environment({}, root=tmp_path)
    bootstrap.make_environment(environment)
    assert environment.ask("import pip, sys; print(sys.prefix)") == str(tmp_path / ".venv")


@pytest.fixture
def checkout(tmp_path):
    """A stand-in checkout with set-up files, and its environment, which has a Python and no stamp yet."""
    for name in bootstrap.SETUP_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    environment = bootstrap.choose_environment({}, root=tmp_path)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    return tmp_path, environment


def write_stamp(root, environment, extras=()):
    stamp = {"key": bootstrap.setup_key(environment, root), "extras": list(extras)}
    (environment.prefix / bootstrap.STAMP_NAME).write_text(json.dumps(stamp))


def test_a_second_set_up_runs_nothing(checkout, monkeypatch, capsys):
    root, environment = checkout
    write_stamp(root, environment, ["test"])
    monkeypatch.setattr(bootstrap.Environment, "run", lambda *_: pytest.fail("something was run"))
    bootstrap.set_up(environment, {"test"}, root)
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("name", bootstrap.SETUP_FILES)
def test_a_changed_set_up_file_asks_for_set_up_again(checkout, name):
    root, environment = checkout
    write_stamp(root, environment)
    (root / name).write_text("changed")
    assert bootstrap.read_stamp(environment, bootstrap.setup_key(environment, root)) is None


def test_a_half_written_stamp_counts_as_none(checkout):
    root, environment = checkout
    (environment.prefix / bootstrap.STAMP_NAME).write_text('{"key": ')
    assert bootstrap.read_stamp(environment, bootstrap.setup_key(environment, root)) is None


def test_a_further_extra_is_added_to_those_set_up_before(checkout, monkeypatch):
    root, environment = checkout
    write_stamp(root, environment, ["test"])
    installed = []
    monkeypatch.setattr(bootstrap.Environment, "pip", lambda _, *arguments: installed.append(arguments))
    monkeypatch.setattr(bootstrap, "make_environment", lambda _: None)
    monkeypatch.setattr(bootstrap, "choose_detectron2", lambda _: {"kind": "real", "version": "", "why": ""})
    bootstrap.set_up(environment, {"dev"}, root)
    assert installed == [("install", "-e", f"{root}[dev,test]")]
    assert bootstrap.read_stamp(environment, bootstrap.setup_key(environment, root)) == {"dev", "test"}


def test_setup_py_imports_only_setuptools():
    assert imported_modules(ROOT / "setup.py") - sys.stdlib_module_names == {"setuptools"}


def test_bootstrap_needs_only_the_standard_library():
    assert imported_modules(ROOT / "tools/bootstrap.py") <= sys.stdlib_module_names


def imported_modules(path: Path) -> set[str]:
    """First names of the modules that a file imports absolutely, `__future__` aside."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return {name.split(".")[0] for name in names} - {"__future__"}


DISTRIBUTION_OF = {
    **dict.fromkeys(("fastapi", "uvicorn"), "gradio"),  # which brings them
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
    "open_clip": "open_clip_torch",
    "yaml": "PyYAML",
}
# Provided otherwise, or optional and, where it is missing, named with its install line by the code that wants it.
OPTIONAL = {"transformers", "shapely", "detectron2", "mask2former_ext"}


@pytest.mark.parametrize(
    ("folder", "declaration"),
    [("mask2former_ext", "pyproject.toml"), ("embedded/detectron2", "embedded/pyproject.toml")],
)
def test_every_library_that_is_imported_is_declared(folder, declaration):
    imported = set().union(*(imported_modules(path) for path in (ROOT / folder).rglob("*.py")))
    imported -= set(sys.stdlib_module_names) | OPTIONAL
    declared = set(re.findall(r'"([A-Za-z_][\w-]*)[<>=]', (ROOT / declaration).read_text()))
    assert {DISTRIBUTION_OF.get(name, name) for name in imported} - declared == set()


@pytest.mark.parametrize("folder", ["", "embedded"])
def test_both_distributions_carry_the_apache_license(folder):
    metadata = (ROOT / folder / "pyproject.toml").read_text()
    assert re.search(r'^license = "Apache-2.0"$', metadata, re.MULTILINE)
    assert "Apache License" in (ROOT / folder / "LICENSE").read_text()


def test_the_wheel_says_that_the_package_is_annotated():
    assert (ROOT / "mask2former_ext/py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text()


def test_the_version_stands_in_one_place_and_needs_no_import():
    [version] = re.findall(r'^__version__ = "(.+)"$', (ROOT / "mask2former_ext/__init__.py").read_text(), re.MULTILINE)
    assert mask2former_ext.__version__ == version
    assert version not in (ROOT / "pyproject.toml").read_text() + (ROOT / "setup.py").read_text()


def test_the_changelog_has_a_section_of_this_version():
    sections = re.findall(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections[0] == mask2former_ext.__version__


@pytest.mark.slow
def test_the_bug_report_names_versions_detectron2_devices_and_kernels():
    done = subprocess.run([sys.executable, "-m", "mask2former_ext.env"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for heading in ("torch ", "numpy ", "Pillow ", "Detectron2 ", "CPU ", "GPU", "Kernels"):
        assert re.search(rf"^\s*{heading}", done.stdout, re.MULTILINE), heading


def test_both_distributions_name_one_way_to_the_real_detectron2():
    left_out = ast.parse((ROOT / "embedded/detectron2/_left_out.py").read_text())
    (line,) = [n for n in left_out.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "INSTALL_LINE"]
    assert f"`{ast.literal_eval(line.value)}`" in needed.WAYS_TO_DETECTRON2


def test_the_real_detectron2_is_told_from_the_embedded_one(monkeypatch):
    monkeypatch.setattr(detectron2, "__embedded__", False, raising=False)
    monkeypatch.setattr(env, "_installed_commit", lambda _: "02b5c4e295e9")
    assert env.detectron2_provider() == f"real {detectron2.__version__} at commit 02b5c4e"
