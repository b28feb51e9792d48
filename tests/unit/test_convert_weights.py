"""tools/convert_weights.py: any weight file into safetensors, and a report of what fits a model."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from mask2former_ext.commands import convert
from tests.models import MODELS, build


@pytest.fixture
def weights(tmp_path) -> str:
    torch.save({"model": build("mask2former_resnet").state_dict()}, tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


def test_a_file_that_cannot_be_written_is_named(weights, tmp_path, capsys):
    assert convert.main([weights, str(tmp_path / "nowhere" / "a.safetensors")]) == 2
    assert "a.safetensors: cannot be written (" in capsys.readouterr().err


def test_a_report_and_a_conversion_read_the_file_once(weights, tmp_path, monkeypatch, capsys):
    load, loads = torch.load, []
    monkeypatch.setattr(torch, "load", lambda path, **options: (loads.append(path), load(path, **options))[1])
    options = ["--config-file", str(tmp_path / "config.yaml"), "--opts", "MODEL.DEVICE", "cpu"]
    (tmp_path / "config.yaml").write_text(MODELS["mask2former_resnet"]().dump())
    convert.main([weights, str(tmp_path / "a.safetensors"), *options])
    assert loads == [weights] and "matched" in capsys.readouterr().out
    assert load_file(tmp_path / "a.safetensors").keys() == load(weights, weights_only=True)["model"].keys()
