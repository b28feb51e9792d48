"""Detectron2's own Mask R-CNN and Panoptic FPN, where the real one is installed: the same numbers of the same weights.

Samples are so large that nothing is left to chance.
"""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from tests.rcnn import an_input, panoptic_cfg

EVERYTHING = ["MODEL.RPN.BATCH_SIZE_PER_IMAGE", 10**6, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 10**6]
NAMES = {"MaskRCNN": "GeneralizedRCNN", "PanopticFeaturePyramid": "PanopticFPN"}
VARIANTS = [
    [],
    ["MODEL.MASK_ON", False, "MODEL.RPN.BOUNDARY_THRESH", 0],
    ["MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign", "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 2],
    ["MODEL.RPN.BBOX_REG_LOSS_TYPE", "giou", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "giou"],
    ["MODEL.RPN.SMOOTH_L1_BETA", 0.5, "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", 1.0, "MODEL.RPN.LOSS_WEIGHT", 2.0],
    ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True, "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True],
    ["MODEL.RPN.CONV_DIMS", [-1, 24], "MODEL.ROI_MASK_HEAD.NORM", "GN", "MODEL.ROI_MASK_HEAD.CONV_DIM", 32],
    ["MODEL.ANCHOR_GENERATOR.OFFSET", 0.5, "MODEL.ANCHOR_GENERATOR.SIZES", [[16, 24]], "MODEL.FPN.FUSE_TYPE", "avg"],
    ["MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", 2.0, "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 0.5],
]


def both(architecture: str, *overrides) -> tuple[nn.Module, nn.Module]:
    """Our model and Detectron2's, with the same random weights."""
    cfg = panoptic_cfg("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.1, *overrides)
    cfg.MODEL.META_ARCHITECTURE = NAMES[architecture]
    try:
        theirs = build_model(cfg)
    except ImportError as error:
        pytest.skip(f"Detectron2's own models are absent: {str(error).splitlines()[0]}")
    cfg.MODEL.META_ARCHITECTURE = architecture
    ours = build_model(cfg)
    for part in ("cls_score", "bbox_pred"):
        getattr(ours.roi_heads.box_predictor, part).weight.data *= 30  # so that there is something to tell apart
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not unexpected and all("cell_anchors" in name or "pixel" in name for name in missing)
    return ours, theirs


def inputs() -> list[dict]:
    first, second = an_input(), an_input(((5, 5, 60, 30),))
    second["image"] = second["image"].flip(2)
    labels = torch.arange(70 * 100).view(70, 100) % 4
    labels[:, :20] = 255
    return [{**first, "sem_seg": labels}, {**second, "sem_seg": labels.flip(1)}]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(map(str, variant)) or "plain")
@pytest.mark.parametrize("architecture", NAMES)
def test_losses_and_gradients_are_those_of_detectron2(architecture, variant):
    if architecture == "PanopticFeaturePyramid" and "MODEL.MASK_ON" in variant:
        pytest.skip("Panoptic FPN needs masks")
    ours, theirs = both(architecture, *EVERYTHING, *variant)
    with EventStorage(0):
        expected = theirs.train()(copy.deepcopy(inputs()))
    losses = ours.train()(inputs())
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(
            loss, expected[name], atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    sum(losses.values()).backward()
    sum(expected.values()).backward()
    wanted = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    for name, p in ours.named_parameters():
        difference = (p.grad - wanted[name]).norm() / wanted[name].norm().clamp(min=1e-6)
        assert difference < 1e-2, name


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(map(str, variant)) or "plain")
def test_detections_are_those_of_detectron2(variant):
    ours, theirs = both("MaskRCNN", *variant)
    with torch.no_grad():
        expected = theirs.eval()([inputs()[0]])[0]["instances"]
        found = ours.eval()([inputs()[0]])[0]["instances"]
    assert len(found) == len(expected) > 5
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-2, rtol=0)
    assert torch.equal(found.pred_classes, expected.pred_classes)
    if "MODEL.MASK_ON" not in variant:
        assert (found.pred_masks != expected.pred_masks).float().mean() < 1e-3


def test_panoptic_segments_are_those_of_detectron2():
    ours, theirs = both("PanopticFeaturePyramid", "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 100)
    for model in (ours, theirs):
        model.roi_heads.box_predictor.cls_score.weight.data /= 20  # else many score 1, in no stable order
    with torch.no_grad():
        expected, found = (model.eval()([inputs()[0]])[0] for model in (theirs, ours))
    assert len(found["instances"].scores.unique()) == len(found["instances"]), "ties: the merge goes by scores"
    torch.testing.assert_close(found["sem_seg"], expected["sem_seg"], atol=1e-4, rtol=1e-4)
    (ids, segments), (expected_ids, expected_segments) = found["panoptic_seg"], expected["panoptic_seg"]
    assert (ids != expected_ids).float().mean() < 1e-3 and len(segments) == len(expected_segments) > 1
    for segment, wanted in zip(segments, expected_segments, strict=True):
        assert {key: segment[key] for key in ("id", "isthing", "category_id")} == {
            key: wanted[key] for key in ("id", "isthing", "category_id")
        }
