"""Which room may import which (CONTRIBUTING, "Where things are"), read from the imports of every file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.places import ROOT
from tests.source import PACKAGE, imports_of, lies_in, python_files, shown, words_of

HOUSE = "mask2former_ext"
NEUTRAL = {"classes", "contract", "distributed", "on_demand", "folders", "safe_reading"}
# Room -> the rooms that it may import from. A room that is not here may import no other.
MAY_IMPORT = {
    "contract": {"classes"},
    "layers": {"distributed"},
    "losses": {"distributed"},
    "models": {*NEUTRAL, "layers", "losses", "postprocess"},
    "data": NEUTRAL,
    "interop": {*NEUTRAL, "layers"},
    "evaluation": {*NEUTRAL, "data"},
    "config": {*NEUTRAL, "data", "interop", "models"},
    "inference": {*NEUTRAL, "config", "data", "evaluation", "interop"},
    "engine": {*NEUTRAL, "config", "data", "env", "evaluation", "inference", "interop"},
    "commands": {*NEUTRAL, "config", "data", "engine", "env", "evaluation", "inference", "interop"},
    "web": {*NEUTRAL, "commands", "config", "data", "inference"},
    "env": {"needed"},
    "cli": {"__version__", "needed"},  # it runs the others by their names
}
ROOMS = sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})
ROOMS.remove("__init__")

# The genealogy of the papers: model -> the files of models/ that it may import. A file that is not here is a new paper:
# it may import any of these, and none of these it.
PARENTS = {
    "image_model": set(),
    "backbones": set(),
    "mask_classifier": {"image_model"},
    "pixel_classifier": {"image_model"},
    "maskformer": {"image_model", "mask_classifier"},
    "mask2former": {"image_model", "mask_classifier"},
    "oneformer": {"image_model", "mask_classifier", "mask2former"},
    "per_pixel": {"image_model", "maskformer", "pixel_classifier"},
    "mask_rcnn": {"image_model"},
    "panoptic_fpn": {"image_model", "mask_rcnn", "pixel_classifier"},
}

# Files that know tensors, arrays and numbers alone.
ARITHMETIC = [
    "layers",
    "losses.py",
    "postprocess.py",
    "evaluation/average_precision.py",
    "evaluation/confusion_matrix.py",
    "evaluation/panoptic_quality.py",
    "data/targets/masks.py",
    "data/targets/texts.py",
]
CONFIGURATION = ("detectron2.config", "detectron2.data", "detectron2.utils.registry", "fvcore.common.registry")
EMBEDDED_MAY_IMPORT = (
    *("classes", "distributed", "evaluation", "inference.drawing", "inference.marks", "data.targets.masks"),
    "safe_reading",
)


def room_of(name: str) -> str:
    """Of a dotted name of the house: "mask2former_ext.data.mapper.Mapper" -> "data"."""
    return (name.split(".") + [""])[1]


def house_imports(*places: str) -> list[tuple[str, str]]:
    """(file, name) of all that these places import from the house."""
    files = python_files(*(f"{HOUSE}/{place}" for place in places))
    return [(shown(file), name) for file in files for name in sorted(imports_of(file)) if lies_in(name, HOUSE)]


def place_of(room: str) -> str:
    return room if (PACKAGE / room).is_dir() else f"{room}.py"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_behind_it(room):
    doors = {room, *MAY_IMPORT.get(room, set())}
    assert [arrow for arrow in house_imports(place_of(room)) if room_of(arrow[1]) not in doors] == []


@pytest.mark.parametrize("name", sorted(PARENTS))
def test_a_model_imports_only_its_parents(name):
    own = f"{HOUSE}.models"
    arrows = [arrow for arrow in house_imports(f"models/{name}.py") if lies_in(arrow[1], own)]
    parents = [f"{own}.{parent}" for parent in PARENTS[name]]
    assert [arrow for arrow in arrows if not lies_in(arrow[1], *parents)] == []


@pytest.mark.parametrize("place", ARITHMETIC)
def test_arithmetic_sees_no_configuration_registry_or_catalog(place):
    files = python_files(f"{HOUSE}/{place}")
    assert [(shown(f), name) for f in files for name in imports_of(f) if lies_in(name, *CONFIGURATION)] == []
    assert [(shown(f), line) for f in files for line, word in words_of(f) if word in ("cfg", "CfgNode")] == []


def test_layers_see_no_instances_and_no_losses():
    forbidden = ("detectron2.structures", f"{HOUSE}.losses")
    files = python_files(f"{HOUSE}/layers")
    assert [(shown(f), name) for f in files for name in imports_of(f) if lies_in(name, *forbidden)] == []


def test_the_class_table_imports_neither_torch_nor_detectron2():
    assert not [name for name in imports_of(PACKAGE / "classes.py") if lies_in(name, "torch", "detectron2", "numpy")]


def test_embedded_imports_only_evaluation_drawing_and_safe_readers():
    allowed = [f"{HOUSE}.{place}" for place in EMBEDDED_MAY_IMPORT]
    arrows = [(shown(f), name) for f in python_files("embedded") for name in imports_of(f) if lies_in(name, HOUSE)]
    assert [arrow for arrow in arrows if not lies_in(arrow[1], *allowed)] == []


CLASS_KEYS = {f"{kind}_{part}" for kind in ("thing", "stuff") for part in ("classes", "colors")}


def test_classes_py_alone_knows_the_keys_of_detectron2s_metadata():
    files = [path for path in python_files(HOUSE, "demo", "tools") if shown(path) != f"{HOUSE}/classes.py"]
    known = [(shown(path), line, word) for path in files for line, word in words_of(path)]
    assert [place for place in known if place[2] in CLASS_KEYS or "dataset_id_to_contiguous_id" in place[2]] == []


IMPORTED = {
    **{f"mask2former_ext.{room}": set(ROOMS) - {"models"} for room in ROOMS if room not in ("cli", "models")},
    "mask2former_ext": set(),
    "mask2former_ext.contract": {"classes", "contract"},
    "mask2former_ext.classes": {"classes"},
    "mask2former_ext.postprocess": {"postprocess"},
    "mask2former_ext.data": {"data"},
    "mask2former_ext.data.targets.masks": {"data"},
    "mask2former_ext.evaluation": {"evaluation"},
    "mask2former_ext.evaluation.average_precision": {"data", "evaluation"},
    "mask2former_ext.evaluation.confusion_matrix": {"evaluation"},
    "mask2former_ext.evaluation.panoptic_quality": {"data", "evaluation"},
    "mask2former_ext.inference.drawing": {"classes", "contract", "data", "inference"},
    "mask2former_ext.inference.predictor": set(ROOMS) - {"models"},
}
# Each import in a process of its own, which is a fork of one that has loaded the libraries, to save time.
FORKED_IMPORTS = """
import detectron2.data, detectron2.evaluation, detectron2.modeling, importlib, os, sys, torch
for name in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(name)
        print(name, *sorted(n.split(".")[1] for n in sys.modules if n.startswith("mask2former_ext.")), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, name
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Import -> the rooms of the house that are loaded after it, in an interpreter that had loaded none."""
    command = [sys.executable, "-c", FORKED_IMPORTS, *IMPORTED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    # these know names alone, and come with the package itself
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(HOUSE)]
    return {name: set(rooms) - {"moved", "needed", "on_demand"} for name, *rooms in lines}


@pytest.mark.parametrize("name", IMPORTED)
def test_importing_a_room_does_not_import_the_house(name, loaded):
    assert sorted(loaded[name] - IMPORTED[name]) == []
