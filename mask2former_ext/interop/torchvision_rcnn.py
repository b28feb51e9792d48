"""torchvision's `maskrcnn_resnet50_fpn` and `fasterrcnn_resnet50_fpn` in Detectron2's names, for `models/mask_rcnn.py`.

A configuration for such weights starts from `configs/mask_rcnn/coco_instance_r50_3x.yaml` and sets

    INPUT.FORMAT RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], MODEL.PIXEL_STD [58.395, 57.12, 57.375]
    MODEL.RESNETS.STRIDE_IN_1X1 False        the stride is in the 3 x 3 convolutions
    MODEL.ANCHOR_GENERATOR.NAME RoundedAnchorGenerator
    MODEL.ROI_BOX_HEAD.POOLER_TYPE and MODEL.ROI_MASK_HEAD.POOLER_TYPE ROIAlign, both POOLER_SAMPLING_RATIO 2
    MODEL.ROI_HEADS.NUM_CLASSES              one less than torchvision's num_classes, 90 for its published weights

Then the pyramid's maps, logits and deltas of the anchors, and what the heads say of given boxes are torchvision's to
1e-4. The differences left, as read in the sources of both:

- Size. An image is scaled to whole pixels, which Detectron2 rounds and torchvision cuts off (500 x 333 to 800 wide is
  532 high there, 533 here); here bytes are scaled, with antialiasing, there normalized numbers, without.
- Padding. There all images of a batch are padded to one size; here those of one padded size run together.
- Anchors of p6. Where p5 has an odd number of rows or columns, torchvision takes the padded image's side over p6's as
  the stride, cut off to a whole number (25 rows: 800 // 13 = 61); here it is 64.
- Small boxes. Proposals of less than 0.001 px fall away there, here of PROPOSAL_GENERATOR.MIN_SIZE (0) or less.
  Detections of less than 0.01 px fall away there before the best hundred are counted; here those without area
  do, at the output size, after it.
- Order of proposals. There by probability, of which many may be exactly 1; here by logit.
- Clipping. There boxes are cut at the edge of the model's input; here at that of the result, too.
- Masks. There numbers in [0, 1], drawn on whole pixels in a box that is rounded to them and has a border of one cell;
  here bool, sampled at the centers of pixels in the box as it is.
- Batch norms. With its first published weights (COCO_V1) torchvision adds nothing to the variance, else 1e-5 as here. A
  file under the names of that time counts as one of these. A file saved from such a model later looks like the others.
- Classes. There 1..K, 0 is the background; here 0..K-1.
- Training. There the losses of the proposal network are means over the anchors drawn, here sums over as many as should
  be; smooth L1 is quadratic below 1 / 9 there, here below SMOOTH_L1_BETA (0); a mask's target is the covered share of a
  cell there, here whether that is half or more.

The same on both sides: the limit of a box's growth (1000 / 16), the best of each level before and of all after
suppression, suppression by level and by class, sampling, and which level a box is read from.
"""

from __future__ import annotations

from torch import Tensor

from mask2former_ext.interop.foreign_names import BATCH_NORM_EPS, detectron2_resnet_name

_RPN, _HEADS = "proposal_generator.rpn_head.", "roi_heads."
_FPN = "backbone.fpn"
_FIRST_NAME = "rpn.head.conv.weight"  # of the first published weights; now rpn.head.conv.0.0.weight
# The beginnings of its names -> of Detectron2's; some have a .0 more since torchvision's layers can hold a norm.
_BEGINNINGS = {
    **{f"{_FPN}.inner_blocks.{n}{more}.": f"{_FPN}_lateral{n + 2}." for n in range(4) for more in ("", ".0")},
    **{f"{_FPN}.layer_blocks.{n}{more}.": f"{_FPN}_output{n + 2}." for n in range(4) for more in ("", ".0")},
    "rpn.head.conv.": _RPN + "conv.",
    "rpn.head.conv.0.0.": _RPN + "conv.",
    "rpn.head.cls_logits.": _RPN + "objectness_logits.",
    "rpn.head.bbox_pred.": _RPN + "anchor_deltas.",
    "roi_heads.box_head.fc6.": _HEADS + "box_head.fc1.",
    "roi_heads.box_head.fc7.": _HEADS + "box_head.fc2.",
    **{f"roi_heads.mask_head.{n}.0.": f"{_HEADS}mask_head.mask_fcn{n + 1}." for n in range(4)},
    "roi_heads.mask_predictor.conv5_mask.": _HEADS + "mask_head.deconv.",
    "roi_heads.mask_predictor.mask_fcn_logits.": _HEADS + "mask_head.predictor.",
}


def is_torchvision_rcnn(state: dict[str, Tensor]) -> bool:
    return "rpn.head.cls_logits.weight" in state


def from_torchvision_rcnn(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of torchvision's `maskrcnn_resnet50_fpn` or `fasterrcnn_resnet50_fpn` under Detectron2's names."""
    batch_norm_eps = 0 if _FIRST_NAME in state else BATCH_NORM_EPS
    converted = {}
    for name, value in state.items():
        ours = _our_name(name)
        if name.startswith("roi_heads.box_predictor.cls_score."):
            value = value.roll(-1, dims=0)  # the background from the first place to the last
        elif name.startswith("roi_heads.box_predictor.bbox_pred."):
            value = value[4:]  # no box of the background
        elif name.startswith("roi_heads.mask_predictor.mask_fcn_logits."):
            value = value[1:]  # and no mask
        elif ours.endswith("norm.running_var"):
            value = value + (batch_norm_eps - BATCH_NORM_EPS)
        converted[ours] = value
    return converted


def _our_name(name: str) -> str:
    if name.startswith("backbone.body."):
        return "backbone.bottom_up." + detectron2_resnet_name(name.removeprefix("backbone.body."))
    beginning = max((start for start in _BEGINNINGS if name.startswith(start)), key=len, default="")
    return _BEGINNINGS.get(beginning, "") + name.removeprefix(beginning)
