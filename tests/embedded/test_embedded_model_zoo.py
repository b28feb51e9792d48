"""The model zoo's names, and the parts of R-CNN that projects of their own use."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher

from mask2former_ext import load_config
from tests.places import EMBEDDED

MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"


def test_get_config_file_gives_a_yaml_that_merges():
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(MASK_RCNN))
    assert (cfg.MODEL.MASK_ON, cfg.MODEL.RESNETS.DEPTH, cfg.SOLVER.MAX_ITER) == (True, 50, 270_000)
    assert cfg.MODEL.RPN.IN_FEATURES == ["p2", "p3", "p4", "p5", "p6"]


def test_get_config_with_trained_names_the_trained_weights():
    address = "https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
    assert model_zoo.get_config(MASK_RCNN).MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert model_zoo.get_config(MASK_RCNN, trained=True).MODEL.WEIGHTS == f"{address}/137849600/model_final_f10217.pkl"


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("COCO-Detection/faster_rcnn_R_50_C4_1x", ("Res5ROIHeads", False, "GeneralizedRCNN", 90_000)),
        ("COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x", ("StandardROIHeads", False, "GeneralizedRCNN", 270_000)),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_101_3x", ("StandardROIHeads", True, "PanopticFPN", 270_000)),
        ("Cityscapes/mask_rcnn_R_50_FPN", ("StandardROIHeads", True, "GeneralizedRCNN", 24_000)),
    ],
)
def test_get_config_knows_the_names_of_the_zoo(name: str, facts: tuple):
    cfg = model_zoo.get_config(f"{name}.yaml")
    model = cfg.MODEL
    assert (model.ROI_HEADS.NAME, model.MASK_ON, model.META_ARCHITECTURE, cfg.SOLVER.MAX_ITER) == facts


def test_the_package_loads_a_configuration_of_the_zoo():
    assert load_config(model_zoo.get_config_file(MASK_RCNN)).MODEL.META_ARCHITECTURE == "MaskRCNN"


def test_a_name_without_weights_or_outside_of_the_zoo_is_an_error():
    with pytest.raises(RuntimeError):
        model_zoo.get_checkpoint_url("PascalVOC-Detection/faster_rcnn_R_50_FPN.yaml")
    with pytest.raises(RuntimeError):
        model_zoo.get_config_file("no/such_model.yaml")


@pytest.mark.skipif(not EMBEDDED, reason="the real Detectron2 has all its configurations")
def test_a_configuration_that_is_left_out_says_the_install_line():
    with pytest.raises(RuntimeError, match="pip install"):
        model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_1x.yaml")


def test_box2box_transform_shifts_by_sizes_and_scales_by_logarithms():
    source, target = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 20]])
    # The center moves from 5 to 15, one width; the width doubles.
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    deltas = transform.get_deltas(source, target)
    torch.testing.assert_close(deltas, torch.tensor([[10.0, 0, 5 * math.log(2), 0]]))
    torch.testing.assert_close(transform.apply_deltas(deltas, source), target)


def test_box2box_transform_bounds_the_growth():
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0), scale_clamp=math.log(2))
    boxes = transform.apply_deltas(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[0.0, 0, 2, 2]]))
    torch.testing.assert_close(boxes, torch.tensor([[-1.0, -1, 3, 3]]))


# Three truths, four predictions; the best matches are 0.3, 0.65, 0.25 and 0.6.
QUALITIES = torch.tensor([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])


@pytest.mark.parametrize(("low_quality", "labels"), [(False, [-1, 1, 0, 1]), (True, [-1, 1, 0, 1])])
def test_matcher_labels_by_thresholds(low_quality: bool, labels: list[int]):
    matches, found = Matcher([0.3, 0.6], [0, -1, 1], low_quality)(QUALITIES)
    assert (matches.tolist(), found.tolist()) == ([1, 1, 2, 0], labels)


def test_matcher_gives_each_truth_its_best_where_asked_to():
    qualities = torch.tensor([[0.2, 0.1]])
    assert Matcher([0.5], [0, 1], True)(qualities)[1].tolist() == [1, 0]
    assert Matcher([0.5], [0, 1], False)(qualities)[1].tolist() == [0, 0]


def test_matcher_without_truth_labels_all_with_the_first():
    matches, labels = Matcher([0.5], [0, 1])(torch.zeros(0, 3))
    assert (matches.tolist(), labels.tolist()) == ([0, 0, 0], [0, 0, 0])
