"""From the size that a model saw to the output size."""

from __future__ import annotations

import torch.nn.functional as F
from detectron2.layers import paste_masks_in_image
from detectron2.structures import Instances
from torch import Tensor


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Instances of an image resized to `results.image_size`, in the image at its output size.

    Boxes are scaled and clipped, those that become empty are dropped, mask squares (N, 1, M, M) are put in the image as
    bool (N, H, W), keypoints are scaled. The input is left as it is.
    """
    scale_x, scale_y = output_width / results.image_size[1], output_height / results.image_size[0]
    scaled = Instances((output_height, output_width), **results.get_fields())
    name = "pred_boxes" if scaled.has("pred_boxes") else "proposal_boxes"
    assert scaled.has(name), "detections need pred_boxes or proposal_boxes to be scaled"
    boxes = scaled.get(name).clone()
    boxes.scale(scale_x, scale_y)
    boxes.clip(scaled.image_size)
    scaled.set(name, boxes)
    scaled = scaled[boxes.nonempty()]

    if scaled.has("pred_masks"):
        squares = scaled.pred_masks[:, 0]
        scaled.pred_masks = paste_masks_in_image(squares, scaled.get(name), scaled.image_size, mask_threshold)
    if scaled.has("pred_keypoints"):
        scaled.pred_keypoints = scaled.pred_keypoints * scaled.pred_keypoints.new_tensor([scale_x, scale_y, 1.0])
    return scaled


def sem_seg_postprocess(result: Tensor, img_size: tuple[int, int], output_height: int, output_width: int) -> Tensor:
    """(C, H, W) scores of a padded image -> (C, output_height, output_width), its padding cut off, bilinear."""
    inside = result[None, :, : img_size[0], : img_size[1]]
    return F.interpolate(inside, size=(output_height, output_width), mode="bilinear", align_corners=False)[0]
