"""Answer the requests of the web page, without the page: a file's bytes in, what page/viewer.js shows out.

Nothing is written to disk and nothing is kept. A mistake of the person comes back as a message.
"""

from __future__ import annotations

import base64
import io
import json
import time
import zlib
from collections import deque
from collections.abc import Generator, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mask2former_ext.contract import contract_of
from mask2former_ext.data.image_io import BrokenImageError, read_image
from mask2former_ext.inference import drawing
from mask2former_ext.inference.label_places import label_centers
from mask2former_ext.inference.predictor import Predictor
from mask2former_ext.inference.regions import without_specks
from mask2former_ext.inference.segmentation import DEFAULT_INSTANCE_SCORE, Segmentation, segmentations
from mask2former_ext.inference.video import fitted_size, resized
from mask2former_ext.web.clips import Clip, is_video, segment_clip
from mask2former_ext.web.limits import Limits, RefusedError

JPEG_QUALITY = 92
LONGEST_NAME = 80
COMMON_PICTURES = ("JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "AVIF", "HEIC")  # that a message may name
LONGEST_TICKET = 64  # characters of the random text by which the page names a question of its own
MOST_STOPPED = 1000  # tickets of stopped questions that are remembered; the oldest is forgotten first
WIDTH_ON_SCREEN = 800  # px that the picture has about on a desktop; how much room a name needs follows from it


class NamedBytes(io.BytesIO):
    """A file in memory that messages call by its name."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name

    def __str__(self) -> str:
        return self.name


class Answerer:
    """Answers requests about pictures by one of several models."""

    def __init__(self, predictors: Mapping[str, Predictor], limits: Limits):
        self.predictors, self.limits = dict(predictors), limits
        self._stopped: deque[str] = deque(maxlen=MOST_STOPPED)

    def tasks(self, model: str) -> list[str]:
        """The tasks that the model answers."""
        return list(self.predictors[model].tasks)

    def default_threshold(self, model: str, task: str) -> float:
        """The threshold at which the model answers if the request names none."""
        if task == "semantic":
            return 0.0
        if task == "instance":
            return DEFAULT_INSTANCE_SCORE
        cfg = self.predictors[model].cfg
        return contract_of(cfg).default_threshold(task, cfg)

    def stop(self, ticket: Any) -> None:
        """End the question that came with this ticket: before it begins, or at its next frame."""
        if isinstance(ticket, str) and 0 < len(ticket) <= LONGEST_TICKET:
            self._stopped.append(ticket)

    def answer(self, upload: Any, model: Any, task: Any, threshold: Any) -> Generator[dict[str, Any], None, None]:
        """What viewer.js shows, one after the other: how far the work is (`working`), and last the answer.

        The answer holds `message` and `error`, and of a file that could be read its segments; of a question that
        was stopped `stopped` alone. Each repeats the question's `ticket`, if it has one.
        upload: {"name": str, "data": base64, "ticket": str}, or None before there is one. The page offers only valid
        values for the other three; a request can hold anything.
        """
        if upload is None:
            yield {"error": False, "message": ""}
            return
        ticket = upload.get("ticket") if isinstance(upload, dict) else None
        mark = {"ticket": ticket} if isinstance(ticket, str) and len(ticket) <= LONGEST_TICKET else {}
        steps = self._steps(upload, model, task, threshold)
        try:
            while mark.get("ticket") not in self._stopped:
                yield {**next(steps), **mark}
            yield {"stopped": True, **mark}
        except StopIteration:
            pass
        except (RefusedError, BrokenImageError) as error:
            yield {"error": True, "message": f"{error}.", **mark}
        finally:
            steps.close()

    def _steps(self, upload: Any, model: Any, task: Any, threshold: Any) -> Generator[dict[str, Any], None, None]:
        yield {"working": True}
        self._check(model, task, threshold)
        name, data = self._received(upload)
        predictor = self.predictors[model]
        if is_video(data):
            clip = yield from segment_clip(name, data, predictor, task, threshold, self.limits)
            yield clip_answer(name, task, clip)
            return
        image = self._image(NamedBytes(data, name))
        start = time.perf_counter()
        result = predictor(image, task=task, threshold=threshold)
        seconds = time.perf_counter() - start
        segmentation = segmentations(result, predictor.classes, threshold=threshold, tasks=[task])[task]
        height, width = image.shape[:2]
        count = f"{len(segmentation.segments)} segment" + "s" * (len(segmentation.segments) != 1)
        message = f"{name}, {width} x {height}: {count} ({task}) in {seconds:.2f} s."
        files = downloads(name, segmentation)
        picture_name = f"{PurePosixPath(name).stem}_{task}.png"
        shows = {**shown(image, segmentation), "files": files, "picture_name": picture_name}
        yield {"error": False, "message": message, **shows}

    def _check(self, model: Any, task: Any, threshold: Any) -> None:
        if not isinstance(model, str) or model not in self.predictors:
            raise RefusedError(f"there is no model '{model}' here, but {', '.join(self.predictors)}")
        if task not in self.tasks(model):
            raise RefusedError(f"{model} does not answer the task '{task}', but {', '.join(self.tasks(model))}")
        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise RefusedError(f"the threshold is {threshold}, but must lie in [0, 1]")

    def _received(self, upload: Any) -> tuple[str, bytes]:
        """(the file's name without any folder, its bytes)."""
        try:
            name, data = upload["name"], base64.b64decode(upload["data"], validate=True)
            name = PurePosixPath(name.replace("\\", "/")).name[-LONGEST_NAME:] or "picture"
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise RefusedError("This is not a file as the page sends it") from error
        if len(data) > self.limits.max_bytes:
            most = f"{self.limits.max_bytes / 1e6:g} MB"
            raise RefusedError(f"{name} has {len(data) / 1e6:.1f} MB, but at most {most} are taken")
        return name, data

    def _image(self, file: NamedBytes) -> NDArray[np.uint8]:
        """RGB uint8 (H, W, 3), upright, its longer side at most `limits.max_size`."""
        try:
            with Image.open(file) as header:
                width, height = header.size
        except UnidentifiedImageError as error:
            raise RefusedError(f"{file} is no picture or video that can be read. {readable()}") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise RefusedError(f"{file} cannot be read ({error})") from error
        if width * height > self.limits.max_pixels:
            most = f"{self.limits.max_pixels / 1e6:g} megapixels"
            raise RefusedError(f"{file} has {width} x {height} pixels, but at most {most} are taken")
        file.seek(0)
        image = read_image(file, "RGB")
        return resized(image, fitted_size(image.shape[:2], self.limits.max_size))


def readable() -> str:
    """The formats that can be read, as a sentence without its full stop."""
    known = Image.registered_extensions()
    pictures = [name for name in COMMON_PICTURES if f".{name.lower()}" in known]
    return f"Pictures can be {', '.join(pictures)}; videos MP4, MOV, MKV, WebM, AVI"


def shown(image: NDArray[np.uint8], segmentation: Segmentation) -> dict[str, Any]:
    """The picture (JPEG), the map of what is seen at each pixel (deflated uint16, 0: nothing) and its segments.

    `solid` is the map without regions that are too small for an outline.
    Of instances, which may cover each other, also all of each mask (deflated bits, one for each pixel of each).
    """
    height, width = segmentation.size
    colors, centers = drawing.segment_colors(segmentation), name_centers(segmentation)
    least = (5 * max(1, round(min(height, width) / 300))) ** 2  # px; the outline's width is that of page/drawing.js
    solid, _ = without_specks(segmentation.index_map, [segment.box for segment in segmentation.segments], least)
    segments = [
        {"name": s.name, "score": s.score, "area": s.area, "box": s.box, "color": color, "center": center}
        for s, color, center in zip(segmentation.segments, colors, centers, strict=True)
    ]
    return {
        "width": width,
        "height": height,
        "segments": segments,
        "picture": _base64(_encoded(image, "JPEG", quality=JPEG_QUALITY)),
        "map": _deflated(segmentation.index_map.astype("<u2")),
        "solid": _deflated(solid.astype("<u2")),
        "masks": None if segmentation.masks is None else _deflated(np.packbits(segmentation.masks)),
    }


def name_centers(segmentation: Segmentation) -> list[list[float] | None]:
    """(x, y) of where each segment's name goes, px; None for a segment that is not seen."""
    seen = [place for place, segment in enumerate(segmentation.segments) if segment.area]
    centers: list[list[float] | None] = [None] * len(segmentation.segments)
    if not seen:
        return centers
    table = np.zeros(len(segmentation.segments) + 1, dtype=segmentation.index_map.dtype)
    table[[place + 1 for place in seen]] = np.arange(1, len(seen) + 1)
    unit = segmentation.size[1] / WIDTH_ON_SCREEN
    sizes = [(unit * (8 * len(segmentation.segments[place].name) + 50), unit * 22) for place in seen]
    boxes = [segmentation.segments[place].box for place in seen]
    for place, center in zip(seen, label_centers(table[segmentation.index_map], boxes, sizes).tolist(), strict=True):
        centers[place] = center
    return centers


def downloads(name: str, segmentation: Segmentation) -> list[dict[str, str]]:
    """Label file and json as links that hold their file."""
    stem, (height, width), files = PurePosixPath(name).stem, segmentation.size, []
    labels = segmentation.labels()
    if labels is not None:
        png = _base64(_encoded(labels, "PNG"))
        files.append(_link("Labels (PNG)", f"{stem}_{segmentation.task}_labels.png", "image/png", png))
    content = {"file_name": name, "height": height, "width": width, segmentation.task: segmentation.content()}
    files.append(_link("Segments (json)", f"{stem}.json", "application/json", _base64(json.dumps(content).encode())))
    return files


def clip_answer(name: str, task: str, clip: Clip) -> dict[str, Any]:
    """The answer to a video: the overlay plays on the page; the other files are links."""
    stem, (height, width) = PurePosixPath(name).stem, clip.size
    each = "" if clip.every == 1 else f", one of {clip.every},"
    message = f"{name}, {width} x {height}: {clip.num_frames} frames{each} ({task}) in {clip.seconds:.1f} s."
    overlay = _link("Overlay (MP4)", f"{stem}_{task}.mp4", "video/mp4", _base64(clip.overlay))
    files = [overlay, _link("Segments (json lines)", f"{stem}.jsonl", "application/jsonl", _base64(clip.lines))]
    if clip.tracks is not None:
        files.append(_link("Tracks (json)", f"{stem}_tracks.json", "application/json", _base64(clip.tracks)))
    notes = "".join(f" The file {note}." for note in clip.notes)
    return {"error": False, "message": message + notes, "video": overlay["url"], "files": files}


def _link(label: str, name: str, kind: str, data: str) -> dict[str, str]:
    return {"label": label, "name": name, "url": f"data:{kind};base64,{data}"}


def _encoded(pixels: NDArray[Any], file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def _deflated(values: NDArray[Any]) -> str:
    return _base64(zlib.compress(values.tobytes(), level=1))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
