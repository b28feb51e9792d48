"""Configurations that come with the package, found by name."""

from __future__ import annotations

import pytest

from mask2former_ext.config import load_config
from mask2former_ext.config.shipped import shipped_configs
from tests.places import ROOT


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The command runs in a folder of its own, far from the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("name", ["mask2former/tiny", "mask2former/tiny.yaml", "configs/mask2former/tiny.yaml"])
def test_load_config_finds_a_shipped_file_by_name_wherever_it_runs(name):
    assert load_config(name) == load_config(str(ROOT / "configs/mask2former/tiny.yaml"))


def test_a_file_that_is_there_goes_before_a_shipped_one_of_its_name(elsewhere, write_yaml):
    (elsewhere / "mask2former").mkdir()
    write_yaml("SEED: 7", "mask2former/tiny.yaml")
    assert load_config("mask2former/tiny.yaml").SEED == 7


@pytest.mark.usefixtures("elsewhere")
def test_a_base_may_be_named_as_well(write_yaml):
    cfg = load_config(write_yaml("_BASE_: mask2former/tiny\nSEED: 7"))
    assert (cfg.SEED, cfg.MODEL.META_ARCHITECTURE) == (7, "Mask2Former")


@pytest.mark.usefixtures("elsewhere")
def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(FileNotFoundError, match=r"the nearest are mask2former/coco_panoptic_r50, "):
        load_config("mask2former/coco_panoptc_r50")


def test_every_file_of_configs_has_a_name():
    files = {
        path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert set(shipped_configs()) == files
