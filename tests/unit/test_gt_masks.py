"""gt_masks of any kind: BitMasks, PolygonMasks, bool (N, H, W)."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks

from mask2former_ext.models.image_model import gt_masks_of, mask_tensor_of

MASK = torch.zeros(1, 8, 8, dtype=torch.bool)
MASK[0, 1:4, 2:6] = True
POLYGONS = PolygonMasks([[[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]])


def instances(masks: object) -> Instances:
    return Instances((8, 8), gt_classes=torch.zeros(1, dtype=torch.int64), gt_masks=masks)


@pytest.mark.parametrize("masks", [BitMasks(MASK), MASK, MASK.to(torch.uint8), POLYGONS], ids=type)
def test_mask_tensor_of_is_the_same_of_every_kind(masks):
    assert torch.equal(mask_tensor_of(instances(masks), "photo.jpg"), MASK)


def test_gt_masks_of_leaves_polygons_as_they_are():
    assert gt_masks_of(instances(POLYGONS), "photo.jpg") is POLYGONS


def test_mask_tensor_of_no_polygons_is_empty_and_of_the_images_size():
    none = Instances((8, 6), gt_classes=torch.zeros(0, dtype=torch.int64), gt_masks=PolygonMasks([]))
    assert mask_tensor_of(none, "photo.jpg").shape == (0, 8, 6)


@pytest.mark.parametrize("masks", [[1], torch.zeros(1, 8)], ids=["list", "two dimensions"])
def test_gt_masks_of_another_kind_are_named(masks):
    with pytest.raises(ValueError, match="photo.jpg: gt_masks must be BitMasks, PolygonMasks or a bool tensor"):
        gt_masks_of(instances(masks), "photo.jpg")


def test_gt_masks_of_truth_without_masks_are_named():
    with pytest.raises(ValueError, match="photo.jpg: gt_masks must be BitMasks, .* got NoneType"):
        gt_masks_of(Instances((8, 8), gt_classes=torch.zeros(0)), "photo.jpg")
