"""Every configuration key does something: those that `add_config` adds are read, and those that a yaml sets too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from detectron2.config import CfgNode, get_cfg

from mask2former_ext import add_config
from mask2former_ext.contract import TASKS
from tests.places import ROOT
from tests.source import attributes_read

# Keys that are read under a name that is put together, and where.
READ_BY_A_MADE_NAME = {
    **{f"MODEL.MASK_CLASSIFIER.{task.upper()}_ON": "contract.py" for task in TASKS},
    **{f"INPUT.TASK_PROBABILITIES.{task.upper()}": "data/targets/unified.py" for task in TASKS},
}
# Whose backbone and schedule `add_config` makes known: the key is ours, the code that reads it Detectron2's.
DEEPLAB = "embedded/detectron2/projects/deeplab"


def leaves(node: dict, prefix: str = "") -> Iterator[str]:
    """The full names of a configuration's values."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        elif not isinstance(value, CfgNode):
            yield f"{prefix}{key}"


def is_read(key: str, *places: str) -> bool:
    return key in READ_BY_A_MADE_NAME or set(key.split(".")) <= attributes_read(*places)


def test_every_key_of_add_config_is_read_by_the_package():
    cfg = get_cfg()
    detectron2s = set(leaves(cfg))
    add_config(cfg)
    added = set(leaves(cfg)) - detectron2s
    assert sorted(key for key in added if not is_read(key, "mask2former_ext", DEEPLAB, "docs/examples")) == []


@pytest.mark.parametrize("folder", sorted(p.name for p in (ROOT / "configs").iterdir() if p.is_dir()))
def test_every_key_of_a_yaml_is_read_by_the_package_or_detectron2(folder):
    unread = {}
    for path in sorted((ROOT / "configs" / folder).glob("*.yaml")):
        keys = set(leaves(yaml.safe_load(path.read_text(encoding="utf-8")))) - {"_BASE_"}
        unread[path.name] = sorted(key for key in keys if not is_read(key, "mask2former_ext", "embedded"))
    assert {name: keys for name, keys in unread.items() if keys} == {}
