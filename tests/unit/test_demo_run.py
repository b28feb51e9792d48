"""What `make demo` says before it trains; the training itself is watched by people."""

from __future__ import annotations

import demo_run
import pytest

from tests.models import MODELS


def test_the_demo_does_not_go_on_with_a_model_of_another_kind(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.yaml").write_text(MODELS["mask2former_resnet"]().dump())
    command = ["demo_run.py", "--output", str(tmp_path), "--config-file", "configs/panoptic_fpn/shapes.yaml"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="holds a Mask2Former, and this trains a PanopticFeaturePyramid: .*--fresh"):
        demo_run.main()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
