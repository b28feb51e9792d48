"""Write the segmentations of images and videos: overlays, label files, json, COCO and YouTube-VIS json.

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
from mask2former_ext.inference.drawing import DEFAULT_ALPHA, ColorBy, Colors, Image, Legend, draw, side_by_side
from mask2former_ext.inference.segmentation import Segmentation, segmentations
from mask2former_ext.inference.tracking import Tracker
from mask2former_ext.inference.video import Camera, Frame, VideoReader, VideoWriter

KINDS = ("overlay", "labels", "json", "coco")


@dataclass(frozen=True)
class SaveOptions:
    """What to show and save. threshold: see `contract.Request`; classes: see `segmentations`; alpha and color_by, and
    of images legend and keep_size: see `draw`."""

    save: Collection[str] = ("overlay",)
    tasks: Collection[str] | None = None  # None: all that the model answers
    side_by_side: bool = False
    threshold: float | None = None
    classes: Collection[str] | None = None
    alpha: float = DEFAULT_ALPHA
    color_by: ColorBy | None = None
    legend: Legend = "names"
    keep_size: bool = True

    def __post_init__(self) -> None:
        for kind in self.save:
            if kind not in KINDS:
                raise ValueError(f"'{kind}' cannot be saved; known are {', '.join(KINDS)}")

    def segmentations_of(self, result: dict, table: ClassTable | None) -> dict[str, Segmentation]:
        return segmentations(result, table, threshold=self.threshold, classes=self.classes, tasks=self.tasks)


class ImageSaver:
    """Files of many images in one folder. For a `with` block, which writes coco.json when it ends.

    `notes` says, once, that overlays have another size than their images.
    """

    def __init__(self, output: Path, options: SaveOptions, table: ClassTable | None):
        self.output, self.options, self.table = output, options, table
        self.notes: list[str] = []
        self._coco = CocoFile(output / "coco.json", table) if "coco" in options.save else None

    def save(self, image: Image, result: dict, name: str, file_name: str) -> dict[str, Segmentation]:
        """Save what the model says of the image of the file `file_name` under `name`; returns it by task."""
        options = self.options
        by_task = options.segmentations_of(result, self.table)
        if "overlay" in options.save:
            self._save_overlays(image, by_task, name)
        if "labels" in options.save:
            for task, segmentation in by_task.items():
                _save_labels(segmentation, self.output / f"{name}_{task}_labels.png")
        if "json" in options.save:
            content: dict[str, Any] = {"file_name": file_name, "height": image.shape[0], "width": image.shape[1]}
            content.update((task, segmentation.content()) for task, segmentation in by_task.items())
            (self.output / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        if self._coco is not None:
            self._coco.add(file_name, by_task)
        return by_task

    def _save_overlays(self, image: Image, by_task: dict[str, Segmentation], name: str) -> None:
        given = self.options
        options: dict[str, Any] = {"alpha": given.alpha, "color_by": given.color_by, "legend": given.legend}
        drawn = {t: draw(image, one, keep_size=given.keep_size, **options) for t, one in by_task.items()}
        for task, picture in drawn.items():
            if picture.shape != image.shape and not self.notes:
                (height, width), (image_height, image_width) = picture.shape[:2], image.shape[:2]
                sizes = f"{width} x {height} pixels for an image of {image_width} x {image_height}"
                self.notes.append(f"overlays are larger than their images: {name} ({task}) has {sizes}")
        for task, picture in ({"all": side_by_side(drawn)} if given.side_by_side else drawn).items():
            PillowImage.fromarray(picture).save(self.output / f"{name}_{task}.png")

    def __enter__(self) -> ImageSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._coco is not None:
            self._coco.__exit__(kind, error, trace)


class VideoSaver:
    """Files of one video or camera. For a `with` block, which ends the files. `notes` lists what could not be kept."""

    def __init__(
        self, output: Path, name: str, source: VideoReader | Camera, options: SaveOptions, table: ClassTable | None
    ):
        self.output, self.name, self.source, self.options, self.table = output, name, source, options, table
        self.notes: list[str] = []
        self._open = ExitStack()
        self._trackers: dict[str, Tracker] = {}
        self._colors: dict[str, Colors] = {}
        self._writers: dict[str, VideoWriter] = {}
        self._lines: TextIO | None = None
        self._tracks: TrackFile | None = None
        if "json" in options.save:
            self._lines = self._open.enter_context((output / f"{name}.jsonl").open("w", encoding="utf-8"))
        if "coco" in options.save:
            self._tracks = self._open.enter_context(TrackFile(output / f"{name}_tracks.json", name, table))

    def save(self, frame: Frame, result: dict) -> None:
        """The next frame and the model's result for it."""
        options = self.options
        by_task = {
            task: self._trackers.setdefault(task, Tracker()).update(segmentation, frame.image)
            for task, segmentation in options.segmentations_of(result, self.table).items()
        }
        if "overlay" in options.save:
            self._write_pictures(frame, by_task)
        if "labels" in options.save:
            for task, segmentation in by_task.items():
                folder = self.output / f"{self.name}_{task}_labels"
                folder.mkdir(exist_ok=True)
                _save_labels(segmentation, folder / f"{frame.index:06d}.png")
        if self._lines is not None:
            content: dict[str, Any] = {"frame": frame.index, "seconds": frame.seconds}
            content.update(height=frame.image.shape[0], width=frame.image.shape[1])
            content.update((task, segmentation.content()) for task, segmentation in by_task.items())
            self._lines.write(json.dumps(content) + "\n")
        if self._tracks is not None:
            self._tracks.add(frame.index, by_task)

    def _write_pictures(self, frame: Frame, by_task: dict[str, Segmentation]) -> None:
        pictures = {task: self._picture(frame.image, task, segmentation) for task, segmentation in by_task.items()}
        for task, picture in ({"all": side_by_side(pictures)} if self.options.side_by_side else pictures).items():
            if task not in self._writers:
                path = self.output / f"{self.name}_{task}.mp4"
                self._writers[task] = self._open.enter_context(VideoWriter(path, self.source))
            self._writers[task].write(picture, frame.pts)

    def _picture(self, image: Image, task: str, segmentation: Segmentation) -> Image:
        colors = self._colors.setdefault(task, Colors())
        options = self.options
        return draw(
            image,
            segmentation,
            alpha=options.alpha,
            color_by=options.color_by,
            colors=colors,
            legend="inside",
        )

    def __enter__(self) -> VideoSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        self.notes = list(dict.fromkeys(note for writer in self._writers.values() for note in writer.notes))


def _save_labels(segmentation: Segmentation, path: Path) -> None:
    labels = segmentation.labels()
    if labels is not None:
        PillowImage.fromarray(labels).save(path)
