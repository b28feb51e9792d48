"""The web page's questions and answers, without the page: mask2former_ext/web/answers.py with a stand-in predictor."""

from __future__ import annotations

import base64
import importlib
import io
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import Generator, Iterable

import numpy as np
import pytest
from PIL import Image

from mask2former_ext.inference.segmentation import class_map_segmentation
from mask2former_ext.web.answers import Answerer, shown
from mask2former_ext.web.limits import Limits
from tests.web_server import SIZE, StandInPredictor, clip, picture, upload


@pytest.fixture
def answerer():
    limits = Limits(max_bytes=100_000, max_pixels=1_000_000, max_size=600, max_seconds=2, max_frames=10)
    return Answerer({"stand-in": StandInPredictor()}, limits)


def ask(
    answerer, file: bytes | None = None, task: str = "panoptic", threshold: float = 0.3, name: str = "a.png"
) -> dict:
    return last(answerer.answer(upload(picture() if file is None else file, name), "stand-in", task, threshold))


def last(steps: Iterable[dict]) -> dict:
    """The answer, after what was told of the work."""
    *_, answer = steps
    return answer


def map_of(answer: dict, key: str = "map") -> np.ndarray:
    raw = zlib.decompress(base64.b64decode(answer[key]))
    return np.frombuffer(raw, dtype="<u2").reshape(answer["height"], answer["width"])


def file_of(link: dict) -> bytes:
    return base64.b64decode(link["url"].split(",")[1])


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("task", "scores"), [("panoptic", [0.9, 0.4]), ("instance", [0.9, 0.4]), ("semantic", [None, None])]
)
def test_an_answer_lists_class_score_and_area_of_each_segment(answerer, task, scores):
    found = [(s["name"], s["score"] and round(s["score"], 2), s["area"]) for s in ask(answerer, task=task)["segments"]]
    assert found == [("dog", scores[0], 1200), ("cat", scores[1], 1200)]


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_the_map_says_which_segment_is_seen_at_each_pixel(answerer, task):
    seen = map_of(ask(answerer, task=task))
    assert seen.shape == SIZE
    assert (seen[:, :30] == 1).all() and (seen[:, 30:] == 2).all()


def test_stray_pixels_belong_to_their_surroundings_for_outlines():
    classes = np.zeros((40, 60), dtype=np.int64)
    classes[:, 30:] = 1
    classes[10, 10] = 1
    answer = shown(np.zeros((40, 60, 3), dtype=np.uint8), class_map_segmentation(classes, None, 2))
    assert map_of(answer)[10, 10] == 2 and map_of(answer, "solid")[10, 10] == 1
    assert (map_of(answer, "solid")[:, 30:] == 2).all()


def test_of_instances_all_of_each_mask_is_told(answerer):
    answerer.predictors["stand-in"] = StandInPredictor(is_covered=True)
    answer = ask(answerer, task="instance")
    bits = np.frombuffer(zlib.decompress(base64.b64decode(answer["masks"])), dtype=np.uint8)
    dog, cat = np.unpackbits(bits).reshape(2, *SIZE)
    assert dog[:, :30].all() and not dog[:, 30:].any() and cat.all()
    assert (map_of(answer)[:, :30] == 1).all()


def test_what_is_below_the_threshold_is_not_in_the_map(answerer):
    seen = map_of(ask(answerer, task="instance", threshold=0.5))
    assert (seen[:, :30] == 1).all() and (seen[:, 30:] == 0).all()


def test_task_and_threshold_reach_the_model(answerer):
    ask(answerer, task="instance", threshold=0.75)
    assert answerer.predictors["stand-in"].requests == [("instance", 0.75)]


def test_the_label_file_is_the_one_of_the_command_line(answerer):
    labels = ask(answerer, name="street.jpg")["files"][0]
    assert labels["name"] == "street_panoptic_labels.png"
    assert np.asarray(Image.open(io.BytesIO(file_of(labels))))[0, [0, -1]].tolist() == [[1, 0, 0], [2, 0, 0]]


def test_the_json_says_file_size_and_segments(answerer):
    link = ask(answerer, task="instance", name="street.jpg")["files"][1]
    content = json.loads(file_of(link))
    assert (link["name"], content["file_name"]) == ("street.json", "street.jpg")
    assert (content["height"], content["width"]) == SIZE
    assert [found["bbox"] for found in content["instance"]] == [[0, 0, 30, 40], [30, 0, 30, 40]]


