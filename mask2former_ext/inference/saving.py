"""Write what was found in images and videos: overlays, label files, json, COCO and YouTube-VIS json.

Of an image NAME: NAME_TASK.png (overlay), NAME_TASK_labels.png (labels), NAME.json (json); of all images coco.json.
Of a video NAME: NAME_TASK.mp4 (overlay), NAME_TASK_labels/FRAME.png (labels), NAME.jsonl, a line for each frame (json),
NAME_tracks.json (coco). Where the tasks are shown side by side, TASK of an overlay is "all".
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from PIL import Image as PillowImage

from mask2former_ext.classes import ClassTable
from mask2former_ext.inference.coco_files import CocoFile, TrackFile
from mask2former_ext.inference.drawing import DEFAULT_ALPHA, ColorBy, Colors, Image, draw, side_by_side
from mask2former_ext.inference.segmentation import Segmentation, segmentations
from mask2former_ext.inference.tracking import Tracker
from mask2former_ext.inference.video import Camera, Frame, VideoReader, VideoWriter

KINDS = ("overlay", "labels", "json", "coco")


@dataclass(frozen=True)
class Asked:
    """What is to be shown and saved. threshold, classes: see `results.segmentations`; alpha, color_by: `draw`."""

    save: Collection[str] = ("overlay",)
    tasks: Collection[str] | None = None  # None: all that the model answers
    side_by_side: bool = False
    threshold: float | None = None
    classes: Collection[str] | None = None
    alpha: float = DEFAULT_ALPHA
    color_by: ColorBy | None = None

    def __post_init__(self) -> None:
        for kind in self.save:
            if kind not in KINDS:
                raise ValueError(f"'{kind}' cannot be saved; known are {', '.join(KINDS)}")

    def found(self, result: dict, table: ClassTable | None) -> dict[str, Segmentation]:
        return segmentations(result, table, threshold=self.threshold, classes=self.classes, tasks=self.tasks)


class ImageSaver:
    """Files of many images in one folder. For a `with` block, which writes coco.json when it ends."""

    def __init__(self, output: Path, asked: Asked, table: ClassTable | None):
        self.output, self.asked, self.table = output, asked, table
        self._coco = CocoFile(output / "coco.json", table) if "coco" in asked.save else None

    def save(self, image: Image, result: dict, name: str, file_name: str) -> None:
        """An image of the file `file_name` and the model's result for it, under `name`."""
        asked = self.asked
        found = asked.found(result, self.table)
        if "overlay" in asked.save:
            drawn = {t: draw(image, one, alpha=asked.alpha, color_by=asked.color_by) for t, one in found.items()}
            for task, picture in ({"all": side_by_side(drawn)} if asked.side_by_side else drawn).items():
                PillowImage.fromarray(picture).save(self.output / f"{name}_{task}.png")
        if "labels" in asked.save:
            for task, one in found.items():
                _save_labels(one, self.output / f"{name}_{task}_labels.png")
        if "json" in asked.save:
            said: dict[str, Any] = {"file_name": file_name, "height": image.shape[0], "width": image.shape[1]}
            said.update((task, one.content()) for task, one in found.items())
            (self.output / f"{name}.json").write_text(json.dumps(said), encoding="utf-8")
        if self._coco is not None:
            self._coco.add(file_name, found)

    def __enter__(self) -> ImageSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._coco is not None:
            self._coco.__exit__(kind, error, trace)


class VideoSaver:
    """Files of one video or camera. For a `with` block, which ends the files. `notes` says what could not be kept."""

    def __init__(self, output: Path, name: str, source: VideoReader | Camera, asked: Asked, table: ClassTable | None):
        self.output, self.name, self.source, self.asked, self.table = output, name, source, asked, table
        self.notes: list[str] = []
        self._open = ExitStack()
        self._trackers: dict[str, Tracker] = {}
        self._colors: dict[str, Colors] = {}
        self._writers: dict[str, VideoWriter] = {}
        self._lines: TextIO | None = None
        self._tracks: TrackFile | None = None
        if "json" in asked.save:
            self._lines = self._open.enter_context((output / f"{name}.jsonl").open("w", encoding="utf-8"))
        if "coco" in asked.save:
            self._tracks = self._open.enter_context(TrackFile(output / f"{name}_tracks.json", name, table))

    def save(self, frame: Frame, result: dict) -> None:
        """The next frame and the model's result for it."""
        asked = self.asked
        found = {
            task: self._trackers.setdefault(task, Tracker()).update(one, frame.image)
            for task, one in asked.found(result, self.table).items()
        }
        if "overlay" in asked.save:
            self._write_pictures(frame, found)
        if "labels" in asked.save:
            for task, one in found.items():
                folder = self.output / f"{self.name}_{task}_labels"
                folder.mkdir(exist_ok=True)
                _save_labels(one, folder / f"{frame.index:06d}.png")
        if self._lines is not None:
            said: dict[str, Any] = {"frame": frame.index, "seconds": frame.seconds}
            said.update(height=frame.image.shape[0], width=frame.image.shape[1])
            said.update((task, one.content()) for task, one in found.items())
            self._lines.write(json.dumps(said) + "\n")
        if self._tracks is not None:
            self._tracks.add(frame.index, found)

    def _write_pictures(self, frame: Frame, found: dict[str, Segmentation]) -> None:
        pictures = {task: self._picture(frame.image, task, one) for task, one in found.items()}
        for task, picture in ({"all": side_by_side(pictures)} if self.asked.side_by_side else pictures).items():
            if task not in self._writers:
                path = self.output / f"{self.name}_{task}.mp4"
                self._writers[task] = self._open.enter_context(VideoWriter(path, self.source))
            self._writers[task].write(picture, frame.pts)

    def _picture(self, image: Image, task: str, found: Segmentation) -> Image:
        colors = self._colors.setdefault(task, Colors())
        asked = self.asked
        return draw(
            image, found, alpha=asked.alpha, color_by=asked.color_by, colors=colors, legend="inside", keep_size=True
        )

    def __enter__(self) -> VideoSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        self.notes = list(dict.fromkeys(note for writer in self._writers.values() for note in writer.notes))


def _save_labels(found: Segmentation, path: Path) -> None:
    labels = found.labels()
    if labels is not None:
        PillowImage.fromarray(labels).save(path)
