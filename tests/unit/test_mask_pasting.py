"""Masks of a mask head, put into the image."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import paste_masks_in_image

from mask2former_ext.layers.rcnn import mask_pasting
from mask2former_ext.layers.rcnn.mask_pasting import paste_masks


def test_a_cell_becomes_the_pixels_nearest_to_it():
    # Four pixels of a side hold two cells. Seen from cell 0 the pixels weigh 0.75 (at the border the mask fades), 0.75,
    # 0.25 and 0: the product of two weights reaches one half in the first two rows and columns.
    mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    pasted = paste_masks(mask, torch.tensor([[1.0, 1, 5, 5]]), (6, 7))
    expected = torch.zeros(6, 7, dtype=torch.bool)
    expected[1:3, 1:3] = True
    assert torch.equal(pasted[0], expected)


def test_a_full_mask_fills_its_box_and_nothing_else():
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[2.0, 1, 9, 5]]), (8, 12))[0]
    assert pasted[1:5, 2:9].all() and pasted.sum() == 4 * 7


def test_a_pixel_belongs_to_a_box_that_holds_its_center():
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[1.4, 0.6, 3.4, 2.6]]), (4, 5))[0]
    assert torch.nonzero(pasted).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]  # not column 3, whose center is 3.5


def test_the_threshold_is_the_value_reached():
    even = torch.full((1, 2, 2), 0.5)
    box = torch.tensor([[-10.0, -10, 14, 14]])  # far beyond the picture: no fading inside
    assert paste_masks(even, box, (4, 4)).all() and not paste_masks(even, box, (4, 4), threshold=0.51).any()


@pytest.mark.parametrize("size", [(37, 53), (200, 31)])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_masks_are_those_of_detectron2(monkeypatch, size, chunk):
    monkeypatch.setattr(mask_pasting, "CPU_CHUNK_BYTES", chunk)
    corner = torch.rand(20, 2) * torch.tensor([size[1], size[0]]) * 0.8
    boxes = torch.cat((corner, corner + torch.rand(20, 2) * 60 + 0.5), dim=1)
    boxes = boxes.clamp(min=0).minimum(torch.tensor([size[1], size[0]] * 2))
    masks = torch.rand(20, 28, 28)
    expected = paste_masks_in_image(masks, boxes, size)
    assert (paste_masks(masks, boxes, size) != expected).sum() <= 1e-4 * expected.numel()  # of values at the threshold


def test_no_masks_give_none_of_the_right_size():
    pasted = paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6))
    assert pasted.shape == (0, 5, 6) and pasted.dtype == torch.bool


def test_a_box_without_area_holds_nothing():
    assert not paste_masks(torch.ones(1, 28, 28), torch.tensor([[3.0, 1, 3, 4]]), (6, 6)).any()


@pytest.mark.gpu
def test_a_gpu_pastes_what_a_processor_does(monkeypatch):
    monkeypatch.setattr(mask_pasting, "GPU_CHUNK_BYTES", 3 * 4 * 50 * 60)
    masks, corner = torch.rand(10, 28, 28), torch.rand(10, 2) * 30
    boxes = torch.cat((corner, corner + 20), dim=1)
    expected = paste_masks(masks, boxes, (50, 60))
    assert (paste_masks(masks.cuda(), boxes.cuda(), (50, 60)).cpu() != expected).sum() <= 3
