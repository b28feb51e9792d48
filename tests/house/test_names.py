"""No room but models/, interop/ and configs/ knows an architecture by name, or asks a model by a guess."""

from __future__ import annotations

import ast
import re

import pytest

from tests.places import ROOT
from tests.source import python_files, shown, tree_of, words_of

ARCHITECTURES = re.compile(
    r"mask_?2?_?former|one_?former|per_?pixel_?baseline|panoptic_?(fpn|feature_?pyramid)|(mask|faster|generalized)_?r_?cnn"
    r"|mask_?dino|k_?max",
    re.IGNORECASE,
)
OWN_NAME = re.compile(r"mask2former[-_]ext", re.IGNORECASE)
NAMED_WITH_REASON = {
    "mask2former_ext/config/keys.py": "the one list of the models' own keys",
    "mask2former_ext/layers/text_encoder.py": "an error names the extra to install",
    "tools/write_configuration.py": "the page shows which keys one model shares with another",
    "tools/demo_run.py": "the yaml of make demo",
    "tools/benchmark.py": "each model is timed beside others' of the same name",
    "tools/benchmark_rcnn.py": "each model is timed beside others' of the same name",
    "tools/benchmark_transformers.py": "each model is timed beside others' of the same name",
}
KNOWING = ("mask2former_ext/models/", "mask2former_ext/interop/")
OTHERS = [
    path
    for path in python_files("mask2former_ext", "demo", "tools", "train_net.py")
    if not shown(path).startswith(KNOWING)
]
GUESSED_WITH_REASON = {
    ("mask2former_ext/engine/trainer.py", "tasks"): "an evaluator of the user's script, which declares nothing",
    ("mask2former_ext/config/own_files.py", "__file__"): "a module of Python itself has none",
    ("mask2former_ext/inference/video.py", "strerror"): "an exception of any library",
    ("mask2former_ext/layers/timm_backbone.py", "output_fmt"): "a network of timm, most of which do not say it",
    ("mask2former_ext/env.py", "__embedded__"): "the real Detectron2 has no such mark",
    ("mask2former_ext/env.py", "sched_getaffinity"): "Linux alone has it",
    ("mask2former_ext/commands/segment.py", "n_frames"): "of Pillow's images only some have it",
    ("tools/benchmark_transformers.py", "is_training"): "of transformers' modules only some have it",
}


def test_no_room_but_models_and_interop_knows_an_architecture_by_name():
    named = [(shown(p), line, word) for p in OTHERS for line, word in words_of(p) if is_named_in(word)]
    assert [place for place in named if place[0] not in NAMED_WITH_REASON] == []


def is_named_in(word: str) -> bool:
    return ARCHITECTURES.search(OWN_NAME.sub("", word)) is not None


@pytest.mark.parametrize("name", sorted(NAMED_WITH_REASON))
def test_a_file_that_may_name_architectures_does(name):
    assert any(is_named_in(word) for _, word in words_of(ROOT / name)), "take it off NAMED_WITH_REASON"


def guesses() -> set[tuple[str, str]]:
    """(file, name) of every `getattr(x, "name", default)` and `hasattr(x, "name")`."""
    pairs = set()
    for path in python_files("mask2former_ext", "demo", "tools", "train_net.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
                if node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3):
                    pairs.add((shown(path), ast.unparse(node.args[1]).strip("'")))
    return pairs


def test_nothing_of_ours_is_asked_by_getattr_with_a_default():
    unexplained = guesses() - set(GUESSED_WITH_REASON)
    assert sorted(unexplained) == []


@pytest.mark.parametrize("guess", sorted(GUESSED_WITH_REASON), ids=".".join)
def test_a_guess_with_a_reason_is_still_made(guess):
    assert guess in guesses(), "take it off GUESSED_WITH_REASON"
