"""The files for GitHub Actions, which have not been run, agree with pyproject.toml and the Makefile."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.places import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def matrix() -> dict:
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    return tests["jobs"]["tests"]["strategy"]["matrix"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_targets_of_the_makefile(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {target for command in commands for target in re.findall(r"\bmake (\w+)", command)}
    known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets and targets <= known


def test_the_matrix_begins_with_the_oldest_python_and_pytorch():
    (python,) = re.findall(r'^requires-python = ">=(.+)"$', PYPROJECT, re.MULTILINE)
    (torch,) = re.findall(r'^    "torch>=([\d.]+),', PYPROJECT, re.MULTILINE)
    (torchvision,) = re.findall(r'^    "torchvision>=([\d.]+),', PYPROJECT, re.MULTILINE)
    assert matrix()["python"][0] == python
    assert matrix()["include"][0]["libraries"] == f"torch=={torch}.0 torchvision=={torchvision}.0"


def test_the_matrix_holds_both_detectron2s_with_both_pytorchs():
    assert (matrix()["detectron2"], matrix()["pytorch"]) == (["embedded", "real"], ["oldest", "newest"])
