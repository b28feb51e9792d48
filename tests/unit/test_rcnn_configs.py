"""Configurations of Mask R-CNN and Panoptic FPN: those of Detectron2's model zoo, whose own files build ours too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from mask2former_ext.config import load_config
from mask2former_ext.interop.config_keys import leaves

CONFIGS = Path(__file__).parents[2] / "configs"
# The public Detectron2 repository, if it lies somewhere.
UPSTREAM = Path(os.environ.get("MASK2FORMER_EXT_DETECTRON2", CONFIGS.parent.parent / "detectron2")) / "configs"
PUBLISHED_FILES = {
    "mask_rcnn/coco_instance_r50_1x": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "mask_rcnn/coco_instance_r50_3x": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x",
    "mask_rcnn/coco_instance_r101_3x": "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x",
    "mask_rcnn/coco_instance_x101_3x": "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x",
    "mask_rcnn/cityscapes_instance_r50": "Cityscapes/mask_rcnn_R_50_FPN",
    "panoptic_fpn/coco_panoptic_r50_1x": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x",
    "panoptic_fpn/coco_panoptic_r50_3x": "COCO-PanopticSegmentation/panoptic_fpn_R_50_3x",
    "panoptic_fpn/coco_panoptic_r101_3x": "COCO-PanopticSegmentation/panoptic_fpn_R_101_3x",
}
NAMES = list(PUBLISHED_FILES)
COCO = [name for name in NAMES if "coco" in name]
# Schedule -> iterations, drops.
SCHEDULES = {"1x": (90_000, (60_000, 80_000)), "3x": (270_000, (210_000, 250_000))}

# What the zoo's files share, in the zoo's language (their Base-RCNN-FPN.yaml).
ZOO = """
MODEL:
  META_ARCHITECTURE: {architecture}
  BACKBONE: {{NAME: build_resnet_fpn_backbone}}
  RESNETS: {{DEPTH: 50, OUT_FEATURES: [res2, res3, res4, res5]}}
  FPN: {{IN_FEATURES: [res2, res3, res4, res5]}}
  ANCHOR_GENERATOR: {{SIZES: [[32], [64], [128], [256], [512]], ASPECT_RATIOS: [[0.5, 1.0, 2.0]]}}
  RPN: {{IN_FEATURES: [p2, p3, p4, p5, p6], PRE_NMS_TOPK_TRAIN: 2000, POST_NMS_TOPK_TRAIN: 1000}}
  ROI_HEADS: {{NAME: {heads}, IN_FEATURES: [p2, p3, p4, p5]}}
  ROI_BOX_HEAD: {{NAME: FastRCNNConvFCHead, NUM_FC: 2, POOLER_RESOLUTION: 7}}
  ROI_MASK_HEAD: {{NAME: MaskRCNNConvUpsampleHead, NUM_CONV: 4, POOLER_RESOLUTION: 14}}
  MASK_ON: {masks}
  KEYPOINT_ON: {keypoints}
