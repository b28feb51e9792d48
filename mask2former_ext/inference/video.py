"""Videos in and out, and a model in between: reading, the model and writing overlap, memory does not grow with length.

    with VideoReader("in.mp4") as reader, VideoWriter("out.mp4", reader) as writer:
        for frame in reader:
            writer.write(picture_of(frame.image), frame.pts)

    segment_frames(reader, predictor, consume)      # consume(frame, result) runs beside the model, frame by frame

Needs PyAV, which the extra `video` installs. Shapes: H, W pixels of an upright frame; frames are RGB uint8 (H, W, 3).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mask2former_ext.inference.threads import read_predict_consume

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
# Constant quality, visually near the source; a faster preset than the default, for one core at 640 x 480.
_ENCODER = {"preset": "veryfast", "crf": "20"}
_CAMERA_TICKS = 1000  # per second
_CAMERA_RATE = Fraction(30)

Image = NDArray[np.uint8]


class BrokenVideoError(ValueError):
    """A video or camera that cannot be read."""


@dataclass(frozen=True)
class Frame:
    """An upright frame: its number in the source, when it is shown (`pts` x the source's time base = seconds)."""

    index: int
    pts: int
    seconds: float
    image: Image


def import_av() -> Any:
    """PyAV. Raises ImportError with the line that installs it."""
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install -e '.[video]' in the checkout, or pip install av") from error
    return av


class VideoReader:
    """The frames of a video file, turned upright, with their times. For a `with` block; to be iterated once.

    every: each n-th frame. max_size: longest side in pixels, larger frames are shrunk. Frames that change size
    midway are brought to the size of the first. `notes` says afterwards what was wrong with the file.
    Raises BrokenVideoError, naming the file, if it cannot be opened or has no frame.
    """

    def __init__(self, path: str | Path, *, every: int = 1, max_size: int | None = None):
        self._av = import_av()
        self.path, self.every, self.notes = str(path), every, list[str]()
        try:
            self._container = self._av.open(self.path)
        except (self._av.FFmpegError, OSError) as error:
            raise BrokenVideoError(f"{path}: cannot be read as a video ({_reason(error)})") from error
        if not self._container.streams.video:
            kinds = _kinds(self._container)
            self._container.close()
            raise BrokenVideoError(f"{path}: has no pictures" + (f", only {kinds}" if kinds else ""))
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._frames = self._decode(max_size)
        try:
            self._first = next(self._frames, None)
        except BaseException:
            self._container.close()
            raise
        if self._first is None:
            self._container.close()
            raise BrokenVideoError(f"{path}: holds no frame" + (f" ({self.notes[-1]})" if self.notes else ""))
        self.size: tuple[int, int] = (self._first.image.shape[0], self._first.image.shape[1])
        self.time_base = Fraction(self._stream.time_base)
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)

    @property
    def num_frames(self) -> int | None:
        """Frames that will come, as far as the file says it."""
        number = self._stream.frames
        if not number and self._container.duration:
            number = round(self._container.duration / self._av.time_base * self.rate)
        return -(-number // self.every) or None

    def __iter__(self) -> Iterator[Frame]:
        assert self._first is not None, "a video without a frame is refused"
        return itertools.chain([self._first], self._frames)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _decode(self, max_size: int | None) -> Iterator[Frame]:
        size: tuple[int, int] | None = None
        raw_size, last_pts, count = None, None, 0
        for index, frame in enumerate(self._readable()):
            count = index + 1
            if raw_size not in (None, (frame.height, frame.width)):
                now = f"{frame.width} x {frame.height}"
                self.notes.append(f"changes size at frame {index} to {now}; all were brought to the first one's")
            raw_size = (frame.height, frame.width)
            pts = _next_pts(frame, index, last_pts, self._stream)
            last_pts = pts
            if index % self.every:
                continue
            image = _upright(frame.to_ndarray(format="rgb24"), frame.rotation)
            size = size or fitted_size(image.shape[:2], max_size)
            yield Frame(index, pts, float(pts * self._stream.time_base), resized(image, size))
        if self._stream.frames > count:
            self.notes.append(f"ends after {count} of {self._stream.frames} frames")
        elif last_pts is not None and not self._stream.frames:
            self._check_duration(float(last_pts * self._stream.time_base))

    def _check_duration(self, last_shown: float) -> None:
        """Of a file that tells no number of frames; not where sound may last longer than the pictures."""
        if self._container.duration is None or len(self._container.streams) > 1:
            return
        promised = self._container.duration / self._av.time_base
        if last_shown < promised - max(1.0, promised / 20):
            self.notes.append(f"ends after {last_shown:.1f} of {promised:.1f} seconds")

    def _readable(self) -> Iterator[Any]:
        frames = self._container.decode(self._stream)
        while True:
            try:
                frame = next(frames, None)
            except self._av.FFmpegError as error:
                self.notes.append(f"cannot be read to its end ({_reason(error)})")
                return
            if frame is None:
                return
            yield frame


class Camera:
    """The frames of a camera, by OpenCV, until it stops or the block ends; `pts` are milliseconds since the start.

    Raises BrokenVideoError if there is no such camera; they are numbered from 0.
    """

    time_base, rate, path, num_frames = Fraction(1, _CAMERA_TICKS), _CAMERA_RATE, None, None

    def __init__(self, number: int, *, every: int = 1, max_size: int | None = None):
        self.every, self.notes = every, list[str]()
        if number < 0:  # OpenCV takes it for "any camera", and crashes where there is none
            raise BrokenVideoError(f"camera {number}: there is none, cameras are numbered from 0")
        self._camera = cv2.VideoCapture(number)
        image = self._camera.read()[1] if self._camera.isOpened() else None
        if image is None:
            self._camera.release()
            raise BrokenVideoError(f"camera {number}: there is none, or it gives no picture")
        self.size = fitted_size(image.shape[:2], max_size)

    def __iter__(self) -> Iterator[Frame]:
        start = time.perf_counter()
        last = -1
        for index in itertools.count():
            got, image = self._camera.read()
            if not got:
                self.notes.append(f"gave no more pictures after frame {index}")
                return
            seconds = time.perf_counter() - start
            last = max(last + 1, round(seconds * _CAMERA_TICKS))
            if index % self.every == 0:
                rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
                yield Frame(index, last, seconds, resized(rgb, self.size))

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self._camera.release()


class VideoWriter:
    """H.264 in MP4: pictures at the times of their frames, the sound of the source copied. For a `with` block.

    An odd side gets one more pixel, which H.264 asks for. Sound that MP4 cannot hold is left out, and `notes` says so.
    """

    def __init__(self, path: str | Path, source: VideoReader | Camera):
        self._av = import_av()
        self.notes: list[str] = []
        self._source = source
        self._output = self._av.open(str(path), "w", format="mp4")
        self._video: Any = None
        self._sound: _Sound | None = None

    def write(self, picture: Image, pts: int) -> None:
        """A picture (H, W, 3), of one size for all, shown from `pts` in the source's time base on."""
        picture = _even(picture)
        if self._video is None:
            self._video = self._output.add_stream("libx264", rate=self._source.rate, options=dict(_ENCODER))
            self._video.height, self._video.width = picture.shape[:2]
            self._video.pix_fmt = "yuv420p"
            self._video.codec_context.time_base = self._video.time_base = self._source.time_base
            if self._source.path is not None:
                self._sound = _Sound(self._av, self._source.path, self._output, self.notes)
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = pts, self._source.time_base
        self._output.mux(self._video.encode(frame))
        if self._sound is not None:
            self._sound.copy_until(float(pts * self._source.time_base))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._video is not None:
                self._output.mux(self._video.encode(None))
                if self._sound is not None and kind is None:
                    self._sound.copy_until(float("inf"))
        finally:
            if self._sound is not None:
                self._sound.close()
            self._output.close()


class _Sound:
    """The sound of one file, packet by packet, unchanged, into another."""

    def __init__(self, av: Any, path: str, output: Any, notes: list[str]):
        self._av, self._output, self._notes = av, output, notes
        self._container = av.open(path)
        self._stream: Any = None
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        if self._container.streams.audio:
            source = self._container.streams.audio[0]
            try:
                self._stream = output.add_stream_from_template(source)
            except (av.FFmpegError, ValueError) as error:
                notes.append(f"its sound ({source.codec_context.name}) was left out ({_reason(error)})")
                return
            self._packets = (packet for packet in self._container.demux(source) if packet.dts is not None)

    def copy_until(self, seconds: float) -> None:
        """Copy what is heard before this time."""
        if self._stream is None:
            return
        while True:
            if self._next is None:
                try:
                    self._next = next(self._packets, None)
                except self._av.FFmpegError as error:
                    self._notes.append(f"its sound cannot be read to its end ({_reason(error)})")
                    self._stream = None
                    return
            if self._next is None or float(self._next.dts * self._next.time_base) > seconds:
                return
            packet, self._next = self._next, None
            packet.stream = self._stream
            self._output.mux(packet)

    def close(self) -> None:
        self._container.close()


def segment_frames(
    frames: Iterable[Frame],
    predict: Callable[[list[Image]], Sequence[dict]],
    consume: Callable[[Frame, dict], None],
    *,
    batch: int = 1,
) -> tuple[int, float]:
    """`threads.read_predict_consume` of frames. Returns their number and the seconds that `predict` took.

    predict: list of images -> a result for each (a `Predictor`). consume: gets every frame with its result.
    """
    return read_predict_consume(frames, lambda group: predict([frame.image for frame in group]), consume, batch=batch)


def fitted_size(size: Sequence[int], max_size: int | None) -> tuple[int, int]:
    """(H, W) of an image whose longest side must not exceed `max_size` pixels; None: its own."""
    height, width = int(size[0]), int(size[1])
    if max_size is None or max(height, width) <= max_size:
        return height, width
    factor = max_size / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resized(image: Image, size: tuple[int, int]) -> Image:
    """The image (., ., C) at (H, W)."""
    if image.shape[:2] == size:
        return image
    smaller = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(np.atleast_3d(smaller), dtype=np.uint8)  # OpenCV drops the axis of a single channel


def _upright(image: Image, rotation: int) -> Image:
    """Turn by what the file's rotation flag says, in degrees against the clock, a multiple of 90."""
    return np.ascontiguousarray(np.rot90(image, round(rotation / 90) % 4))


def _even(picture: Image) -> Image:
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(picture)
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _next_pts(frame: Any, index: int, last: int | None, stream: Any) -> int:
    """When the frame is shown, in the stream's time base; later than the one before in any case."""
    pts = frame.pts
    if pts is None:
        pts = round(index / (stream.average_rate or 25) / stream.time_base)
    return pts if last is None else max(pts, last + 1)


def _kinds(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams}))


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
