"""torchvision's Mask R-CNN, an independent implementation: with its weights converted ours gives the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from PIL import Image
from torch import nn

from mask2former_ext.interop.weights import load_weights
from tests.rcnn import tiny_cfg

NUM_CLASSES = 5
HEIGHT, WIDTH = 160, 192


def converted_cfg() -> CfgNode:
    """Mask R-CNN R50-FPN as torchvision has it: a stride in the 3 x 3 convolution, the older RoIAlign of 4 samples,
    anchors on whole pixels."""
    cfg = tiny_cfg()
    resnet, box, mask = cfg.MODEL.RESNETS, cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD
    resnet.DEPTH, resnet.RES2_OUT_CHANNELS, resnet.STRIDE_IN_1X1 = 50, 256, False
    cfg.MODEL.FPN.OUT_CHANNELS, box.FC_DIM, mask.CONV_DIM, mask.NUM_CONV = 256, 1024, 256, 4
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "RoundedAnchorGenerator"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    for node in (box, mask):
        node.POOLER_TYPE, node.POOLER_SAMPLING_RATIO = "ROIAlign", 2
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 1000
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    return cfg


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[tuple[nn.Module, nn.Module]]:
    """torchvision's model with random weights, sure of its classes, and ours with the same.

    On two threads, whatever the test run uses: with random weights the last bit of a score decides which of two boxes
    suppresses the other, and it depends on the number of threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES + 1, min_size=HEIGHT
    )
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0
    theirs.backbone.train()(torch.randn(2, 3, HEIGHT, WIDTH))  # statistics for the batch norms
    theirs.roi_heads.box_predictor.cls_score.weight.data *= 5
    path = str(tmp_path_factory.mktemp("weights") / "maskrcnn.pth")
    torch.save(theirs.state_dict(), path)
    ours = build_model(converted_cfg())
    report = load_weights(ours, path)
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    yield theirs.eval(), ours.eval()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def features(pair) -> tuple[dict, dict]:
    """Maps of both for the same image."""
    x = torch.randn(1, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        return pair[0].backbone(x), pair[1].backbone(x)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4 * max(float(theirs.abs().max()), 1.0), rtol=0)


BOXES = torch.tensor([[5.0, 7, 90, 140], [100, 20, 190, 150], [3.3, 4.4, 20.5, 19.9], [0, 0, 192, 160]])


@pytest.mark.slow
def test_the_maps_of_the_pyramid_are_the_same(features):
    theirs, ours = features
    for level, name in zip(("0", "1", "2", "3", "pool"), ("p2", "p3", "p4", "p5", "p6"), strict=True):
        close(ours[name], theirs[level])


@torch.no_grad()
def test_logits_and_deltas_of_the_anchors_are_the_same(pair, features):
    logits, deltas = pair[0].rpn.head(list(features[0].values()))
    our_logits, our_deltas = pair[1].proposal_generator.rpn_head(list(features[1].values()))
    for ours, theirs in zip(our_logits, logits, strict=True):
        close(ours, theirs.permute(0, 2, 3, 1).flatten(1))
    for ours, theirs in zip(our_deltas, deltas, strict=True):
        close(ours, theirs.permute(0, 2, 3, 1).reshape(1, -1, 4))


@torch.no_grad()
def test_classes_and_boxes_of_given_regions_are_the_same(pair, features):
    theirs, ours = pair[0].roi_heads, pair[1].roi_heads
    pooled = theirs.box_roi_pool(features[0], [BOXES], [(HEIGHT, WIDTH)])
    logits, deltas = theirs.box_predictor(theirs.box_head(pooled))
    our_pooled = ours.box_pooler([features[1][name] for name in ours.in_features], [BOXES])
    our_logits, our_deltas = ours.box_predictor(ours.box_head(our_pooled))
    close(our_pooled, pooled)
    close(our_logits, logits[:, [1, 2, 3, 4, 5, 0]])
    close(our_deltas, deltas.view(-1, NUM_CLASSES + 1, 4)[:, 1:])


@torch.no_grad()
def test_masks_of_given_regions_are_the_same(pair, features):
    theirs, ours = pair[0].roi_heads, pair[1].roi_heads
    pooled = theirs.mask_roi_pool(features[0], [BOXES], [(HEIGHT, WIDTH)])
    logits = theirs.mask_predictor(theirs.mask_head(pooled))
    our_pooled = ours.mask_pooler([features[1][name] for name in ours.in_features], [BOXES])
    for category in range(NUM_CLASSES):
        close(ours.mask_head(our_pooled, torch.full((4,), category)), logits[:, 1 + category])


def noise() -> torch.Tensor:
    return torch.randint(0, 256, (3, HEIGHT, WIDTH)).float()


def photograph(real_data_dir: Path) -> torch.Tensor:
    """One of 640 x 427, made so small that torchvision's model does not change its size: p5 has 5 x 8 cells."""
    with Image.open(real_data_dir / "coco_tiny50" / "val2017" / "000000397133.jpg") as picture:
        return torch.from_numpy(np.array(picture.convert("RGB").resize((240, HEIGHT)))).permute(2, 0, 1).float()


@torch.no_grad()
def nine_of_ten_are_the_same(pair, image: torch.Tensor) -> bool:
    theirs = pair[0]([image / 255])[0]
    ours = pair[1]([{"image": image}])[0]["instances"]
    sure = torch.nonzero(theirs["scores"] > 0.5).flatten()
    overlap = torchvision.ops.box_iou(theirs["boxes"][sure], ours.pred_boxes.tensor)
    same = (overlap >= 0.9) & (theirs["labels"][sure, None] - 1 == ours.pred_classes)
    return len(sure) >= 10 and bool(same.any(dim=1).float().mean() >= 0.9)


# What differs is listed in `interop.torchvision_rcnn`.


@pytest.mark.slow
def test_nine_of_ten_sure_detections_in_noise_are_the_same(pair):
    assert nine_of_ten_are_the_same(pair, noise())


@pytest.mark.parity
def test_nine_of_ten_sure_detections_in_a_photograph_are_the_same(pair, real_data_dir):
    assert nine_of_ten_are_the_same(pair, photograph(real_data_dir))


def test_the_first_weight_files_have_other_names(pair, tmp_path):
    state = pair[0].state_dict()
    for name in list(state):
        older = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        older = older.replace("_blocks.0.0.", "_blocks.0.").replace("_blocks.3.0.", "_blocks.3.")
        for layer in range(4):
            older = older.replace(f"roi_heads.mask_head.{layer}.0.", f"roi_heads.mask_head.mask_fcn{layer + 1}.")
        state[older] = state.pop(name)
    torch.save(state, tmp_path / "older.pth")
    model = build_model(converted_cfg())
    report = load_weights(model, str(tmp_path / "older.pth"))
    assert (report.missing, report.unexpected) == ([], [])
    # The norms of that time add nothing to the variance, ours 1e-5.
    norm = model.backbone.bottom_up.stem.conv1.norm
    torch.testing.assert_close(norm.running_var, state["backbone.body.bn1.running_var"] - 1e-5)