"""


def ours(name: str) -> CfgNode:
    return load_config(str(CONFIGS / f"{name}.yaml"))


@pytest.mark.parametrize("name", COCO)
def test_coco_is_trained_on_the_published_schedule_at_the_published_sizes(name: str) -> None:
    cfg = ours(name)
    iterations, drops = SCHEDULES[name[-2:]]
    assert (cfg.SOLVER.MAX_ITER, tuple(cfg.SOLVER.STEPS), cfg.SOLVER.IMS_PER_BATCH) == (iterations, drops, 16)
    assert list(cfg.INPUT.MIN_SIZE_TRAIN) == [640, 672, 704, 736, 768, 800]
    assert (cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (1333, 800, 1333)


@pytest.mark.parametrize("name", NAMES)
def test_the_optimizer_is_the_published_one(name: str) -> None:
    solver = ours(name).SOLVER
    rate = 0.01 if "cityscapes" in name else 0.02
    assert (solver.OPTIMIZER, solver.BASE_LR, solver.MOMENTUM, solver.WEIGHT_DECAY) == ("SGD", rate, 0.9, 1e-4)
    assert (solver.WARMUP_ITERS, solver.WARMUP_FACTOR, solver.BACKBONE_MULTIPLIER) == (1000, 1e-3, 1.0)
    assert not (solver.AMP.ENABLED or solver.CLIP_GRADIENTS.ENABLED)


@pytest.mark.parametrize("name", NAMES)
def test_colors_are_those_of_the_published_backbones(name: str) -> None:
    cfg = ours(name)
    std = [57.375, 57.12, 58.395] if "x101" in name else [1.0, 1.0, 1.0]
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == ("BGR", [103.53, 116.28, 123.675], std)


def test_numbers_of_classes_are_the_datas() -> None:
    assert ours("mask_rcnn/coco_instance_r50_3x").MODEL.ROI_HEADS.NUM_CLASSES == 80
    assert ours("mask_rcnn/cityscapes_instance_r50").MODEL.ROI_HEADS.NUM_CLASSES == 8
    model = ours("panoptic_fpn/coco_panoptic_r50_3x").MODEL
    assert (model.ROI_HEADS.NUM_CLASSES, model.SEM_SEG_HEAD.NUM_CLASSES) == (80, 54)


def test_large_scale_jitter_trains_for_100_epochs_from_scratch() -> None:
    cfg = ours("mask_rcnn/coco_instance_r50_lsj_100ep")
    assert cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH == 100 * 118_000
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WARMUP_ITERS) == (0.1, 4e-5, 500)
    assert (cfg.INPUT.AUGMENTATION, cfg.INPUT.IMAGE_SIZE, cfg.MODEL.WEIGHTS) == ("large_scale_jitter", 1024, "")
    assert (cfg.MODEL.RPN.CONV_DIMS, cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, cfg.MODEL.BACKBONE.FREEZE_AT) == ([-1, -1], 4, 0)


def build(cfg: CfgNode) -> torch.nn.Module:
    """The model without memory for its weights."""
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


@pytest.mark.parametrize("name", [*NAMES, "mask_rcnn/coco_instance_r50_lsj_100ep"])
def test_every_configuration_builds_its_model(name: str) -> None:
    expected = "MaskRCNN" if name.startswith("mask_rcnn") else "PanopticFeaturePyramid"
    assert type(build(ours(name))).__name__ == expected


@pytest.fixture
def zoo(tmp_path: Path):
    def write(
        architecture: str = "GeneralizedRCNN",
        heads: str = "StandardROIHeads",
        masks: bool = True,
        keypoints: bool = False,
    ) -> str:
        text = ZOO.format(architecture=architecture, heads=heads, masks=masks, keypoints=keypoints)
        (tmp_path / "zoo.yaml").write_text(text)
        return str(tmp_path / "zoo.yaml")

    return write


@pytest.mark.parametrize(
    ("theirs", "built", "targets"),
    [("GeneralizedRCNN", "MaskRCNN", "instance"), ("PanopticFPN", "PanopticFeaturePyramid", "panoptic")],
)
def test_a_file_of_the_zoo_builds_ours(zoo, theirs: str, built: str, targets: str) -> None:
    cfg = load_config(zoo(theirs))
    assert (cfg.SOLVER.OPTIMIZER, cfg.INPUT.TARGETS) == ("SGD", targets)
    assert type(build(cfg)).__name__ == built


def test_a_detector_of_the_zoo_has_no_mask_head(zoo) -> None:
    assert not any("mask_head" in name for name in build(load_config(zoo(masks=False))).state_dict())


@pytest.mark.parametrize("theirs", ["RetinaNet", "ProposalNetwork", "SemanticSegmentor"])
def test_other_architectures_of_detectron2_are_refused_by_name(zoo, theirs: str) -> None:
    with pytest.raises(ValueError, match=rf"zoo\.yaml: MODEL.META_ARCHITECTURE is '{theirs}'; .* builds Generalized"):
        load_config(zoo(theirs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "Res5ROIHeads"}, "MODEL.ROI_HEADS.NAME is 'Res5ROIHeads'"),
        ({"heads": "CascadeROIHeads"}, "MODEL.ROI_HEADS.NAME is 'CascadeROIHeads'"),
        ({"keypoints": True}, "MODEL.KEYPOINT_ON is True"),
    ],
)
def test_parts_that_are_not_built_here_are_refused_by_key_and_value(zoo, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(load_config(zoo(**options)))


def comparable(cfg: CfgNode) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in leaves(cfg)}


@pytest.mark.parity
@pytest.mark.skipif(not UPSTREAM.is_dir(), reason="needs the public Detectron2 (MASK2FORMER_EXT_DETECTRON2)")
@pytest.mark.parametrize("name", NAMES)
def test_the_zoos_file_gives_the_same_configuration(name: str) -> None:
    theirs = load_config(str(UPSTREAM / f"{PUBLISHED_FILES[name]}.yaml"))
    assert comparable(theirs) == comparable(ours(name))
