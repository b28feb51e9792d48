"""demo/demo.py on all kinds of input: videos, unusual and broken files; what it says and how it ends."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mask2former_ext.commands import trained_model
from tests.stand_in_demo import SIZE, StandInPredictor, run

av = pytest.importorskip("av")


class Batched(StandInPredictor):
    """Notes how many images it got at once."""

    batches: list[int] = []

    def __call__(self, images, *, threshold=None):
        if isinstance(images, list):
            self.batches.append(len(images))
        return super().__call__(images, threshold=threshold)


def clip(path, count: int = 5, size: tuple[int, int] = SIZE):
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for i in range(count):
            picture = np.full((*size, 3), 40 * i % 240, dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def frames_of(path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def names(path) -> set[str]:
    return {p.name for p in path.iterdir()}


def errors(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("demo.py: error: ")]


def test_a_video_gives_a_video_of_as_many_frames_of_its_size(demo, tmp_path):
    assert run(demo, [clip(tmp_path / "a.mp4")], tmp_path / "out", "--task", "panoptic") == 0
    frames = frames_of(tmp_path / "out" / "a_panoptic.mp4")
    assert [frame.shape for frame in frames] == [(*SIZE, 3)] * 5


def test_a_video_gives_labels_lines_and_tracks(demo, tmp_path):
    out = tmp_path / "out"
    options = ("--task", "panoptic", "--every", "2", "--save", "labels", "json", "coco")
    assert run(demo, [clip(tmp_path / "a.mp4")], out, *options) == 0
    assert names(out) == {"a_panoptic_labels", "a.jsonl", "a_tracks.json"}
    assert names(out / "a_panoptic_labels") == {"000000.png", "000002.png", "000004.png"}
    lines = [json.loads(line) for line in (out / "a.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["seconds"]) for line in lines] == [(0, 0.0), (2, 0.2), (4, 0.4)]
    assert [[s["track_id"] for s in line["panoptic"]] for line in lines] == [[1, 2]] * 3
    tracks = json.loads((out / "a_tracks.json").read_text())["annotations"]
    assert [len(track["segmentations"]) for track in tracks] == [3, 3]


def test_all_tasks_are_shown_side_by_side(demo, folder, tmp_path):
    run(demo, [folder / "a.png", clip(tmp_path / "c.mp4")], tmp_path / "out", "--task", "all")
    assert names(tmp_path / "out") == {"a_all.png", "c_all.mp4"}
    assert frames_of(tmp_path / "out" / "c_all.mp4")[0].shape == (SIZE[0], 3 * SIZE[1], 3)


def test_an_overlay_has_the_size_of_its_image(demo, folder, tmp_path, capsys):
    run(demo, [folder / "a.png"], tmp_path / "out", "--task", "semantic")
    assert Image.open(tmp_path / "out" / "a_semantic.png").size == SIZE[::-1]
    assert "larger" not in capsys.readouterr().out


def test_a_line_says_that_overlays_are_larger_than_their_images(demo, folder, tmp_path, capsys):
    run(demo, [folder], tmp_path / "out", "--task", "semantic", "--enlarge", "--legend", "below")
    width, height = Image.open(tmp_path / "out" / "a_semantic.png").size
    sizes = f"a (semantic) has {width} x {height} pixels for an image of {SIZE[1]} x {SIZE[0]}"
    assert width > SIZE[1] and capsys.readouterr().out.count(f"overlays are larger than their images: {sizes}") == 1


def test_other_classes_are_left_out(demo, folder, tmp_path):
    run(demo, [folder / "a.png"], tmp_path, "--save", "json", "--classes", "class 1", "--confidence-threshold", "0.3")
    content = json.loads((tmp_path / "a.json").read_text())
    assert [[s["category_id"] for s in content[task]] for task in ("semantic", "instance", "panoptic")] == [[1]] * 3


def test_images_reach_the_model_in_batches(demo, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "Predictor", Batched)
    Batched.batches = []
    assert run(demo, [folder], tmp_path / "out", "--batch", "2", "--task", "semantic") == 0
    assert Batched.batches == [2] and len(names(tmp_path / "out")) == 2


class FourChannels(StandInPredictor):
    channels = "RGBT"

    def __call__(self, images, *, threshold=None):
        assert all(image.shape[2] == 4 for image in (images if isinstance(images, list) else [images]))
        return super().__call__(images, threshold=threshold)


def test_images_of_four_channels_are_drawn_in_their_colors(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "Predictor", FourChannels)
    Image.fromarray(np.full((*SIZE, 4), 90, np.uint8)).save(tmp_path / "a.png")
    assert run(demo, [tmp_path / "a.png"], tmp_path / "out", "--task", "semantic", "--max-size", "30") == 0
    with Image.open(tmp_path / "out" / "a_semantic.png") as picture:
        assert picture.mode == "RGB"


def test_large_images_are_made_smaller_first(demo, folder, tmp_path):
    run(demo, [folder / "a.png"], tmp_path / "out", "--max-size", "30", "--save", "json", "--task", "panoptic")
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert (content["height"], content["width"]) == (20, 30)


def test_one_coco_file_holds_all_images(demo, folder, tmp_path):
    run(demo, [folder], tmp_path / "out", "--save", "coco", "--task", "instance")
    content = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert len(content["images"]) == 2 and [a["image_id"] for a in content["annotations"]] == [1, 2]


def test_coco_needs_a_task_with_things(demo, folder, tmp_path, capsys):
    assert run(demo, [folder], tmp_path / "out", "--save", "coco", "--task", "semantic") == 2
    assert "--save coco holds things" in errors(capsys)[0]


def test_a_huge_header_a_cut_file_and_a_broken_video_do_not_stop_the_rest(demo, folder, tmp_path, capsys):
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    content = (folder / "b.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    assert run(demo, [folder], tmp_path / "out", "--task", "panoptic") == 1
    messages = "\n".join(errors(capsys))
    assert [name in messages for name in ("huge.png", "cut.jpg", "empty.mp4")] == [True] * 3
    assert names(tmp_path / "out") == {"a_panoptic.png", "b_panoptic.png"}


def test_unusual_images_are_read_upright_and_in_8_bits(demo, tmp_path):
    images = tmp_path / "in"
    images.mkdir()
    Image.new("CMYK", SIZE[::-1]).save(images / "cmyk.jpg")
    Image.fromarray(np.full(SIZE, 40_000, dtype=np.uint16)).save(images / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # shown after a quarter turn
    Image.new("RGB", SIZE[::-1]).save(images / "turned.jpg", exif=turned)
    assert run(demo, [images], tmp_path / "out", "--task", "panoptic", "--save", "json") == 0
    sizes = {}
    for path in (tmp_path / "out").iterdir():
        content = json.loads(path.read_text())
        sizes[path.stem] = (content["height"], content["width"])
    assert sizes == {"cmyk": SIZE, "deep": SIZE, "turned": SIZE[::-1]}


def test_of_an_animated_image_the_first_picture_is_segmented_with_a_note(demo, tmp_path, capsys):
    first, second = (Image.new("RGB", SIZE[::-1], color) for color in ("red", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert run(demo, [tmp_path / "a.gif"], tmp_path / "out", "--task", "panoptic") == 0
    assert "a.gif: holds 2 pictures; the first one is segmented" in capsys.readouterr().err


def test_a_video_that_ends_early_is_saved_as_far_as_it_goes_and_told(demo, tmp_path, capsys):
    content = clip(tmp_path / "whole.mkv", count=60).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    assert run(demo, [tmp_path / "cut.mkv"], tmp_path / "out", "--task", "panoptic") == 1
    assert "cut.mkv: ends after" in errors(capsys)[-1]
    assert 5 < len(frames_of(tmp_path / "out" / "cut_panoptic.mp4")) < 60


def test_no_camera_is_told(demo, tmp_path, capsys):
    arguments = ["--config-file", "any.yaml", "--webcam", "77", "--output", str(tmp_path)]
    assert demo.main(arguments) == 1
    assert "camera 77: there is none" in errors(capsys)[0]


def test_without_a_configuration_the_model_of_make_demo_is_used_and_named(demo, folder, tmp_path, monkeypatch, capsys):
    model = tmp_path / "model"
    monkeypatch.setattr(trained_model, "DEMO_MODEL", model)
    arguments = ["--input", str(folder / "a.png"), "--output", str(tmp_path / "out")]
    assert demo.main(arguments) == 2
    assert "`make demo` trains, is absent" in errors(capsys)[0]
    model.mkdir()
    (model / "model_final.pth").touch()
    assert demo.main(arguments) == 0
    assert "the small model of `make demo` is used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "2"], "--alpha is 2.0, but must lie in [0, 1]"),
        (["--every", "0"], "--every is 0, but must be at least 1"),
        (["--max-size", "-5"], "--max-size is -5, but must be at least 1"),
    ],
)
def test_values_that_cannot_work_are_refused(demo, folder, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        run(demo, [folder], tmp_path, *options)
    assert message in capsys.readouterr().err


def test_nothing_to_segment_is_refused(demo, tmp_path, capsys):
    with pytest.raises(SystemExit):
        demo.main(["--config-file", "any.yaml", "--output", str(tmp_path)])
    assert "there is nothing to segment" in capsys.readouterr().err
