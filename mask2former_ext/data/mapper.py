"""From a dataset record to what the model takes: one mapper for semantic, instance and panoptic data.

Shapes: N objects; H, W pixels of the augmented and padded image. The record and the result follow Detectron2's
formats (its tutorials "Use Custom Datasets" and "Data Loading").
"""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances
from torch.nn import functional as F

from mask2former_ext.contract import contract_of, separates_classes
from mask2former_ext.data.annotations import annotated_boxes, annotated_masks
from mask2former_ext.data.augmentation import (
    build_test_augmentations,
    build_train_augmentations,
    needs_semantic_labels,
    seeded,
)
from mask2former_ext.data.image_io import BrokenImageError, check_size, read_image, read_labels, read_panoptic
from mask2former_ext.data.separated import Separation, separate
from mask2former_ext.data.sets.published import class_names
from mask2former_ext.data.targets.masks import (
    box_of_mask,
    panoptic_ids,
    panoptic_masks,
    panoptic_to_semantic,
    semantic_masks,
)
from mask2former_ext.data.targets.texts import object_texts
from mask2former_ext.data.tasks import (
    PANOPTIC_FILE,
    UNIFIED,
    Probabilities,
    draw_task,
    parts_of,
    require_pixel_classes,
    trained_tasks,
    truth_of,
)

IMAGE_PADDING = 128  # gray value of padding added here, as published
_PASSED_ON = ("file_name", "image_id")
_PASSED_ON_AT_TEST = ("pan_seg_file_name", "sem_seg_file_name", "segments_info")

Record = Mapping[str, Any]
Masks = tuple[np.ndarray, np.ndarray]


