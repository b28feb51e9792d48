"""Load a model from a configuration and use it on images, without a data loader."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.data.transforms import ResizeShortestEdge, ResizeTransform
from detectron2.modeling import build_model
from torch import nn

from mask2former_ext.classes import to_metadata
from mask2former_ext.config.checks import check_model, use_available_device
from mask2former_ext.contract import Contract, Request, classes_of, contract_of
from mask2former_ext.data import prepare_data
from mask2former_ext.data.channels import apply_by_channel, as_gray, file_order, in_model_order, shown
from mask2former_ext.inference.images import Image, as_array
from mask2former_ext.inference.model_source import config_of
from mask2former_ext.inference.prediction import Prediction
from mask2former_ext.inference.runs import run_config
from mask2former_ext.interop.weights import WeightFile, fitted_to, load_weights

logger = logging.getLogger(__name__)


def load_model(cfg: CfgNode | str | Path) -> nn.Module:
    """The model of `cfg` in eval mode, with MODEL.WEIGHTS loaded if that is not empty.

    `cfg` may also be what `model_source.config_of` takes: the name of a published model, which is downloaded once, or
    the path of a yaml or of the folder of a run or of a Hugging Face model.
    It lies on MODEL.DEVICE, or with a warning on the CPU where that asks for a GPU and there is none.

    Raises ValueError if the weights do not fit (see `interop.weights.load_weights`) or a value cannot work.
    """
    return _load(*_prepared(cfg))


def _prepared(cfg: CfgNode | str | Path) -> tuple[CfgNode, WeightFile]:
    """A copy that says on which device and of which classes the model is, and its weights. Needs no data."""
    cfg = cfg.clone() if isinstance(cfg, CfgNode) else config_of(cfg)
    cfg.defrost()
    check_model(cfg)
    use_available_device(cfg)
    weights = WeightFile(cfg.MODEL.WEIGHTS)
    prepare_data(cfg, trained_on=weights.classes if weights.path else None, needs_data=False)
    return cfg, weights


def _load(cfg: CfgNode, weights: WeightFile) -> nn.Module:
    model, name = build_model(fitted_to(cfg, weights)), cfg.MODEL.META_ARCHITECTURE
    if not weights.path:
        logger.warning("MODEL.WEIGHTS is empty: this %s has learned nothing, and what it answers is random", name)
        return model.eval()
    report = load_weights(model, weights, cfg.INPUT.FORMAT)
    if all(matched.startswith("backbone.") for matched in report.matched):
        rule = "the rest of this %s has learned nothing, and what it answers is random"
        logger.warning(f"MODEL.WEIGHTS %s holds a backbone alone: {rule}", weights.path, name)
    return model.eval()


class Predictor:
    """Images in, results in the contract's form out, at the size of each image.

    predictor = Predictor(load_config("configs/....yaml", ["MODEL.WEIGHTS", "model.pkl"]))
    predictor = Predictor.from_run("output")    # the folder of a training
    result = predictor("photo.jpg")   # or a PIL image, or RGB uint8 (H, W, 3); or a list of such, one batch
    result                            # a notebook shows the picture
    result.draw("panoptic")           # RGB uint8
    result.save("seen.png")           # the picture as a file
    result["panoptic_seg"]            # ids (H, W), [{"id", "category_id", "isthing", "score"}, ...]

    A model that reads a task answers each one that is switched on under its own sentence. Threads may share a
    predictor: a call changes neither it nor the model.
    `classes` (`classes.ClassTable`) holds the names and the data set's colors of the classes; None: nobody named them.
    """

    def __init__(self, cfg: CfgNode | str | Path):
        """cfg: as `load_model` takes it."""
        self.cfg, weights = _prepared(cfg)
        cfg = self.cfg
        self.model = _load(self.cfg, weights)
        self.channels = file_order(cfg.INPUT.FORMAT)  # of the images that it takes; L also takes RGB
        self.tasks = contract_of(cfg).answered_tasks(cfg)
        self.reads_task = contract_of(cfg).reads_task
        self.classes = classes_of(self.cfg)
        if self.classes is None:
            logger.warning("MODEL.CLASSES is empty, and no data set of DATASETS is registered: classes have no names")
        self.resize = ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    @classmethod
    def from_run(cls, folder: str | Path, overrides: Sequence[Any] = ()) -> Predictor:
        """The model that a training has left in `folder` (its OUTPUT_DIR): config.yaml and the last weights.

        `overrides`: see `load_config`. Raises FileNotFoundError or ValueError if one of the two is missing.
        """
        return cls(run_config(folder, overrides))

    def __repr__(self) -> str:
        classes = "classes without names" if self.classes is None else f"{len(self.classes)} classes"
        parts = [f"{self.cfg.MODEL.META_ARCHITECTURE} on {self.cfg.MODEL.DEVICE}", f"answers {', '.join(self.tasks)}"]
        return f"Predictor({'; '.join([*parts, classes, f'weights {self.cfg.MODEL.WEIGHTS!r}'])})"

    @property
    def metadata(self) -> Metadata | None:
        """The names of `classes` as Detectron2's Metadata holds them. Deprecated: use `classes`."""
        warnings.warn("Predictor.metadata is deprecated: use Predictor.classes", DeprecationWarning, stacklevel=2)
        return None if self.classes is None else Metadata(**to_metadata(self.classes))

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a path is also a sequence, of letters
        self, images: Image, *, task: str | None = None, threshold: float | None = None
    ) -> Prediction: ...

    @overload
    def __call__(
        self, images: Sequence[Image], *, task: str | None = None, threshold: float | None = None
    ) -> list[Prediction]: ...

    def __call__(
        self, images: Image | Sequence[Image], *, task: str | None = None, threshold: float | None = None
    ) -> Prediction | list[Prediction]:
        """An image, or a list of such, which is run as one batch -> a `Prediction`, or a list of them.

        An image is a path, a PIL image of any mode, or RGB uint8 (H, W, 3); gray uint8 (H, W, 1) stands for its three
        channels. Files and PIL images are turned upright by their EXIF. Where INPUT.FORMAT names other channels, an
        array is uint8 (H, W, C) of those in `channels`, and a file or PIL image holds them.

        task: the one that is wanted, of `tasks`; a model may answer others along with it. threshold: see
        `contract.Request`.
        Raises ValueError for a task that the model does not answer, a wrong threshold or a wrong image; for a file that
        is no picture `BrokenImageError`, which is one.
        """
        if task not in (None, *self.tasks):
            raise ValueError(f"task is {task!r}, but must be one that the model answers: {', '.join(self.tasks)}")
        tasks = self.tasks if self.reads_task else None
        request = Request(tasks if task is None else (task,), threshold)
        if isinstance(images, Sequence) and not isinstance(images, str | bytes):
            return self._answers([as_array(image, self.channels) for image in images], request)
        return self._answers([as_array(images, self.channels)], request)[0]

    def _answers(self, images: list[np.ndarray], request: Request) -> list[Prediction]:
        inputs = [self._model_input(image) for image in images]
        if not inputs:
            return []
        with torch.inference_mode():
            results = self.model.answer(inputs, request) if isinstance(self.model, Contract) else self.model(inputs)
        pairs, threshold = zip(results, images, strict=True), request.threshold
        return [Prediction(result, self.shown(image), self.classes, threshold) for result, image in pairs]

    def shown(self, image: np.ndarray) -> np.ndarray:
        """What pictures are drawn on: an image's colors, else its gray, RGB uint8 (H, W, 3)."""
        in_color = self.channels == "L" and image.shape[2] == 3
        return image if in_color else shown(image, self.channels)

    def _model_input(self, image: np.ndarray) -> dict:
        height, width = image.shape[:2]
        gray_of_color = self.channels == "L" and image.shape[2] == 3
        resized = self._resized(as_gray(image) if gray_of_color else image)
        in_order = in_model_order(resized, self.cfg.INPUT.FORMAT)
        pixels = torch.from_numpy(np.array(in_order.transpose(2, 0, 1), order="C"))  # a copy that may be written to
        return {"image": pixels, "height": height, "width": width}

    def _resized(self, image: np.ndarray) -> np.ndarray:
        """At the size that the model is given; a thin image keeps at least one pixel across. Channels in file order."""
        transform = self.resize.get_transform(image)
        if isinstance(transform, ResizeTransform):
            sides = max(1, transform.new_h), max(1, transform.new_w)
            transform = ResizeTransform(transform.h, transform.w, *sides, transform.interp)
        return apply_by_channel(transform, image, self.channels)
