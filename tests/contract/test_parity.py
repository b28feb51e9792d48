"""Models of the published projects: the recorded results and losses, and the names and shapes of all parameters."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detectron2.modeling import build_model

from mask2former_ext import load_config

pytestmark = pytest.mark.parity

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CASES = ["mask2former_r50_coco_panoptic", "maskformer_r50_ade_semantic", "perpixel_r50_ade", "oneformer_swin_ade"]
# Recorded names -> our file, and what differs
NAMES = {
    "mask2former__coco__panoptic-segmentation__maskformer2_R50_bs16_50ep": ("mask2former/coco_panoptic_r50", []),
    "mask2former__coco__panoptic-segmentation__swin__maskformer2_swin_tiny_bs16_50ep": (
        "mask2former/coco_panoptic_swin_t",
        [],
    ),
    "mask2former__coco__instance-segmentation__maskformer2_R101_bs16_50ep": (
        "mask2former/coco_instance_r50",
        ["MODEL.RESNETS.DEPTH", "101"],
    ),
    "maskformer__ade20k-150__maskformer_R50_bs16_160k": ("maskformer/ade20k_semantic_r50", []),
    "maskformer__ade20k-150__maskformer_R101c_bs16_160k": ("maskformer/ade20k_semantic_r101c", []),
    "maskformer__ade20k-150__swin__maskformer_swin_tiny_bs16_160k": ("maskformer/ade20k_semantic_swin_t", []),
    "maskformer__coco-panoptic__maskformer_panoptic_R50_bs64_554k": ("maskformer/coco_panoptic_r50", []),
    "maskformer__ade20k-150__per_pixel_baseline_R50_bs16_160k": ("per_pixel/ade20k_semantic_baseline_r50", []),
    "maskformer__ade20k-150__per_pixel_baseline_plus_R50_bs16_160k": (
        "per_pixel/ade20k_semantic_baseline_plus_r50",
        [],
    ),
    "oneformer__coco__oneformer_R50_bs16_50ep": ("oneformer/coco_r50", []),
    "oneformer__ade20k__swin__oneformer_swin_large_bs16_160k": ("oneformer/ade20k_swin_l", []),
}


@pytest.fixture(scope="module")
def checker(fixtures_dir: Path) -> ModuleType:
    """The script that lies beside the recorded models."""
    spec = importlib.util.spec_from_file_location("check_parity", fixtures_dir / "check_parity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_model_gives_the_recorded_results(fixtures_dir, checker, case):
    shortcomings, figures = checker.check(fixtures_dir / "parity" / case, checker.backend())
    assert not shortcomings, figures


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_model_has_the_recorded_losses(fixtures_dir, checker, case):
    shortcomings, figures = checker.check_losses(fixtures_dir / "parity" / case, checker.backend())
    assert not shortcomings, figures


@pytest.mark.parametrize("record", NAMES)
def test_names_and_shapes_of_all_parameters_are_the_published_ones(fixtures_dir, record):
    config, changes = NAMES[record]
    # Without dropped paths, whose rates are numbers that the meta device does not hold.
    common = ["MODEL.DEVICE", "meta", "MODEL.SWIN.DROP_PATH_RATE", "0.0"]
    cfg = load_config(str(CONFIGS / f"{config}.yaml"), [*common, *changes])
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in build_model(cfg).state_dict().items()}
    assert ours == json.loads((fixtures_dir / "keys" / f"{record}.json").read_text())
