"""The web page in a real browser while a slow model answers, and what a person takes home of the answer."""

from __future__ import annotations

import importlib
import queue
import re

import pytest
from PIL import Image

from tests.web_page import PHONE, choose, drop, expect_message, needs_browser, playwright, segments
from tests.web_server import StandInPredictor, WaitingPredictor, clip, picture, served, upload

pytestmark = needs_browser
LARGE = (480, 640)  # so that names fit


class FailingPredictor(StandInPredictor):
    """Fails, as one whose memory is full."""

    def __call__(self, *_: object, **__: object) -> object:
        raise RuntimeError("out of memory")


@pytest.fixture(scope="module")
def slow():
    return WaitingPredictor()


@pytest.fixture(scope="module")
def stops():
    """What the server is told to stop."""
    return queue.Queue()


@pytest.fixture(scope="module")
def address(slow, stops):
    web = importlib.import_module("mask2former_ext.web.app")

    class Watched(web.Answerer):
        def stop(self, ticket: object) -> None:
            super().stop(ticket)
            stops.put(ticket)

    models = {"slow": slow, "quick": StandInPredictor(), "failing": FailingPredictor()}
    answerer = Watched(models, web.Limits(max_bytes=100_000))
    with served(web.build_app(answerer, max_waiting=40)) as address:
        yield address
        slow.go_on.set()


@pytest.fixture(autouse=True)
def busy(slow, stops):
    """The slow model answers when a test says so, and in any case afterwards."""
    slow.was_called.clear()
    slow.go_on.clear()
    slow.requests.clear()
    yield
    slow.go_on.set()
    while not stops.empty():
        stops.get()


def expect_waiting(page, text: str | re.Pattern) -> None:
    playwright.expect(page.locator("#viewer .waiting")).to_contain_text(text)


def choose_model(page, model: str) -> None:
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name=model).click()
    playwright.expect(page.get_by_role("heading", name=model)).to_be_visible()


def is_in_view(page, selector: str) -> bool:
    box = page.locator(selector).bounding_box()
    return box["y"] >= 0 and box["y"] + 100 <= page.viewport_size["height"]


def test_the_first_picture_shows_at_once_with_what_happens(page):
    choose(page)
    expect_waiting(page, re.compile(r"Segmenting a\.png\s+… [1-9]\d* s"))
    assert page.locator("#viewer .preview").is_visible() and page.locator("#viewer .start").is_hidden()
    assert page.locator("#viewer .told").inner_text() == ""


def test_while_another_picture_is_segmented_the_old_answer_is_gone(page, slow):
    slow.go_on.set()
    drop(page)
    slow.go_on.clear()
    choose(page, name="b.png")
    expect_waiting(page, "Segmenting b.png")
    assert page.locator("#viewer canvas").is_hidden() and page.locator("#viewer .found").is_hidden()


def test_another_threshold_keeps_the_dimmed_answer_of_the_same_picture(page, slow):
    slow.go_on.set()
    drop(page)
    slow.go_on.clear()
    page.get_by_role("spinbutton").fill("0.6")
    expect_waiting(page, "Segmenting a.png")
    playwright.expect(page.locator("#viewer .frame.dim canvas")).to_be_visible()
    slow.go_on.set()
    expect_message(page, "1 segment ")
    playwright.expect(page.locator("#viewer .waiting")).to_be_hidden()


def test_cancel_ends_the_waiting_and_a_late_answer_is_not_shown(page, slow):
    choose(page)
    expect_waiting(page, "Segmenting")
    page.get_by_role("button", name="Cancel").click()
    expect_message(page, "a.png: canceled.")
    slow.go_on.set()
    drop(page, name="b.png")  # answered after the late one
    assert "b.png" in page.locator("#viewer .told").inner_text()


def test_cancel_stops_a_video_on_the_server(page, slow, stops):
    choose(page, clip(), "way.mp4")
    expect_waiting(page, "Segmenting way.mp4")
    slow.was_called.wait()
    page.get_by_role("button", name="Cancel").click()
    stops.get()
    slow.go_on.set()
    drop(page)
    assert len(slow.requests) == 2  # of the video's ten frames one, and the picture


def test_of_a_video_the_frame_is_told(page, slow):
    slow.go_on.set()
    watch = "(e) => { new MutationObserver(() => seen.push(e.textContent)).observe(e, { childList: true }) }"
    page.evaluate("window.seen = []")
    page.eval_on_selector("#viewer .doing", watch)
    drop(page, clip(), "way.mp4")
    assert "Segmenting way.mp4, frame 10 of 10" in page.evaluate("seen")


def test_a_new_file_takes_the_place_of_a_video_that_is_segmented(page, slow, stops):
    choose(page, clip(), "way.mp4")
    expect_waiting(page, "Segmenting way.mp4")
    slow.was_called.wait()
    choose(page, name="b.png")
    stops.get()
    slow.go_on.set()
    expect_message(page, "b.png, 60 x 40: 2 segments")
    assert len(slow.requests) == 2  # of the video's ten frames one, and the picture


