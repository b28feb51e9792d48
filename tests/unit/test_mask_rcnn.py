"""Mask R-CNN: what becomes of proposals, detections and truth, on a small network."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import PolygonMasks

from mask2former_ext import load_config
from tests.rcnn import NUM_CLASSES, an_input, losses_of, tiny_cfg, tiny_model

# ----------------------------------------------------------------------------------------------------------- proposals


def propose(logits: list, boxes: list, **options) -> list:
    """Proposals of a single level whose anchors are `boxes`, in a picture of 100 x 100, no deltas."""
    changes = [item for key, value in options.items() for item in (f"MODEL.{key.replace('__', '.')}", value)]
    network = tiny_model(*changes).proposal_generator
    anchors, scores = torch.tensor(boxes, dtype=torch.float32), torch.tensor([logits], dtype=torch.float32)
    deltas = torch.zeros(1, len(boxes), 4)
    return network.propose([anchors], [scores], [deltas], [(100, 100)], ["photo.jpg"])[0].tolist()


def test_proposals_come_by_falling_score_and_inside_the_image():
    assert propose([0.0, 2.0], [[0, 0, 10, 10], [50, 50, 120, 130]]) == [[50, 50, 100, 100], [0, 0, 10, 10]]


def test_of_proposals_that_overlap_the_best_stays():
    # overlap 80 / 100 exceeds 0.7; the third, 60 / 100, does not
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 6]]
    assert propose([2.0, 1.0, 0.0], boxes) == [boxes[0], boxes[2]]


def test_proposals_of_different_levels_do_not_suppress_each_other():
    network, box = tiny_model().proposal_generator, torch.tensor([[0.0, 0, 10, 10]])
    levels = [[box, box], [torch.ones(1, 1)] * 2, [torch.zeros(1, 1, 4)] * 2]
    assert len(network.propose(*levels, [(100, 100)], ["photo.jpg"])[0]) == 2


def test_sides_of_a_proposal_exceed_the_smallest_size():
    boxes = [[0, 0, 10, 10], [20, 0, 30, 4], [40, 0, 44.5, 50]]
    assert propose([2.0, 1.0, 0.0], boxes, PROPOSAL_GENERATOR__MIN_SIZE=4) == [boxes[0], boxes[2]]


def test_only_the_best_are_looked_at_and_only_the_best_are_kept():
    boxes = [[x, 0, x + 9, 9] for x in (0, 20, 40, 60)]
    assert propose([1.0, 4.0, 3.0, 2.0], boxes, RPN__PRE_NMS_TOPK_TEST=3) == [boxes[1], boxes[2], boxes[3]]
    assert propose([1.0, 4.0, 3.0, 2.0], boxes, RPN__POST_NMS_TOPK_TEST=2) == [boxes[1], boxes[2]]


def test_anchors_that_reach_too_far_out_are_not_trained_on():
    # Of the two anchors the one that is half outside matches; with a boundary of 0 only the other is an example.
    anchors, truth = torch.tensor([[-10.0, 0, 10, 20], [40, 40, 60, 60]]), [(torch.tensor([[-10.0, 0, 10, 20]]), None)]
    logits, deltas = [torch.tensor([0.0, 0.0])], [torch.zeros(2, 4)]
    losses = {}
    for boundary in (-1, 0):
        network = tiny_model("MODEL.RPN.BOUNDARY_THRESH", boundary).proposal_generator
        losses[boundary] = network.losses(anchors, logits, deltas, [(100, 100)], truth)["loss_rpn_cls"] * 256
    log2 = torch.tensor(2.0).log()  # of a logit of 0, whatever the truth
    torch.testing.assert_close(losses, {-1: 2 * log2, 0: log2})


# ---------------------------------------------------------------------------------------------------------- detections


def select(probs: list, boxes: list, **options):
    """Detections of regions with these probabilities of 3 classes, the rest being background; no deltas."""
    changes = [item for key, value in options.items() for item in (key.replace("__", "."), value)]
    heads = tiny_model("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.5, *changes).roi_heads
    classes = torch.tensor(probs)
    logits = torch.cat((classes, 1 - classes.sum(dim=1, keepdim=True)), dim=1).log()
    deltas = torch.zeros(len(probs), NUM_CLASSES, 4)
    return heads.select(logits, deltas, torch.tensor(boxes, dtype=torch.float32), (100, 100), heads.options)


def test_boxes_of_one_class_suppress_each_other_those_of_another_do_not():
    found = select([[0.9, 0, 0], [0, 0.8, 0], [0.7, 0, 0]], [[0, 0, 10, 10]] * 3)
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])


def test_every_class_above_the_threshold_is_a_detection_of_its_own():
    found = select([[0.3, 0.06, 0.05]], [[0, 0, 10, 10]], MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.055)
    assert found.classes.tolist() == [0, 1]


def test_the_best_detections_are_kept_and_lie_in_the_image():
    boxes = [[-5, 0, 10, 10], [50, 50, 90, 130], [20, 20, 30, 30]]
    found = select([[0.5, 0, 0], [0.9, 0, 0], [0.7, 0, 0]], boxes, TEST__DETECTIONS_PER_IMAGE=2)
    assert found.boxes.tolist() == [[50, 50, 90, 100], [20, 20, 30, 30]]


@pytest.mark.slow
def test_boxes_and_masks_are_at_the_size_that_is_asked_for():
    model, x = tiny_model("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0), an_input()
    instances = model([x])[0]["instances"]
    plain = model([{"image": x["image"]}])[0]["instances"]
    assert instances.image_size == (140, 150) and instances.pred_masks.shape[1:] == (140, 150)
    torch.testing.assert_close(instances.pred_boxes.tensor, plain.pred_boxes.tensor * torch.tensor([1.5, 2, 1.5, 2]))


@pytest.mark.parametrize(
    "nothing", [("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", 1000), ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)]
)
def test_no_proposals_or_detections_give_empty_results_of_right_types(nothing):
    found = tiny_model(*nothing)([an_input()])[0]["instances"]
    assert len(found) == 0 and found.pred_boxes.tensor.shape == (0, 4)
    assert found.pred_masks.shape == (0, 140, 150) and found.pred_masks.dtype == torch.bool
    assert found.scores.dtype == torch.float32 and found.pred_classes.dtype == torch.int64


@pytest.mark.slow
def test_without_masks_it_is_faster_rcnn():
    model = tiny_model("MODEL.MASK_ON", False)
    assert not model([an_input()])[0]["instances"].has("pred_masks")
    assert set(losses_of(model, an_input())) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}


# ------------------------------------------------------------------------------------------------------------ training


def test_at_most_a_quarter_of_the_regions_are_objects_truth_among_them():
    heads = tiny_model().roi_heads
    truth = tiny_model().truth(an_input(((10, 10, 50, 40),)), "photo.jpg")
    proposals = torch.tensor([[10.0, 10, 50, 40 + 0.01 * k] for k in range(100)] + [[60.0, 40, 99, 69]] * 100)
    regions = heads.sample(proposals, truth)
    assert (len(regions.boxes), len(regions.objects)) == (32, 8)
    assert (regions.classes[:8] == 0).all() and (regions.classes[8:] == NUM_CLASSES).all()
    assert heads.sample(torch.zeros(0, 4), truth).boxes.tolist() == [[10, 10, 50, 40]]


@pytest.mark.slow
def test_only_the_mask_of_the_true_class_takes_loss():
    model = tiny_model()
    losses_of(model, an_input(((10, 10, 50, 40),)))["loss_mask"]
    gradient = model.roi_heads.mask_head.predictor.weight.grad.flatten(1).abs().sum(dim=1)
    assert gradient[0] > 0 and gradient[1:].tolist() == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "agnostic", [("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True), ("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True)]
)
def test_one_box_or_mask_may_serve_all_classes(agnostic):
    losses_of(tiny_model(*agnostic), an_input())
    assert len(tiny_model(*agnostic, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)([an_input()])[0]["instances"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["giou", "diou", "ciou"])
def test_losses_of_boxes_may_be_those_of_overlap(loss):
    losses_of(
        tiny_model("MODEL.RPN.BBOX_REG_LOSS_TYPE", loss, "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", loss), an_input()
    )


@pytest.mark.slow
def test_heads_may_be_normalised_and_have_several_convolutions():
    box, mask = "MODEL.ROI_BOX_HEAD.", "MODEL.ROI_MASK_HEAD."
    convolutions = [box + "NUM_CONV", 2, box + "CONV_DIM", 32, mask + "CONV_DIM", 32, "MODEL.RPN.CONV_DIMS", [-1, 24]]
    model = tiny_model(box + "NORM", "GN", mask + "NORM", "GN", *convolutions)
    losses_of(model, an_input(), an_input(()))
    names = set(model.state_dict())
    assert {"roi_heads.box_head.conv2.norm.weight", "proposal_generator.rpn_head.conv.conv1.weight"} <= names


@pytest.mark.slow
def test_masks_may_come_as_bitmaps_a_tensor_or_polygons():
    polygons = PolygonMasks([[torch.tensor([x0, y0, x1, y0, x1, y1, x0, y1])] for x0, y0, x1, y1 in
                             ((10.0, 10, 50, 40), (30.0, 20, 90, 60))])  # fmt: skip
    x = an_input()
    kinds = [x["instances"].gt_masks, x["instances"].gt_masks.tensor, polygons]
    bitmaps, tensor, drawn = (losses_of(tiny_model(), an_input(gt_masks=masks))["loss_mask"] for masks in kinds)
    assert bitmaps == tensor
    torch.testing.assert_close(drawn, bitmaps, atol=0.01, rtol=0)


def test_boxes_that_are_not_given_are_those_around_the_masks():
    x = an_input()
    x["instances"].remove("gt_boxes")
    assert tiny_model().truth(x, "photo.jpg").boxes.tolist() == [[10, 10, 50, 40], [30, 20, 90, 60]]


@pytest.mark.slow
def test_a_sampling_seed_fixes_the_losses():
    model = tiny_model("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 16)
    first, second, other = (losses_of(model, an_input(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["loss_rpn_cls"] != other["loss_rpn_cls"]


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.slow
def test_truth_boxes_that_cannot_be_are_named_counted_and_left_out(caplog):
    bad = ((10, 10, 10, 40), (200, 10, 250, 40), (float("nan"), 0, 5, 5))
    model = tiny_model()
    mixed = losses_of(model, an_input((bad[0], (30, 20, 90, 60), *bad[1:]), gt_classes=torch.tensor([2, 1, 0, 0])))
    clean = losses_of(model, an_input(((30, 20, 90, 60),), gt_classes=torch.tensor([1])))
    assert mixed == clean
    assert "photo.jpg: truth boxes left out" in caplog.text and "(3 in all so far)" in caplog.text
    assert "number 0 [10.0, 10.0, 10.0, 40.0], number 2 [200.0" in caplog.text and "number 3 [nan" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("batch", [[()], [(), ((10, 10, 50, 40),)], [((5, 5, 5, 5),)]])
def test_images_without_truth_train_every_parameter(batch):
    losses_of(tiny_model(), *(an_input(boxes) for boxes in batch))


def test_a_batch_without_a_proposal_and_truth_trains_every_parameter():
    losses_of(tiny_model("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", 1000), an_input(()))


@pytest.mark.parametrize("part", ["objectness_logits", "anchor_deltas"])
@pytest.mark.parametrize("training", [True, False])
def test_a_diverged_proposal_network_is_named_with_its_image(part, training):
    model = tiny_model().train(training)
    getattr(model.proposal_generator.rpn_head, part).bias.data.fill_(float("nan"))
    named = "objectness logits" if part == "objectness_logits" else "box deltas"
    with pytest.raises(FloatingPointError, match=f"region proposal network are not finite: photo.jpg: {named}"):
        model([an_input()])


def test_a_box_head_that_is_not_finite_is_named_at_inference():
    model = tiny_model()
    model.roi_heads.box_predictor.cls_score.bias.data[0] = float("inf")
    with pytest.raises(FloatingPointError, match="box head are not finite: photo.jpg: class logits"):
        model([an_input()])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gt_classes": torch.tensor([0, 3])}, r"photo.jpg: class 3 is in the truth, .* 3 classes \(0 to 2\)"),
        ({"gt_masks": ["a", "b"]}, "photo.jpg: gt_masks must be BitMasks, PolygonMasks or a bool tensor .* got list"),
    ],
)
def test_truth_that_the_model_cannot_take_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_model().train()([an_input(**fields)])


def test_a_training_input_without_truth_is_named():
    with pytest.raises(ValueError, match="photo.jpg: a training input must hold 'instances'"):
        tiny_model().train()([{"image": torch.zeros(3, 64, 64), "file_name": "photo.jpg"}])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "ROI_HEADS.NAME is 'CascadeROIHeads'; MaskRCNN has 'StandardROI"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool", "POOLER_TYPE is 'ROIPool'; MaskRCNN has 'ROIAlignV2' and 'ROIA"),
        ("MODEL.KEYPOINT_ON", True, "KEYPOINT_ON is True"),
        ("MODEL.RPN.IN_FEATURES", ["res4"], r"RPN.IN_FEATURES is \['res4'\], but must be some of .*'p2'"),
    ],
)
def test_what_is_not_built_here_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        build_model(tiny_cfg(key, value))


# -------------------------------------------------------------------------------------------------------------- parity


@pytest.mark.parity
@pytest.mark.parametrize(
    ("published", "overrides"),
    [
        ("d2__COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x", []),
        (
            "d2__COCO-InstanceSegmentation__mask_rcnn_X_101_32x8d_FPN_3x",
            ["MODEL.RESNETS.DEPTH", 101, "MODEL.RESNETS.NUM_GROUPS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 8],
        ),
        ("d2__COCO-PanopticSegmentation__panoptic_fpn_R_50_3x", []),
    ],
)
def test_parameters_are_those_of_the_published_model(fixtures_dir, published, overrides):
    case = "d2_panoptic_fpn_r50" if "panoptic" in published else "d2_mask_rcnn_r50_fpn"
    widths = {"FPN.OUT_CHANNELS": 256, "RESNETS.RES2_OUT_CHANNELS": 256, "RESNETS.STEM_OUT_CHANNELS": 64,
              "RESNETS.WIDTH_PER_GROUP": 64, "ROI_BOX_HEAD.FC_DIM": 1024, "ROI_MASK_HEAD.CONV_DIM": 256,
              "SEM_SEG_HEAD.CONVS_DIM": 128}  # fmt: skip
    wide = [item for key, value in widths.items() for item in (f"MODEL.{key}", value)]
    cfg = load_config(str(fixtures_dir / "parity" / case / "config.yaml"), ["MODEL.DEVICE", "meta", *wide, *overrides])
    expected = json.loads((fixtures_dir / "keys" / f"{published}.json").read_text())
    with torch.device("meta"):
        state = build_model(cfg).state_dict()
    assert {name: list(value.shape) for name, value in state.items()} == expected
