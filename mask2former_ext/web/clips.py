"""A short video on the web page: a file's bytes in, overlay and segments as bytes out, frame by frame.

PyAV reads and writes files. They lie in a folder of their own, which is removed with the request.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mask2former_ext.inference.saving import SaveOptions, VideoSaver
from mask2former_ext.inference.threads import Behind, ahead
from mask2former_ext.inference.video import BrokenVideoError, VideoReader, import_av
from mask2former_ext.web.limits import Limits, RefusedError

# MP4 and MOV begin with a box of one of these kinds. FFmpeg never sees other formats, such as playlists that name
# other files.
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif")
_DEPTH = 4  # frames that wait for the model, and for the encoder

# What page/viewer.js shows of the work: `frame`, the last one that is done, of `frames` (None: the file does not say).
Progress = dict[str, Any]


@dataclass(frozen=True)
class Clip:
    """What became of a video."""

    size: tuple[int, int]  # (H, W) px
    num_frames: int
    every: int
    seconds: float  # that the model took
    notes: list[str]  # what was wrong with the file
    overlay: bytes  # MP4
    lines: bytes  # json, a line for each frame
    tracks: bytes | None  # json as YouTube-VIS has it; None of a semantic answer


def is_video(data: bytes) -> bool:
    """Whether the bytes begin as MP4, MOV, Matroska, WebM or AVI does."""
    if data[4:8] == b"ftyp" and data[8:12] in _PICTURE_BRANDS:
        return False
    return data[4:8] in _BOXES or data[:4] == b"\x1aE\xdf\xa3" or (data[:4] == b"RIFF" and data[8:12] == b"AVI ")


def segment_clip(
    name: str, data: bytes, predictor: Any, task: str, threshold: float, limits: Limits
) -> Generator[Progress, None, Clip]:
    """The progress after each frame, and in the end the clip. Whoever closes it ends the work and removes the files.

    Raises RefusedError, naming the file, if it is too long or large or cannot be read.
    """
    assert is_video(data), f"{name} is no video"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        path.write_bytes(data)
        try:
            every = _stride(name, path, limits)
            return (yield from _segment(path, every, predictor, task, threshold, limits))
        except (BrokenVideoError, ImportError) as error:
            raise RefusedError(str(error).replace(str(path), name)) from error


def _stride(name: str, path: Path, limits: Limits) -> int:
    """N, where each N-th frame is segmented. Raises RefusedError for a video that is too long or large."""
    av = import_av()
    try:
        with av.open(str(path)) as container:
            for stream in container.streams.video:
                if stream.width * stream.height > limits.max_pixels:
                    most = f"{limits.max_pixels / 1e6:g} megapixels"
                    size = f"{stream.width} x {stream.height} pixels"
                    raise RefusedError(f"{name} has {size}, but at most {most} are taken")
    except av.FFmpegError as error:
        raise RefusedError(f"{name} cannot be read as a video") from error
    with VideoReader(path) as reader:
        num_frames = reader.num_frames or 0
        seconds = float(num_frames / reader.rate)
    if seconds > limits.max_seconds:
        raise RefusedError(f"{name} lasts {seconds:.1f} s, but at most {limits.max_seconds:g} s are taken")
    return max(1, -(-num_frames // limits.max_frames))


def _segment(
    path: Path, every: int, predictor: Any, task: str, threshold: float, limits: Limits
) -> Generator[Progress, None, Clip]:
    save = ("overlay", "json") + ("coco",) * (task != "semantic")
    options = SaveOptions(save=save, tasks=(task,), threshold=threshold)
    folder, done, seconds = path.parent, 0, 0.0
    with (
        VideoReader(path, every=every, max_size=limits.max_size) as reader,
        VideoSaver(folder, path.name, reader, options, predictor.classes) as saver,
        Behind[tuple[Any, Any]](lambda pair: saver.save(*pair), _DEPTH) as behind,
        closing(ahead(itertools.islice(reader, limits.max_frames), _DEPTH)) as frames,
    ):
        expected = min(reader.num_frames, limits.max_frames) if reader.num_frames else None
        for done, frame in enumerate(frames, start=1):
            start = time.perf_counter()
            (result,) = predictor([frame.image], task=task, threshold=threshold)
            seconds += time.perf_counter() - start
            behind.put((frame, result))
            yield {"working": True, "frame": done, "frames": expected}
    tracks = folder / f"{path.name}_tracks.json"
    return Clip(
        size=reader.size,
        num_frames=done,
        every=every,
        seconds=seconds,
        notes=reader.notes,
        overlay=(folder / f"{path.name}_{task}.mp4").read_bytes(),
        lines=(folder / f"{path.name}.jsonl").read_bytes(),
        tracks=tracks.read_bytes() if tracks.exists() else None,
    )
