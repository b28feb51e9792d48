"""Which segments are named, where their names go, and which regions are outlined; maps and pixels counted by hand."""

from __future__ import annotations

import numpy as np

from mask2former_ext.classes import ClassTable
from mask2former_ext.inference import drawing
from mask2former_ext.inference.label_places import apart, label_centers, worth_naming
from mask2former_ext.inference.regions import without_specks
from mask2former_ext.inference.segmentation import class_map_segmentation, panoptic_segmentation

SIZE, NAME = 100 * 100, (20.0, 10.0)  # a name covers 200 pixels


def test_of_each_class_the_largest_segment_is_named_whatever_its_size():
    assert worth_naming(["dog", "dog", "cat"], [50, 60, 1], [NAME] * 3, SIZE, most=0.25) == [1, 2]


def test_a_name_comes_again_where_it_leaves_most_of_its_segment_to_be_seen():
    assert worth_naming(["dog"] * 3, [2000, 900, 700], [NAME] * 3, SIZE, most=0.25) == [0, 1]  # 200 of 900, of 700


def test_names_that_come_again_leave_most_of_the_picture_to_be_seen():
    # 4% of 10,000 pixels are two names besides the first
    assert worth_naming(["dog"] * 5, [900, 901, 902, 903, 904], [NAME] * 5, SIZE, most=0.25) == [2, 3, 4]


def test_a_segment_that_is_not_seen_is_not_named():
    assert worth_naming(["dog"], [0], [NAME], SIZE, most=0.25) == []


def test_a_name_goes_where_it_hides_no_thing():
    index_map = np.zeros((100, 200), dtype=np.uint8)
    index_map[50:54, 100:104] = 1
    above = np.zeros((100, 200), dtype=bool)
    above[40:50] = True
    ((x, y),) = label_centers(index_map, [(100, 50, 104, 54)], [(40, 10)], above)
    assert (x, y) == (102, 59)  # below: 54 + 10 / 2


def test_a_thing_narrower_than_its_name_has_it_above_itself():
    index_map = np.zeros((100, 200), dtype=np.uint8)
    index_map[30:90, 100:112] = 1
    ((x, y),) = label_centers(index_map, [(100, 30, 112, 90)], [(40, 10)], index_map > 0)
    assert (x, y) == (106, 25)  # 30 - 10 / 2
    ((x, y),) = label_centers(index_map, [(100, 30, 112, 90)], [(40, 10)])
    assert 100 <= x < 112 and 30 <= y < 90


def test_a_name_without_a_free_place_is_left_out():
    index_map = np.zeros((100, 200), dtype=np.uint8)
    index_map[50:54, 100:104] = 1
    everywhere = np.ones((100, 200), dtype=bool)
    assert np.isnan(label_centers(index_map, [(100, 50, 104, 54)], [(40, 10)], everywhere)).all()


def test_of_two_names_on_each_other_the_first_is_kept():
    assert apart([(10, 10), (15, 12), (40, 10)], [NAME] * 3) == [0, 2]


def test_stray_pixels_go_to_what_lies_around_them():
    index_map = np.full((60, 80), 1, dtype=np.uint8)
    index_map[20:40, 20:40] = 2
    clean = index_map.copy()
    index_map[5:7, 5:7], index_map[30, 30] = 2, 0
    solid, boxes = without_specks(index_map, [(0, 0, 80, 60), (5, 5, 40, 40)], 5)
    assert (solid == clean).all() and boxes == [(0, 0, 80, 60), (20, 20, 40, 40)]


def test_regions_of_enough_pixels_stay():
    index_map = np.full((60, 80), 1, dtype=np.uint8)
    index_map[5:7, 5:8] = 2  # six
    assert (without_specks(index_map, [(0, 0, 80, 60), (5, 5, 8, 7)], 6)[0] == index_map).all()


def test_a_map_of_specks_alone_stays():
    index_map = np.full((2, 2), 1, dtype=np.uint8)
    assert (without_specks(index_map, [(0, 0, 2, 2)], 9)[0] == index_map).all()


def test_a_stray_pixel_has_its_color_and_no_rim_around_it():
    class_map = np.zeros((100, 100), dtype=int)
    class_map[50, 50] = 1
    found = class_map_segmentation(class_map, ClassTable(("sky", "car")), 2)
    picture = drawing.draw(np.zeros((100, 100, 3), np.uint8), found, alpha=0.5, legend="inside")
    sky = found.segments[0].color
    assert np.abs(picture[50, 51] - np.array(sky) / 2).max() <= 1  # mixed with black, as the sky's inside is
    assert picture[50, 50].tolist() != picture[50, 51].tolist()


def test_a_picture_has_the_size_of_its_image_whatever_the_legend():
    found = class_map_segmentation(np.zeros((40, 60), dtype=int), None, 1)
    sizes = [drawing.draw(np.zeros((40, 60, 3), np.uint8), found, legend=where).shape for where in ("names", "inside")]
    assert sizes == [(40, 60, 3)] * 2


def test_by_instance_things_differ_and_stuff_keeps_its_color():
    halves = np.repeat([[1] * 30 + [2] * 30 + [3] * 30], 40, axis=0)
    segments = [{"id": i, "category_id": 1 if i < 3 else 0, "isthing": i < 3} for i in (1, 2, 3)]
    found = panoptic_segmentation((halves, segments), ClassTable(("grass", "dog"), (False, True)))
    by_class, by_instance = drawing.segment_colors(found), drawing.segment_colors(found, "instance")
    assert by_class[0] == by_class[1] and by_instance[0] != by_instance[1] and by_instance[2] == by_class[2]
