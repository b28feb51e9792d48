"""Maps and masks inside boxes: on ramps, whose bilinear values are known."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import BitMasks

from mask2former_ext.layers.rcnn import roi_align as roi_align_module
from mask2former_ext.layers.rcnn.roi_align import PyramidRoIAlign, crop_masks

STRIDES = [4, 8, 16, 32]


def ramp() -> torch.Tensor:
    """A map (1, 1, 8, 8) whose value is the number of the column: cell c has its center at pixel 4 c + 2."""
    return torch.arange(8.0).expand(1, 1, 8, 8)


def pooler(output_size: int = 2, strides=(4,), **options) -> PyramidRoIAlign:
    return PyramidRoIAlign(output_size, strides=strides, **{"sampling_ratio": 2, "aligned": True, **options})


def test_an_aligned_cell_reads_the_map_at_its_own_center():
    # pixels 8 to 24 are columns 1.5 to 5.5 between centers; two cells have theirs at 2.5 and 4.5
    pooled = pooler()([ramp()], [torch.tensor([[8.0, 8, 24, 24]])])
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[2.5, 4.5], [2.5, 4.5]]))


def test_the_older_kind_reads_half_a_cell_further():
    pooled = pooler(aligned=False)([ramp()], [torch.tensor([[8.0, 8, 24, 24]])])
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[3.0, 5.0], [3.0, 5.0]]))


def test_boxes_are_not_rounded_to_cells():
    # pixels 9 to 25: a quarter of a column further
    pooled = pooler()([ramp()], [torch.tensor([[9.0, 8, 25, 24]])])
    torch.testing.assert_close(pooled[0, 0, 0], torch.tensor([2.75, 4.75]))


@pytest.mark.parametrize(("side", "position"), [(10, 0), (111, 0), (113, 1), (223, 1), (224, 2), (447, 2), (2000, 3)])
def test_a_box_is_read_from_the_level_that_suits_its_size(side, position):
    box = torch.tensor([[0.0, 0, side, side]])
    assert pooler(strides=STRIDES).positions(box).tolist() == [position]


def test_a_long_box_goes_by_its_area():
    assert pooler(strides=STRIDES).positions(torch.tensor([[0.0, 0, 448, 112]])).tolist() == [2]  # as 224 x 224


def test_every_region_comes_from_its_image_and_level_in_order():
    # a map of level l holds 10 for the first image, 20 for the second, plus l
    maps = [torch.tensor([10.0, 20.0])[:, None, None, None].expand(2, 1, 16, 16) + level for level in range(4)]
    small, large = [0.0, 0, 20, 20], [0.0, 0, 300, 300]
    boxes = [torch.tensor([large, small]), torch.zeros(0, 4), torch.tensor([small])]
    pooled = pooler(1, strides=STRIDES)([*(torch.cat((x[:1], x[:1], x[1:])) for x in maps)], boxes)
    assert pooled.flatten().tolist() == [12, 10, 20]


def test_threads_give_the_numbers_of_one(monkeypatch):
    feature, corner = torch.randn(2, 3, 30, 40), torch.rand(200, 2) * 80
    boxes = list(torch.cat((corner, corner + 1 + torch.rand(200, 2) * 60), dim=1).split(100))
    threads = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads.append(1) or 3)
    several = pooler(7)([feature], boxes)
    single = pooler(7)([feature.requires_grad_()], boxes)  # where a gradient is needed
    assert threads and torch.equal(several, single)


def test_no_boxes_give_no_regions():
    maps = [torch.zeros(1, 5, 4, 4) for _ in STRIDES]
    assert pooler(7, strides=STRIDES)(maps, [torch.zeros(0, 4)]).shape == (0, 5, 7, 7)


def test_strides_that_skip_a_level_are_refused():
    with pytest.raises(ValueError, match=r"strides that double .* got \[4, 16\]"):
        pooler(strides=[4, 16])


def test_a_mask_is_cropped_to_where_it_covers_half_of_a_cell():
    # the left three of four columns; a box of the whole picture in cells of 2 x 2: the right cells are half covered
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[1, :, :3] = True
    boxes = torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 4], [2.0, 0, 4, 4]])
    cropped = crop_masks(masks, torch.tensor([1, 0, 1]), boxes, 2)
    assert cropped.tolist() == [[[True, True]] * 2, [[False, False]] * 2, [[True, False]] * 2]


def test_crops_are_those_of_detectron2_whatever_memory_is_allowed(monkeypatch):
    masks, index = torch.rand(6, 30, 40) > 0.5, torch.tensor([5, 0, 0, 3, 1, 5, 4])
    corner = torch.rand(7, 2) * 15
    boxes = torch.cat((corner, corner + 2 + torch.rand(7, 2) * 12), dim=1)
    expected = BitMasks(masks[index]).crop_and_resize(boxes, 14)
    assert torch.equal(crop_masks(masks, index, boxes, 14), expected)
    monkeypatch.setattr(roi_align_module, "CHUNK_BYTES", 2 * 4 * 30 * 40)
    assert torch.equal(crop_masks(masks, index, boxes, 14), expected)
