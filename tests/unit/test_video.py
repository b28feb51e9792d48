"""Videos in and out: times, sound, rotation, sizes, and what is wrong with a file."""

from __future__ import annotations

import sys
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mask2former_ext.inference import video
from mask2former_ext.inference.threads import Behind, ahead
from mask2former_ext.inference.video import BrokenVideoError, Camera, VideoReader, VideoWriter, segment_frames

av = pytest.importorskip("av")

SIZE = (48, 64)
# Identity and a quarter turn, as the 9 fixed-point numbers of an MP4 track's header.
UPRIGHT = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")
TURNED = bytes.fromhex("00000000 00010000 00000000 ffff0000 00000000 00000000 00300000 00000000 40000000")


def synthetic_video(path: Path, times: list[int], *, sound: bool = False, size: tuple[int, int] = SIZE) -> Path:
    """Frame i is gray of value 20 + 10 i (while that fits), its upper left quarter white, shown from times[i] ms on."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            tone = output.add_stream("aac", rate=16000, layout="mono")
        for i, pts in enumerate(times):
            picture = np.full((*size, 3), 20 + 10 * (i % 20), dtype=np.uint8)
            picture[: size[0] // 2, : size[1] // 2] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound:
            wave = (8000 * np.sin(np.arange(16000) / 10)).astype(np.int16)[None]
            samples = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            samples.rate = 16000
            output.mux(tone.encode(samples))
            output.mux(tone.encode(None))
    return path


def milliseconds(path: Path) -> list[int]:
    with VideoReader(path) as reader:
        return [round(1000 * frame.seconds) for frame in reader]


def copied(source: Path, path: Path, **options: int) -> list[str]:
    """`source` read and written; what the writer notes."""
    with VideoReader(source, **options) as reader, VideoWriter(path, reader) as writer:
        for frame in reader:
            writer.write(frame.image, frame.pts)
    return writer.notes


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(**{kind: 0}) if packet.size]


IRREGULAR = [0, 40, 60, 200, 240, 500]


def test_frames_keep_their_order_size_and_irregular_times(tmp_path):
    copied(synthetic_video(tmp_path / "in.mp4", IRREGULAR), tmp_path / "out.mp4")
    assert milliseconds(tmp_path / "out.mp4") == IRREGULAR
    with VideoReader(tmp_path / "out.mp4") as reader:
        grays = [int(frame.image[-4, -4].mean().round()) for frame in reader]
    assert reader.size == SIZE and np.abs(np.subtract(grays, np.arange(20, 80, 10))).max() <= 4


def test_sound_is_copied_bit_by_bit(tmp_path):
    source = synthetic_video(tmp_path / "in.mp4", list(range(0, 1000, 100)), sound=True)
    assert copied(source, tmp_path / "out.mp4") == []
    sounds = packets(tmp_path / "out.mp4", "audio")
    assert len(sounds) > 10 and sounds == packets(source, "audio")


def test_what_comes_out_is_h264(tmp_path):
    copied(synthetic_video(tmp_path / "in.mp4", IRREGULAR), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_frame_with_a_rotation_flag_is_turned_upright(tmp_path):
    path = synthetic_video(tmp_path / "in.mp4", [0, 40])
    content = path.read_bytes()
    assert content.count(UPRIGHT) >= 1
    start = content.index(UPRIGHT, content.index(b"tkhd"))
    path.write_bytes(content[:start] + TURNED + content[start + len(TURNED) :])
    with VideoReader(path) as reader:
        image = next(iter(reader)).image
    assert image.shape == (64, 48, 3)
    assert image[:20, -20:].min() > 200 and image[:20, :20].max() < 60  # a quarter turn with the clock


def test_every_third_frame_keeps_its_time(tmp_path):
    source = synthetic_video(tmp_path / "in.mp4", list(range(0, 400, 40)))
    copied(source, tmp_path / "out.mp4", every=3)
    assert milliseconds(tmp_path / "out.mp4") == [0, 120, 240, 360]


def test_frames_are_made_smaller_but_never_larger(tmp_path):
    source = synthetic_video(tmp_path / "in.mp4", [0])
    with VideoReader(source, max_size=32) as smaller, VideoReader(source, max_size=500) as same:
        assert (smaller.size, same.size) == ((24, 32), SIZE)


def test_an_odd_side_gets_one_more_pixel(tmp_path):
    source = synthetic_video(tmp_path / "in.mp4", [0, 40])
    with VideoReader(source) as reader, VideoWriter(tmp_path / "out.mp4", reader) as writer:
        for frame in reader:
            writer.write(frame.image[:47, :63], frame.pts)
    with VideoReader(tmp_path / "out.mp4") as reader:
        assert reader.size == (48, 64)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(BrokenVideoError, match=r"text\.mp4: cannot be read as a video \(Invalid data"):
        VideoReader(tmp_path / "text.mp4")


def test_a_sound_file_is_refused(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.int16), format="s16", layout="mono")
        samples.rate = 16000
        output.mux(stream.encode(samples))
        output.mux(stream.encode(None))
    with pytest.raises(BrokenVideoError, match=r"song\.mp4: has no pictures, only audio"):
        VideoReader(tmp_path / "song.mp4")


def test_a_video_without_frames_is_refused(tmp_path):
    source = synthetic_video(tmp_path / "in.mp4", [0, 40])
    content = source.read_bytes()
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    (tmp_path / "empty.mp4").write_bytes(content[:start] + bytes(end - start) + content[end:])
    with pytest.raises(BrokenVideoError, match=r"empty\.mp4: holds no frame"):
        VideoReader(tmp_path / "empty.mp4")


def test_a_video_that_ends_early_gives_the_frames_it_has_and_says_so(tmp_path):
    source = synthetic_video(tmp_path / "in.mkv", list(range(0, 4000, 40)))
    content = source.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    with VideoReader(tmp_path / "cut.mkv") as reader:
        count = sum(1 for _ in reader)
    assert 20 < count < 80
    assert reader.notes[-1].startswith("ends after ") and reader.notes[-1].endswith(" of 4.0 seconds")


def test_frames_that_change_size_are_brought_to_the_first_ones(tmp_path):
    """Two MPEG transport streams, one behind the other, are one."""
    first = synthetic_video(tmp_path / "a.ts", [0, 40, 80])
    second = synthetic_video(tmp_path / "b.ts", [120, 160, 200], size=(96, 128))
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    with VideoReader(tmp_path / "both.ts") as reader:
        sizes = [frame.image.shape[:2] for frame in reader]
    assert sizes == [SIZE] * 6
    assert "changes size at frame 3 to 128 x 96" in reader.notes[0]


@pytest.mark.parametrize("number", [77, -1])
def test_no_camera_is_told(number):
    with pytest.raises(BrokenVideoError, match=f"camera {number}: there is none"):
        Camera(number)


def test_without_pyav_the_line_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install -e '.\[video\]'"):
        video.import_av()


def test_frames_reach_the_model_in_batches_and_the_consumer_in_order(tmp_path):
    batches, consumed = [], []

    def predict(images):
        batches.append(len(images))
        return [{"gray": int(image[-4, -4, 0])} for image in images]

    with VideoReader(synthetic_video(tmp_path / "in.mp4", IRREGULAR)) as reader:
        count, _ = segment_frames(reader, predict, lambda frame, _: consumed.append(frame.index), batch=4)
    assert (count, batches, consumed) == (6, [4, 2], [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("where", ["frames", "predict", "consume"])
def test_an_error_in_any_thread_comes_out_and_leaves_no_thread_behind(where):
    def fail(*_):
        raise RuntimeError(where)

    frames = (fail() if where == "frames" and i == 3 else i for i in range(100))
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match=where):
        segment_frames(
            (video.Frame(i, i, 0.0, np.zeros((2, 2, 3), np.uint8)) for i in frames),
            fail if where == "predict" else lambda images: [{}] * len(images),
            fail if where == "consume" else lambda *_: None,
        )
    assert set(threading.enumerate()) <= before


def test_no_more_items_wait_than_the_queue_may_hold():
    read = []

    def items():
        for i in range(50):
            read.append(i)
            yield i

    reading = ahead(items(), 3)
    for i, _ in zip(range(10), reading, strict=False):
        assert len(read) <= i + 1 + 3 + 2  # those taken, those that wait, the one in each hand
    reading.close()


def test_what_is_put_last_is_consumed_before_the_block_ends():
    consumed: list[int] = []
    with Behind(consumed.append, 2) as behind:
        for i in range(20):
            behind.put(i)
    assert consumed == list(range(20))
