"""Segmentations as COCO json of instances and as YouTube-VIS json of tracks. Memory does not grow with their number.

Category ids are those of the data set that the model was trained on, where its classes have them, else numbers from 1.
"""

from __future__ import annotations

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from mask2former_ext.classes import ClassTable
from mask2former_ext.data.targets.masks import encode_mask
from mask2former_ext.inference.segmentation import Segmentation

Opened = TypeVar("Opened", bound="_AnnotationFile")


class _AnnotationFile(ABC):
    """For a `with` block, which writes the file when it ends well."""

    def __init__(self, path: str | Path, table: ClassTable | None):
        self.path, self.table = Path(path), table
        self._spool = _Spool()

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            self._spool.close()

    def _write(self) -> None:
        """{..., "annotations": [...]}, one annotation a line, none of which is held longer than it is written."""
        head = {"info": {}, **self._head(), "categories": _categories(self.table)}
        with self.path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head)[:-1] + ', "annotations": [')
            for number, annotation in enumerate(self._annotations()):
                file.write((",\n" if number else "\n") + json.dumps(annotation))
            file.write("]}\n")

    @abstractmethod
    def _head(self) -> dict[str, Any]:
        """What the annotations are of."""

    @abstractmethod
    def _annotations(self) -> Iterator[dict[str, Any]]: ...


class CocoFile(_AnnotationFile):
    """COCO json of the things of many images. For a `with` block, which writes the file when it ends well."""

    def __init__(self, path: str | Path, table: ClassTable | None):
        super().__init__(path, table)
        self._images: list[dict[str, Any]] = []

    def add(self, file_name: str, by_task: Mapping[str, Segmentation]) -> None:
        """An image and what `segmentation.segmentations` gives for it."""
        things = _things_of(by_task)
        image_id = len(self._images) + 1
        height, width = things.size
        self._images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        for content in _contents_of_things(things, lambda k: _category_id(self.table, k)):
            self._spool.add(image_id, 0, {"image_id": image_id, **content, "iscrowd": 0})

    def _head(self) -> dict[str, Any]:
        return {"images": self._images}

    def _annotations(self) -> Iterator[dict[str, Any]]:
        for number, (_, _, content) in enumerate(self._spool.rows(), start=1):
            yield {"id": number, **content}


class TrackFile(_AnnotationFile):
    """YouTube-VIS json of the things of one video. For a `with` block, which writes the file when it ends well.

    A track's category is the one that it had most often, weighed by the scores; its score the mean of its frames'.
    """

    def __init__(self, path: str | Path, name: str, table: ClassTable | None):
        super().__init__(path, table)
        self.name = name
        self._frames: list[int] = []
        self._size = (0, 0)

    def add(self, frame: int, by_task: Mapping[str, Segmentation]) -> None:
        """A frame, by its number in the source, and its segmentations, with track ids."""
        things = _things_of(by_task)
        self._size = things.size
        for content, segment in zip(_contents_of_things(things, int), _thing_segments(things), strict=True):
            assert segment.track_id is not None, "a video's segments are tracked"
            self._spool.add(segment.track_id, len(self._frames), content)
        self._frames.append(frame)

    def _head(self) -> dict[str, Any]:
        names = [f"{self.name}/{frame:05d}.jpg" for frame in self._frames]
        return {"videos": [{"id": 1, "length": len(names), **self._sides(), "file_names": names}]}

    def _sides(self) -> dict[str, int]:
        return {"height": self._size[0], "width": self._size[1]}

    def _annotations(self) -> Iterator[dict[str, Any]]:
        for track_id in self._spool.owners():
            length = len(self._frames)
            lists: dict[str, list[Any]] = {key: [None] * length for key in ("segmentations", "bboxes", "areas")}
            votes: dict[int, float] = {}
            scores = []
            for _, place, content in self._spool.rows(track_id):
                lists["segmentations"][place] = content.get("segmentation")
                lists["bboxes"][place], lists["areas"][place] = content["bbox"], content["area"]
                votes[content["category_id"]] = votes.get(content["category_id"], 0.0) + content["score"]
                scores.append(content["score"])
            category = max(votes, key=lambda k: votes[k])
            category_id = _category_id(self.table, category)
            named = {"id": track_id, "video_id": 1, "category_id": category_id, "iscrowd": 0}
            yield {**named, "score": sum(scores) / len(scores), "length": length, **self._sides(), **lists}


class _Spool:
    """Rows on disk until they are written in another order."""

    def __init__(self) -> None:
        # "" is a database of its own in a file that vanishes. Another thread than this one fills it.
        self._rows = sqlite3.connect("", check_same_thread=False)
        self._rows.execute("CREATE TABLE contents (owner INTEGER, place INTEGER, content TEXT)")

    def add(self, owner: int, place: int, content: dict[str, Any]) -> None:
        self._rows.execute("INSERT INTO contents VALUES (?, ?, ?)", (owner, place, json.dumps(content)))

    def owners(self) -> list[int]:
        self._rows.execute("CREATE INDEX IF NOT EXISTS by_owner ON contents (owner, place)")
        return [owner for (owner,) in self._rows.execute("SELECT DISTINCT owner FROM contents ORDER BY owner")]

    def rows(self, owner: int | None = None) -> Iterator[tuple[int, int, dict[str, Any]]]:
        chosen = "" if owner is None else "WHERE owner = ?"
        query = f"SELECT owner, place, content FROM contents {chosen} ORDER BY owner, place, rowid"
        for of, place, content in self._rows.execute(query, () if owner is None else (owner,)):
            yield of, place, json.loads(content)

    def close(self) -> None:
        self._rows.close()


def _things_of(by_task: Mapping[str, Segmentation]) -> Segmentation:
    """The instances, or the panoptic segments where the instance task is absent."""
    things = by_task.get("instance", by_task.get("panoptic"))
    if things is None:
        raise ValueError("COCO json holds things: it needs the instance or the panoptic task")
    return things


def _thing_segments(things: Segmentation) -> list[Any]:
    return [segment for segment in things.segments if segment.is_thing]


def _contents_of_things(things: Segmentation, category_id: Callable[[int], int]) -> Iterator[dict[str, Any]]:
    """Category (`category_id` of its number), box, area, score and RLE of each thing."""
    for place, segment in enumerate(things.segments):
        if not segment.is_thing:
            continue
        x0, y0, x1, y1 = segment.box
        content: dict[str, Any] = {
            "category_id": category_id(segment.category_id),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0) if segment.area is None else segment.area,
            "score": 1.0 if segment.score is None else segment.score,
        }
        if things.has_masks:
            content["segmentation"] = encode_mask(things.mask(place))
        yield content


def _category_id(table: ClassTable | None, number: int) -> int:
    known = None if table is None else table.dataset_id(number, is_thing=True)
    return number + 1 if known is None else known


def _categories(table: ClassTable | None) -> list[dict[str, Any]]:
    named = {} if table is None else table.thing_names
    return [{"id": _category_id(table, number), "name": name} for number, name in named.items()]
