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
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import Instances
from torch.nn import functional as F

from mask2former_ext.data.augmentation import (
    build_test_augmentations,
    build_train_augmentations,
    needs_semantic_labels,
    seeded,
)
from mask2former_ext.data.image_io import BrokenImageError, check_size, read_image, read_labels, read_panoptic
from mask2former_ext.data.targets import (
    panoptic_ids,
    panoptic_masks,
    panoptic_to_semantic,
    polygon_mask,
    segmentation_mask,
    semantic_masks,
    stack_masks,
)

IMAGE_PADDING = 128  # gray value of padding added here, as published
_OWN_TRUTH = {"panoptic": "pan_seg_file_name", "instance": "annotations", "semantic": "sem_seg_file_name"}
TARGETS = tuple(_OWN_TRUTH)
_PASSED_ON = ("file_name", "image_id")
_PASSED_ON_AT_TEST = ("pan_seg_file_name", "sem_seg_file_name", "segments_info")

Record = Mapping[str, Any]
Masks = tuple[np.ndarray, np.ndarray]


class Mapper:
    """Callable: record -> dict for the model.

    The dict holds `image` uint8 (3, H, W), `height` and `width` of the file, `file_name`, `image_id`. In training also
    `instances` (gt_classes (N), gt_masks bool (N, H, W); N may be 0), for semantic targets `sem_seg` (H, W), and
    `sampling_seed`, from which all randomness of this image at this step follows: the record's own, else drawn.
    In training a broken file is logged and gives None, so that the loader takes another image.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        targets: str = "panoptic",
        ignore_label: int = 255,
        padded_side: int = 0,
        crop_needs_semantic: bool = False,
        max_broken_images: int = 0,
    ) -> None:
        """`padded_side`: pixels to which a smaller image is padded at the right and bottom, 0 for none."""
        if targets not in TARGETS:
            raise ValueError(f"INPUT.TARGETS is '{targets}', but must be one of {', '.join(TARGETS)}")
        if crop_needs_semantic and targets == "instance":
            raise ValueError("INPUT.CROP.SINGLE_CATEGORY_MAX_AREA below 1 needs panoptic or semantic INPUT.TARGETS")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.targets = targets
        self.ignore_label = ignore_label
        self.padded_side = padded_side
        self.crop_needs_semantic = crop_needs_semantic
        self.max_broken_images = max_broken_images
        # One byte for each broken image: a count that all copies in the loader's workers share, however those start.
        self._tally_path = os.path.join(tempfile.gettempdir(), f"broken_images_{uuid.uuid4().hex}")
        weakref.finalize(self, _remove_tally, self._tally_path, os.getpid())

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        common = {"is_train": is_train, "image_format": cfg.INPUT.FORMAT, "targets": cfg.INPUT.TARGETS}
        if not is_train:
            return {**common, "augmentations": build_test_augmentations(cfg)}
        ignore_label = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("ignore_label", 255)
        jitter = cfg.INPUT.AUGMENTATION == "large_scale_jitter"
        return {
            **common,
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
        image = self._read_image(record)
        result = _common_fields(record, image)
        from_png = truth_of(record, self.targets) == "pan_seg_file_name"
        panoptic = _read_panoptic_of(record, image.shape[:2]) if from_png else None
        labels = None
        if self.targets == "semantic" or self.crop_needs_semantic:
            labels = self._semantic_labels(record, image.shape[:2], panoptic)

        aug_input = T.AugInput(image, sem_seg=labels)
        transforms = self.augmentations(aug_input)
        size = aug_input.image.shape[:2]
        if self.targets == "semantic":
            labels = np.array(aug_input.sem_seg, dtype=np.int64)
            masks, classes = semantic_masks(labels, self.ignore_label)
            result["sem_seg"] = self._pad(torch.from_numpy(labels), self.ignore_label)
        elif panoptic is not None:
            masks, classes = self._panoptic_masks(record, transforms.apply_segmentation(panoptic))
        else:
            masks, classes = _annotation_masks(record, transforms, image.shape[:2], size)

        result["image"] = self._pad(_image_tensor(aug_input.image), IMAGE_PADDING)
        result["instances"] = self._instances(masks, classes)
        return result

    def _read_image(self, record: Record) -> np.ndarray:
        image = read_image(record["file_name"], self.image_format)
        expected = (record.get("height", image.shape[0]), record.get("width", image.shape[1]))
        check_size(record["file_name"], image.shape[:2], expected, "the json")
        return image

    def _semantic_labels(self, record: Record, size: tuple[int, int], panoptic: np.ndarray | None) -> np.ndarray:
        """(H, W) of a type that Detectron2's transforms take: uint8 where the labels fit, else float64."""
        if panoptic is not None:
            labels = panoptic_to_semantic(panoptic_ids(panoptic), record["segments_info"], self.ignore_label)
        else:
            labels = read_labels(record["sem_seg_file_name"])
            check_size(record["sem_seg_file_name"], labels.shape, size, record["file_name"])
        fits = int(labels.min()) >= 0 and int(labels.max()) <= 255
        return labels.astype(np.uint8 if fits else np.float64)

    def _panoptic_masks(self, record: Record, png: np.ndarray) -> Masks:
        segments = record["segments_info"]
        if self.targets == "instance":
            segments = [segment for segment in segments if segment["isthing"]]
        return panoptic_masks(panoptic_ids(png), segments)

    def _instances(self, masks: np.ndarray, classes: np.ndarray) -> Instances:
        padded = self._pad(torch.from_numpy(masks), 0)
        instances = Instances(tuple(padded.shape[-2:]))
        instances.gt_classes = torch.from_numpy(classes)
        instances.gt_masks = padded
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


