"""A model's result for one image, which a notebook can show.

result = predictor(image)
result                        # in a notebook: the picture; at a prompt: its segments, in a few lines
result.draw("panoptic")       # RGB uint8, for PIL.Image.fromarray or matplotlib
result.save("seen.png")       # the same as a file
result.found()["instance"]    # see `segmentation`
result["panoptic_seg"]        # as the model gave it
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, overload

import numpy as np
from detectron2.structures import Instances
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor
from typing_extensions import NotRequired

from mask2former_ext.classes import ClassTable
from mask2former_ext.inference.segmentation import Segmentation, segmentations

_MOST_NAMED = 8


class SegmentInfo(TypedDict):
    """One segment of a panoptic result."""

    id: int  # its number in the map
    category_id: int
    isthing: bool
    score: NotRequired[float]  # in [0, 1]
    area: NotRequired[int]  # px
    instance_id: NotRequired[int]  # of a thing: its place among the instances


class Prediction(dict[str, Any]):
    """The result dict of the contract, with the image that it is of."""

    def __init__(
        self,
        result: Mapping[str, Any],
        image: np.ndarray,
        table: ClassTable | None = None,
        threshold: float | None = None,
    ):
        """image: RGB uint8 (H, W, 3). table: names the classes; None: numbers are shown. threshold: what `found` and
        `draw` take if they are given none."""
        super().__init__(result)
        self.image, self.table, self.threshold = image, table, threshold

    def found(
        self, *, threshold: float | None = None, classes: Collection[str] | None = None
    ) -> dict[str, Segmentation]:
        """The segmentation of each task. Options and errors: see `segmentation.segmentations`."""
        threshold = self.threshold if threshold is None else threshold
        return segmentations(self, self.table, threshold=threshold, classes=classes)

    def draw(
        self,
        task: str | None = None,
        *,
        threshold: float | None = None,
        classes: Collection[str] | None = None,
        alpha: float = 0.5,
        color_by: Literal["class", "instance"] | None = None,
        legend: Literal["names", "below", "inside"] = "names",
        keep_size: bool = True,
    ) -> NDArray[np.uint8]:
        """The image with the segments of `task` drawn over it (None: all tasks, side by side), RGB uint8.

        The options are those of `drawing.draw`: with these the picture of a task has the size of the image.
        Raises ValueError for a task that the model did not answer.
        """
        from mask2former_ext.inference.drawing import draw, side_by_side  # importing the package imports no drawing

        by_task = self.found(threshold=threshold, classes=classes)
        if task is not None and task not in by_task:
            raise ValueError(f"task is {task!r}, but the model answered {', '.join(by_task) or 'nothing'}")
        chosen = by_task if task is None else {task: by_task[task]}
        options: dict[str, Any] = {"alpha": alpha, "color_by": color_by, "legend": legend, "keep_size": keep_size}
        pictures = {name: draw(self.image, each, **options) for name, each in chosen.items()}
        return side_by_side(pictures) if len(pictures) > 1 else next(iter(pictures.values()), np.array(self.image))

    def save(self, path: str | os.PathLike[str], task: str | None = None, **options: Any) -> None:
        """Write the picture that `draw(task, **options)` gives, in the format that the path's suffix names.

        Raises ValueError for a suffix of no kind of picture that can be written, OSError if the file cannot be written,
        and what `draw` raises.
        """
        if PillowImage.registered_extensions().get(Path(path).suffix.lower()) not in PillowImage.SAVE:
            raise ValueError(f"{path}: the suffix must name a kind of picture, as .png and .jpg do")
        PillowImage.fromarray(self.draw(task, **options)).save(path)

    @overload  # type: ignore[override]
    def __getitem__(self, key: Literal["sem_seg"]) -> Tensor: ...

    @overload
    def __getitem__(self, key: Literal["instances"]) -> Instances: ...

    @overload
    def __getitem__(self, key: Literal["panoptic_seg"]) -> tuple[Tensor, list[SegmentInfo]]: ...

    @overload
    def __getitem__(self, key: str) -> Any: ...

    def __getitem__(self, key: str) -> Any:
        """What the model gave: scores (K, H, W); instances; (ids (H, W), what each of them is)."""
        return super().__getitem__(key)

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        lines = [f"Prediction of an image of {height} x {width} pixels (height x width)"]
        lines += [f"  {task}: {summary(segmentation)}" for task, segmentation in self.found().items()]
        return "\n".join(lines)

    def _repr_png_(self) -> bytes:
        """What Jupyter shows."""
        file = io.BytesIO()
        PillowImage.fromarray(self.draw()).save(file, format="PNG")
        return file.getvalue()


def summary(segmentation: Segmentation) -> str:
    """Number of segments and the names of the largest or best, e.g. "2: dog 0.91, cat 0.80"."""
    segments = list(segmentation.segments)
    if segmentation.task == "semantic":
        pixels = segmentation.size[0] * segmentation.size[1]
        segments.sort(key=lambda segment: -(segment.area or 0))
        named = [f"{segment.name} {(segment.area or 0) / pixels:.0%}" for segment in segments]
    else:
        named = [segment.name + ("" if segment.score is None else f" {segment.score:.2f}") for segment in segments]
    more = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return f"{len(segments)}" + (": " if segments else "") + ", ".join(named[:_MOST_NAMED] + more)