class Mapper:
    """Callable: record -> dict for the model.

    The dict holds `image` uint8 (3, H, W), `height` and `width` of the file, `file_name`, `image_id`. In training also
    `instances` (gt_classes (N), gt_masks bool (N, H, W); N may be 0), for semantic targets `sem_seg` (H, W), and
    `sampling_seed`, from which all randomness of this image at this step follows: the record's own, else drawn.
    For a model that separates classes (`data.separated`) the instances are things 0..T-1 with `gt_boxes` (Boxes) and,
    if MODEL.MASK_ON, `gt_masks` as BitMasks; panoptic targets add `sem_seg`, the labels 0..S of all pixels.
    INPUT.TARGETS "unified" adds `task` (semantic, instance or panoptic, drawn for this image) and `text` (strings, see
    `targets.object_texts`). In training a broken file is logged and gives None, so that the loader takes another image.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        tasks: Probabilities,
        ignore_label: int = 255,
        padded_side: int = 0,
        crop_needs_semantic: bool = False,
        max_broken_images: int = 0,
        text_length: int = 0,
        text_classes: Sequence[str] = (),
        separation: Separation | None = None,
        with_masks: bool = True,
    ) -> None:
        """`tasks`: what is made of an image's truth, and how often (see `data.tasks`).

        `padded_side`: pixels to which a smaller image is padded at the right and bottom, 0 for none.
        `text_length`: entries of `text`, 0 for no `task` and `text`; `text_classes`: the names of the classes there.
        `separation`: things and stuff are numbered by it, and things have boxes; `with_masks` is then for the things.
        """
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.tasks = tasks
        self.text_length = text_length
        self.text_classes = text_classes
        self.separation = separation
        self.with_masks = with_masks
        self.ignore_label = ignore_label
        self.padded_side = padded_side
        self.crop_needs_semantic = crop_needs_semantic
        self.max_broken_images = max_broken_images
        # One byte for each broken image: a count that all copies in the loader's workers share, however those start.
        self._tally_path = os.path.join(tempfile.gettempdir(), f"broken_images_{uuid.uuid4().hex}")
        weakref.finalize(self, _remove_tally, self._tally_path, os.getpid())

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        common = {"is_train": is_train, "image_format": cfg.INPUT.FORMAT}
        if not is_train:
            return {**common, "augmentations": build_test_augmentations(cfg), "tasks": {}}
        ignore_label = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("ignore_label", 255)
        jitter = cfg.INPUT.AUGMENTATION == "large_scale_jitter"
        of_model: dict[str, Any] = {}
        if cfg.INPUT.TARGETS == UNIFIED:
            length = contract_of(cfg).texts_per_image(cfg)
            of_model = {"text_length": length, "text_classes": class_names(cfg.DATASETS.TRAIN[0])}
        if separates_classes(cfg):
            ignore_label = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
            of_model = {"separation": separate(cfg.DATASETS.TRAIN[0]), "with_masks": cfg.MODEL.MASK_ON}
        return {
            **common,
            **of_model,
            "tasks": trained_tasks(cfg),
            "augmentations": build_train_augmentations(cfg, ignore_label),
            "ignore_label": ignore_label,
            "padded_side": cfg.INPUT.IMAGE_SIZE if jitter else cfg.INPUT.PAD_SIZE,
            "crop_needs_semantic": needs_semantic_labels(cfg),
            "max_broken_images": cfg.DATALOADER.MAX_BROKEN_IMAGES,
        }

    def __call__(self, record: Record) -> dict[str, Any] | None:
        if not self.is_train:
            return self._test_example(record)
        # Drawn outside of `seeded`, or every image would draw the same one.
        seed = record.get("sampling_seed")
        seed = int(np.random.randint(2**31)) if seed is None else int(seed)
        try:
            with seeded(seed):
                return {**self._train_example(record), "sampling_seed": seed}
        except BrokenImageError as error:
            self._count_broken(error)
            return None

    def _test_example(self, record: Record) -> dict[str, Any]:
        image = self._read_image(record)
        result = _common_fields(record, image)
        result.update({key: record[key] for key in _PASSED_ON_AT_TEST if key in record})
        aug_input = T.AugInput(image)
        self.augmentations(aug_input)
        result["image"] = _image_tensor(aug_input.image)
        return result

    def _train_example(self, record: Record) -> dict[str, Any]:
        task = draw_task(record, self.tasks)
        parts = parts_of(task)
        image = self._read_image(record)
        result = _common_fields(record, image)
        needed = {*parts, "semantic"} if self.crop_needs_semantic else set(parts)
        from_png = any(truth_of(record, part) == PANOPTIC_FILE for part in needed)
        panoptic = _read_panoptic_of(record, image.shape[:2]) if from_png else None
        labels = self._semantic_labels(record, image.shape[:2], panoptic) if "semantic" in needed else None

        aug_input = T.AugInput(image, sem_seg=labels)
        transforms = self.augmentations(aug_input)
        if "semantic" in parts:
            labels = np.array(aug_input.sem_seg, dtype=np.int64)
            result["sem_seg"] = self._pad(torch.from_numpy(labels), self.ignore_label)
        boxes = None
        if task == "semantic":
            assert labels is not None, "read above"
            masks, classes = semantic_masks(labels, self.ignore_label)
        elif truth_of(record, parts[0]) == PANOPTIC_FILE:
            assert panoptic is not None, "read above"
            masks, classes = _panoptic_masks(record, transforms.apply_segmentation(panoptic), parts[0])
        elif self.separation is None:
            masks, classes = annotated_masks(record, transforms, image.shape[:2], aug_input.image.shape[:2])
        else:
            sizes = image.shape[:2], aug_input.image.shape[:2]
            masks, classes, boxes = annotated_boxes(record, transforms, *sizes, with_masks=self.with_masks)

        result["image"] = self._pad(_image_tensor(aug_input.image), IMAGE_PADDING)
        result["instances"] = self._instances(masks, classes, boxes)
        if self.text_length:
            result["task"] = task
            result["text"] = object_texts(task, classes.tolist(), self.text_classes, self.text_length)
        return result

    def _read_image(self, record: Record) -> np.ndarray:
        image = read_image(record["file_name"], self.image_format)
        expected = (record.get("height", image.shape[0]), record.get("width", image.shape[1]))
        check_size(record["file_name"], image.shape[:2], expected, "the json")
        return image

    def _semantic_labels(self, record: Record, size: tuple[int, int], panoptic: np.ndarray | None) -> np.ndarray:
        """(H, W) of a type that Detectron2's transforms take: uint8 where the labels fit, else float64."""
        require_pixel_classes(record)
        if panoptic is not None:
            segments = record["segments_info"]
            segments = segments if self.separation is None else self.separation.segments(segments)
            labels = panoptic_to_semantic(panoptic_ids(panoptic), segments, self.ignore_label)
        else:
            path = record["sem_seg_file_name"]
            labels = read_labels(path)
            check_size(path, labels.shape, size, record["file_name"])
            labels = labels if self.separation is None else self.separation.labels(labels, self.ignore_label, path)
        fits = int(labels.min()) >= 0 and int(labels.max()) <= 255
        return labels.astype(np.uint8 if fits else np.float64)

    def _instances(self, masks: np.ndarray, classes: np.ndarray, boxes: np.ndarray | None) -> Instances:
        """`boxes` (N, 4), else those of the masks, count where classes are separated."""
        padded = self._pad(torch.from_numpy(masks), 0)
        instances = Instances(tuple(padded.shape[-2:]))
        if self.separation is None:
            instances.gt_classes = torch.from_numpy(classes)
            instances.gt_masks = padded
            return instances
        if boxes is None:
            boxes = np.array([box_of_mask(mask) for mask in masks]).reshape(-1, 4)
        instances.gt_classes = torch.tensor([self.separation.thing_of[k] for k in classes.tolist()], dtype=torch.int64)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes).float())
        if self.with_masks:
            instances.gt_masks = BitMasks(padded)
        return instances

    def _pad(self, tensor: torch.Tensor, value: int) -> torch.Tensor:
        height, width = tensor.shape[-2:]
        right, bottom = max(self.padded_side - width, 0), max(self.padded_side - height, 0)
        return F.pad(tensor, (0, right, 0, bottom), value=value) if right or bottom else tensor

    def _count_broken(self, error: BrokenImageError) -> None:
        with open(self._tally_path, "ab") as tally:
            tally.write(b".")
        count = os.path.getsize(self._tally_path)
        if count > self.max_broken_images:
            raise ValueError(
                f"{error}; this is broken image number {count}, more than DATALOADER.MAX_BROKEN_IMAGES "
                f"({self.max_broken_images}) allows"
            ) from error
        logging.getLogger(__name__).warning(
            "Left out broken image %d of %d allowed: %s", count, self.max_broken_images, error
        )


def _remove_tally(path: str, owner: int) -> None:
    if os.getpid() == owner and os.path.exists(path):
        os.remove(path)


def _common_fields(record: Record, image: np.ndarray) -> dict[str, Any]:
    fields = {key: record[key] for key in _PASSED_ON if key in record}
    return {**fields, "height": image.shape[0], "width": image.shape[1]}


def _read_panoptic_of(record: Record, size: tuple[int, int]) -> np.ndarray:
    png = read_panoptic(record["pan_seg_file_name"])
    check_size(record["pan_seg_file_name"], png.shape[:2], size, record["file_name"])
    return png


def _panoptic_masks(record: Record, png: np.ndarray, task: str) -> Masks:
    segments = record["segments_info"]
    if task == "instance":
        segments = [segment for segment in segments if segment["isthing"]]
    return panoptic_masks(panoptic_ids(png), segments)


def _image_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