def truth_of(record: Record, targets: str) -> str:
    """The record's key from which `targets` are made: their own truth, else the panoptic PNG.

    Raises ValueError naming the image if the record has neither.
    """
    own = _OWN_TRUTH[targets]
    if own in record:
        return own
    if "pan_seg_file_name" not in record:
        raise ValueError(
            f"{record['file_name']}: INPUT.TARGETS is {targets}, but its data set holds nothing to make {targets} "
            f"masks from: its record has no {' and no '.join(dict.fromkeys((own, 'pan_seg_file_name')))}"
        )
    return "pan_seg_file_name"


def _common_fields(record: Record, image: np.ndarray) -> dict[str, Any]:
    fields = {key: record[key] for key in _PASSED_ON if key in record}
    return {**fields, "height": image.shape[0], "width": image.shape[1]}


def _read_panoptic_of(record: Record, size: tuple[int, int]) -> np.ndarray:
    png = read_panoptic(record["pan_seg_file_name"])
    check_size(record["pan_seg_file_name"], png.shape[:2], size, record["file_name"])
    return png


def _annotation_masks(
    record: Record, transforms: T.TransformList, old_size: tuple[int, int], new_size: tuple[int, int]
) -> Masks:
    """Masks (N, *new_size) and classes (N) of the annotations that are no crowd.

    A polygon is moved point by point and filled at the new size; every other form is decoded, then moved as a picture.
    """
    wanted = [annotation for annotation in record["annotations"] if not annotation.get("iscrowd", 0)]
    masks = [_moved_mask(record, annotation, transforms, old_size, new_size) for annotation in wanted]
    return stack_masks(masks, [annotation["category_id"] for annotation in wanted], *new_size)


def _moved_mask(
    record: Record,
    annotation: Record,
    transforms: T.TransformList,
    old_size: tuple[int, int],
    new_size: tuple[int, int],
) -> np.ndarray:
    segmentation = annotation["segmentation"]
    try:
        if isinstance(segmentation, list):
            moved = [
                transforms.apply_coords(np.array(polygon, dtype=np.float64).reshape(-1, 2)).ravel()
                for polygon in segmentation
            ]
            return polygon_mask(moved, *new_size)
        mask = segmentation_mask(segmentation, *old_size).astype(np.uint8)
    except ValueError as error:
        raise ValueError(f"{record['file_name']}: annotation {annotation.get('id', '')}: {error}") from error
    return transforms.apply_segmentation(mask).astype(bool)


def _image_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