def test_an_error_goes_with_the_next_question(page, slow):
    slow.go_on.set()
    choose(page, b"no picture", "b.png")
    expect_message(page, "b.png is no picture or video that can be read")
    slow.go_on.clear()
    choose(page)
    expect_waiting(page, "Segmenting a.png")
    assert page.locator("#viewer .told").inner_text() == "" and page.locator("#viewer .error").count() == 0


def test_a_second_error_takes_the_place_of_the_first(page, slow):
    slow.go_on.set()
    choose(page, b"no picture", "b.png")
    expect_message(page, "b.png is no picture")
    choose(page, bytes(100_001), "big.png")
    expect_message(page, "big.png has 0.1 MB")
    assert "b.png" not in page.locator("#viewer").inner_text()


def test_a_model_that_fails_is_told_in_the_one_place_for_errors(page):
    choose_model(page, "failing")
    choose(page)
    expect_message(page, "a.png got no answer")
    playwright.expect(page.locator(".toast-close")).to_have_count(0)
    assert page.locator("#viewer .waiting").is_hidden() and "out of memory" not in page.content()


def test_on_a_phone_the_waiting_and_the_answer_come_into_view(page, slow):
    page.set_viewport_size(PHONE)
    choose(page, picture(size=LARGE))
    expect_waiting(page, "Segmenting a.png")
    assert is_in_view(page, "#viewer .waiting")
    slow.go_on.set()
    expect_message(page, "a.png")
    assert is_in_view(page, "#viewer .told") and is_in_view(page, "#viewer canvas")


# ------------------------------------------------------------------------------------------------------- taken home


def saved(page, tmp_path) -> tuple[str, Image.Image]:
    """(name, picture) of the file behind the first button."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Picture (PNG)").click()
    download.value.save_as(tmp_path / "saved.png")
    return download.value.suggested_filename, Image.open(tmp_path / "saved.png").convert("RGB")


def test_the_picture_is_saved_as_it_is_seen(page, tmp_path):
    choose_model(page, "quick")
    drop(page, picture(size=LARGE), "street.png")
    name, image = saved(page, tmp_path)
    assert (name, image.size) == ("street_panoptic.png", LARGE[::-1])
    left, right = image.getpixel((100, 40)), image.getpixel((600, 40))
    assert len(set(left)) > 1 and len(set(right)) > 1  # painted: the picture itself is gray


def test_what_is_hidden_is_not_in_the_picture_that_is_saved(page, tmp_path):
    choose_model(page, "quick")
    drop(page, picture(size=LARGE))
    page.get_by_role("checkbox", name="dog").uncheck()
    left = saved(page, tmp_path)[1].crop((0, 0, 310, 480))
    assert all(high - low < 8 for low, high in [sorted(pixel)[::2] for pixel in left.getdata()])  # gray all over


def test_a_filter_outlives_another_threshold(page):
    choose_model(page, "quick")
    drop(page)
    page.get_by_role("checkbox", name="cat").uncheck()
    page.get_by_role("spinbutton").fill("0.2")
    expect_message(page, "2 segments")
    playwright.expect(page.get_by_role("checkbox", name="cat")).not_to_be_checked()


def test_the_picture_can_be_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose_model(page, "quick")
    drop(page)
    page.get_by_role("button", name="Copy picture").click()
    playwright.expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.read().then((items) => items[0].types)") == ["image/png"]


def test_the_list_can_be_ordered_by_score_and_by_class(page):
    choose_model(page, "quick")
    drop(page, picture(size=(40, 61)))  # the right half, a cat, is the larger one
    orders = {}
    for order in ("size", "score", "class"):
        page.get_by_label("Order by").select_option(order)
        orders[order] = [text.split(",")[0] for text in segments(page)]
    assert orders == {"size": ["cat", "dog"], "score": ["dog", "cat"], "class": ["cat", "dog"]}


def test_the_picture_can_be_enlarged_and_moved(page):
    choose_model(page, "quick")
    drop(page, picture(size=LARGE))
    whole = page.locator("#viewer canvas").bounding_box()["width"]
    page.get_by_role("button", name="Zoom in").click()
    assert page.locator("#viewer canvas").bounding_box()["width"] == pytest.approx(1.5 * whole, abs=2)
    page.locator("#viewer .stage").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('#viewer .stage').scrollLeft > 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_without_opacity_the_outlines_are_left(page):
    choose_model(page, "quick")
    drop(page, picture(size=LARGE))
    page.get_by_label("Opacity").fill("0")
    code = "(c, x) => [...c.getContext('2d').getImageData(x, 40, 1, 1).data].slice(0, 3)"
    inside, outline = (page.eval_on_selector("#viewer canvas", code, x) for x in (100, 319))
    assert len(set(inside)) == 1 and len(set(outline)) > 1


def test_the_sample_of_a_model_is_answered_at_a_click(browser):
    web = importlib.import_module("mask2former_ext.web.app")
    answerer = web.Answerer({"quick": StandInPredictor()}, web.Limits())
    sample = {"name": "street.jpg", "data": upload(picture("JPEG"))["data"]}
    with served(web.build_app(answerer, 40, sample)) as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("button", name="Try this sample picture").click()
        expect_message(page, "street.jpg, 60 x 40: 2 segments")
        page.close()