def test_two_classes_have_two_colors(answerer):
    first, second = (s["color"] for s in ask(answerer)["segments"])
    assert first != second and len(first) == len("#rrggbb")


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\secret\\passwd", "/etc/passwd"])
def test_folders_of_a_name_are_dropped(answerer, name):
    assert json.loads(file_of(ask(answerer, name=name)["files"][1]))["file_name"] == "passwd"


def test_the_panoptic_threshold_is_at_first_the_models_own(answerer):
    assert answerer.default_threshold("stand-in", "panoptic") == 0.3


# ------------------------------------------------------------------------------------------------- kinds of pictures


@pytest.mark.parametrize(
    ("file_format", "mode", "options"),
    [
        ("JPEG", "CMYK", {}),
        ("PNG", "I;16", {}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
        ("GIF", "P", {"save_all": True, "append_images": [Image.new("P", SIZE[::-1])]}),
    ],
)
def test_unusual_pictures_are_read(answerer, file_format, mode, options):
    answer = ask(answerer, picture(file_format, mode, **options))
    assert (answer["height"], answer["width"]) == SIZE


def test_a_picture_is_turned_upright(answerer):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    answer = ask(answerer, picture("JPEG", exif=exif))
    assert (answer["height"], answer["width"]) == SIZE[::-1]


def test_a_picture_above_the_models_size_is_shrunk(answerer):
    answer = ask(answerer, picture(size=(400, 800)))
    assert (answer["height"], answer["width"]) == (300, 600)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
def test_a_picture_of_few_pixels_is_answered(answerer, size):
    answer = ask(answerer, picture(size=size))
    assert (answer["height"], answer["width"]) == size


# ------------------------------------------------------------------------------------------------------ what is refused


def huge_header(side: int) -> bytes:
    """A PNG that says it has side x side pixels, and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no picture or video that can be read"),
        (b"no picture", "no picture or video that can be read"),
        (picture()[:60], "cannot be read"),
        (huge_header(50_000), "pixels"),
        (huge_header(2_000), "2000 x 2000 pixels, but at most 1 megapixels"),
        (picture("TIFF", "F"), "floating-point pixels"),
        (bytes(100_001), "0.1 MB"),
    ],
)
def test_a_file_that_cannot_be_used_gets_a_message_with_its_name(answerer, data, words):
    answer = ask(answerer, data, name="holiday.png")
    assert answer["error"] and "holiday.png" in answer["message"] and words in answer["message"]


@pytest.mark.parametrize(
    "sent",
    [
        3,
        "a.png",
        [],
        {"name": "a"},
        {"name": 1, "data": ""},
        {"name": "a", "data": "é"},
        {"name": "a", "data": ["/etc"]},
    ],
)
def test_what_is_no_file_at_all_gets_a_message(answerer, sent):
    answer = last(answerer.answer(sent, "stand-in", "panoptic", 0.3))
    assert set(answer) == {"error", "message"} and answer["error"]


@pytest.mark.parametrize(
    ("model", "task", "threshold", "words"),
    [
        ("other", "panoptic", 0.3, "no model 'other'"),
        (["stand-in"], "panoptic", 0.3, "no model"),
        ("stand-in", "depth", 0.3, "task 'depth'"),
        ("stand-in", "panoptic", 1.5, "threshold is 1.5"),
        ("stand-in", "panoptic", float("nan"), "threshold is nan"),
        ("stand-in", "panoptic", "0.3", "threshold is 0.3"),
        ("stand-in", "panoptic", None, "threshold is None"),
    ],
)
def test_a_question_that_the_page_does_not_offer_gets_a_message(answerer, model, task, threshold, words):
    answer = last(answerer.answer(upload(picture()), model, task, threshold))
    assert answer["error"] and words in answer["message"]


def test_a_refused_file_does_not_reach_the_model(answerer):
    ask(answerer, b"no picture")
    assert answerer.predictors["stand-in"].requests == []


def test_the_message_on_a_file_that_cannot_be_read_names_formats(answerer):
    message = ask(answerer, b"no picture")["message"]
    assert (
        "Pictures can be JPEG, PNG, WebP, GIF, TIFF, BMP" in message and "videos MP4, MOV, MKV, WebM, AVI." in message
    )


def test_without_gradio_the_page_says_how_to_install_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "mask2former_ext.web.app", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"needs gradio: pip install"):
        importlib.import_module("mask2former_ext.web.app")


# ---------------------------------------------------------------------------------------------------------------- clips


def test_a_video_is_answered_with_an_overlay_of_all_its_frames(answerer):
    import av

    answer = ask(answerer, clip(), name="way.mp4")
    assert answer["message"].startswith("way.mp4, 64 x 48: 10 frames (panoptic)")
    with av.open(io.BytesIO(base64.b64decode(answer["video"].split(",")[1]))) as container:
        assert len(list(container.decode(video=0))) == 10


def test_what_was_found_in_a_video_can_be_taken_home(answerer):
    files = {link["name"]: file_of(link) for link in ask(answerer, clip(), name="way.mp4")["files"]}
    assert list(files) == ["way_panoptic.mp4", "way.jsonl", "way_tracks.json"]
    assert len(files["way.jsonl"].splitlines()) == 10 and len(json.loads(files["way_tracks.json"])["annotations"]) == 2


def test_of_more_frames_than_the_limit_each_second_or_third_is_segmented(answerer):
    assert ": 10 frames, one of 3, (" in ask(answerer, clip(28, rate=20), name="way.mp4")["message"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: clip(30, rate=10), "lasts 3.0 s, but at most 2 s are taken"),
        (lambda: clip()[:400], "way.mp4"),
        (lambda: clip(kind="mpegts"), "no picture or video"),
        (lambda: b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "no picture or video"),
        (lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", "no picture or video"),
        (lambda: b"\x00\x00\x00\x18ftypheic" + bytes(60), "no picture or video"),
    ],
)
def test_a_video_that_cannot_be_used_gets_a_message(answerer, data, words):
    answer = ask(answerer, data(), name="way.mp4")
    assert answer["error"] and answer["message"].startswith("way.mp4") and words in answer["message"]


def steps(answerer, ticket: object = "t") -> Generator[dict, None, None]:
    """What is told of a video of ten frames."""
    return answerer.answer({**upload(clip(), "way.mp4"), "ticket": ticket}, "stand-in", "panoptic", 0.3)


def test_of_a_video_each_frame_is_told_and_then_the_answer(answerer):
    began, *frames, answer = steps(answerer)
    assert began == {"working": True, "ticket": "t"} and "working" not in answer and answer["ticket"] == "t"
    assert [(step["frame"], step["frames"]) for step in frames] == [(n, 10) for n in range(1, 11)]


def test_stop_ends_a_video_at_its_next_frame(answerer):
    told = steps(answerer)
    assert [next(told).get("frame") for _ in range(3)] == [None, 1, 2]
    answerer.stop("t")
    assert list(told) == [{"stopped": True, "ticket": "t"}]
    assert len(answerer.predictors["stand-in"].requests) == 2


def test_stop_before_a_question_begins_keeps_it_from_the_model(answerer):
    answerer.stop("t")
    assert list(steps(answerer)) == [{"stopped": True, "ticket": "t"}]
    assert answerer.predictors["stand-in"].requests == []


def test_stop_ends_no_other_question(answerer):
    answerer.stop("another")
    assert not last(steps(answerer))["error"] and not last(steps(answerer, None))["error"]


@pytest.mark.parametrize("ticket", [None, 3, ["t"], "t" * 65])
def test_what_is_no_ticket_is_neither_repeated_nor_kept(answerer, ticket):
    answerer.stop(ticket)
    assert "ticket" not in last(steps(answerer, ticket))


def test_of_very_many_stops_the_oldest_are_forgotten(answerer):
    for number in range(1001):
        answerer.stop(f"{number}")
    assert not last(steps(answerer, "0"))["error"] and last(steps(answerer, "1"))["stopped"]


def test_a_video_that_nobody_waits_for_any_more_leaves_nothing(answerer, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = steps(answerer)
    assert [next(told).get("frame") for _ in range(2)] == [None, 1]
    told.close()  # as gradio does when the browser has gone
    assert list(tmp_path.iterdir()) == []


def test_a_video_leaves_nothing_on_disk(answerer, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ask(answerer, clip())
    ask(answerer, clip()[:400])
    assert list(tmp_path.iterdir()) == []
