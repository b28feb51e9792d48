"""The web page in a real browser: what a person does with mouse, keyboard and phone."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
from PIL import Image

from tests.web_page import PHONE, drop, expect_message, needs_browser, playwright, segments
from tests.web_server import StandInPredictor, clip, picture, served

pytestmark = needs_browser
LEFT, RIGHT = 0.25, 0.75


@pytest.fixture(scope="module")
def tiny(repository):
    """A real model of the shapes data that has learned nothing."""
    import torch

    import mask2former_ext as m

    cfg = m.load_config(str(repository / "configs/mask2former/shapes_panoptic.yaml"), ["MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    return m.Predictor(cfg)


@pytest.fixture(scope="module")
def address(tiny):
    web = importlib.import_module("mask2former_ext.web.app")
    models = {"first": StandInPredictor(), "detector": StandInPredictor("instance", is_covered=True), "tiny": tiny}
    answerer = web.Answerer(models, web.Limits(max_bytes=100_000))
    with served(web.build_app(answerer, max_waiting=40)) as address:
        yield address


def point(page, x: float, *, click: bool = False) -> None:
    box = page.locator("#viewer canvas").bounding_box()
    act = page.mouse.click if click else page.mouse.move
    act(box["x"] + x * box["width"], box["y"] + box["height"] / 2)


def color_at(page, x: float) -> list[int]:
    """RGB of the drawn picture at x of its width and half its height."""
    code = "(c, x) => Array.from(c.getContext('2d').getImageData(Math.floor(x * c.width), c.height / 2, 1, 1).data)"
    return page.eval_on_selector("#viewer canvas", code, x)[:3]


def test_a_dropped_picture_is_answered_with_its_segments(page):
    drop(page)
    assert segments(page) == ["dog, score 0.90, 1,200 px (50%)", "cat, score 0.40, 1,200 px (50%)"]


def test_the_segments_are_painted_over_the_picture(page):
    drop(page)
    left, right = color_at(page, LEFT), color_at(page, RIGHT)
    assert len(set(left)) > 1 and len(set(right)) > 1 and left != right  # the picture itself is gray


def test_pointing_at_a_segment_names_it(page):
    drop(page)
    point(page, LEFT)
    playwright.expect(page.locator("#viewer .tip")).to_have_text("dog, score 0.90, 1,200 px (50%)")
    point(page, RIGHT)
    playwright.expect(page.locator("#viewer .tip")).to_have_text("cat, score 0.40, 1,200 px (50%)")


def test_a_click_keeps_a_segments_text_and_a_second_one_lets_go(page):
    drop(page)
    point(page, RIGHT, click=True)
    playwright.expect(page.locator("#viewer .detail")).to_contain_text("cat, score 0.40")
    point(page, RIGHT, click=True)
    playwright.expect(page.locator("#viewer .detail")).to_have_text("")


def test_another_task_is_asked_for_without_choosing_the_file_again(page):
    drop(page)
    page.get_by_role("radio", name="semantic").check()
    expect_message(page, "(semantic)")
    assert segments(page) == ["dog, 1,200 px (50%)", "cat, 1,200 px (50%)"]


def test_the_threshold_changes_what_is_found(page):
    drop(page)
    page.get_by_role("spinbutton").fill("0.6")
    expect_message(page, "1 segment ")
    assert segments(page) == ["dog, score 0.90, 1,200 px (50%)"]


def test_each_task_begins_with_its_own_threshold(page):
    page.get_by_role("radio", name="instance").check()
    playwright.expect(page.get_by_role("spinbutton")).to_have_value("0.5")
    page.get_by_role("radio", name="semantic").check()
    playwright.expect(page.get_by_role("spinbutton")).to_have_value("0")


def test_another_model_offers_its_own_tasks(page):
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="detector").click()
    playwright.expect(page.get_by_role("radio")).to_have_count(1)
    playwright.expect(page.get_by_role("radio", name="instance")).to_be_checked()


def test_a_real_model_answers_with_its_classes(page, tiny):
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="tiny").click()
    drop(page, picture(size=(128, 128)))
    page.get_by_role("radio", name="semantic").check()
    expect_message(page, "(semantic)")
    found = {text.split(",")[0] for text in segments(page)}
    assert found and found <= set(tiny.classes.names)


def test_a_class_can_be_hidden_and_shown_again(page):
    drop(page)
    painted = color_at(page, LEFT)
    page.get_by_role("checkbox", name="dog").uncheck()
    assert [text.split(",")[0] for text in segments(page)] == ["cat"]
    assert len(set(color_at(page, LEFT))) == 1  # gray, as the picture is
    page.get_by_role("button", name="All").click()
    assert len(segments(page)) == 2 and color_at(page, LEFT) == painted


def test_what_a_hidden_instance_covered_is_seen(page):
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="detector").click()
    playwright.expect(page.get_by_role("radio")).to_have_count(1)  # now the threshold is the model's own too
    page.get_by_role("spinbutton").fill("0.3")
    drop(page)
    expect_message(page, "2 segments")
    dog, cat = color_at(page, LEFT), color_at(page, RIGHT)
    page.get_by_role("checkbox", name="dog").uncheck()
    left = color_at(page, LEFT)
    assert len(set(left)) > 1 and left != dog  # painted, as the cat is, over a darker part of the picture
    page.get_by_role("button", name="All").click()
    assert (color_at(page, LEFT), color_at(page, RIGHT)) == (dog, cat)


def test_the_label_file_can_be_downloaded(page, tmp_path):
    drop(page, name="street.png")
    with page.expect_download() as download:
        page.get_by_role("link", name="Labels").click()
    assert download.value.suggested_filename == "street_panoptic_labels.png"
    download.value.save_as(tmp_path / "labels.png")
    assert np.asarray(Image.open(tmp_path / "labels.png"))[0, [0, -1]].tolist() == [[1, 0, 0], [2, 0, 0]]


def test_the_json_can_be_downloaded(page, tmp_path):
    drop(page, name="street.png")
    with page.expect_download() as download:
        page.get_by_role("link", name="json").click()
    download.value.save_as(tmp_path / "street.json")
    assert [s["name"] for s in json.loads((tmp_path / "street.json").read_text())["panoptic"]] == ["dog", "cat"]


def test_a_short_video_plays_with_what_was_found(page):
    drop(page, clip(), "way.mp4")
    assert page.locator("#viewer canvas").is_hidden() and page.get_by_role("link", name="Tracks").is_visible()
    page.wait_for_function("document.querySelector('#viewer video').duration > 0.5")


def test_a_bad_file_gets_a_message_and_the_page_goes_on(page):
    drop(page, b"no picture", "b.png")
    expect_message(page, "b.png is no picture or video that can be read")
    assert "Traceback" not in page.content()
    drop(page)
    assert len(segments(page)) == 2


def test_a_file_above_the_limit_is_refused_before_it_is_sent(page):
    page.set_input_files("#picker input", {"name": "big.png", "mimeType": "image/png", "buffer": bytes(100_001)})
    playwright.expect(page.locator("#viewer .told.error")).to_contain_text("at most 0.1 MB are taken")


def test_names_from_outside_are_text_and_no_markup(page):
    drop(page, name="<img src=x onerror=alert(1)>.png")
    assert page.locator("#viewer .told img").count() == 0


def test_the_page_can_be_used_by_keyboard_alone(page):
    # Playwright does not wait until the page passes file choosers on to it. A key press may overtake that, but not what
    # is evaluated before the press.
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Tab")
        while not page.locator("#picker input").evaluate("e => e === document.activeElement"):
            page.keyboard.press("Tab")
        page.keyboard.press("Space")
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": picture()})
    expect_message(page, "a.png")
    visited, focused = set(), ""
    while not focused.startswith("cat, score"):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.innerText || document.activeElement.value")
        visited.add(focused)
    assert {"panoptic", "dog"} <= visited
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#viewer .detail")).to_contain_text("cat, score 0.40")
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#viewer .detail")).to_have_text("")


def test_nothing_is_wider_than_a_phone(page):
    page.set_viewport_size(PHONE)
    drop(page, picture(size=(480, 640)))
    widest = page.evaluate("document.documentElement.scrollWidth")
    assert widest <= PHONE["width"]
    assert page.locator("#viewer canvas").bounding_box()["width"] >= 0.9 * PHONE["width"]


def test_a_thin_picture_is_shown(page):
    drop(page, picture(size=(1, 900)))
    assert len(set(color_at(page, LEFT))) > 1


def test_the_page_keeps_nothing_in_the_browser(page):
    drop(page)
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert "dog" not in kept and "a.png" not in kept
