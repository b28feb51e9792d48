"""From a dataset record to what the model takes: read, augment, ask the target kind.

Shapes: C channels; H, W pixels of the augmented and padded image. The record and the result follow Detectron2's formats
(its tutorials "Use Custom Datasets" and "Data Loading").
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
from detectron2.data import transforms as T

from mask2former_ext.data.augmentation import (
    build_test_augmentations,
    build_train_augmentations,
    needs_semantic_labels,
    seeded,
)
from mask2former_ext.data.channels import ChannelInput
from mask2former_ext.data.image_io import BrokenImageError, read_record_image
from mask2former_ext.data.targets.kind import Augmented, Source, TargetKind
from mask2former_ext.data.targets.table import target_kind

IMAGE_PADDING = 128  # gray value of padding added here, as published
_PASSED_ON = ("file_name", "image_id")
_PASSED_ON_AT_TEST = ("pan_seg_file_name", "sem_seg_file_name", "segments_info")

Record = Mapping[str, Any]


class Mapper:
    """Callable: record -> dict for the model.

    The dict holds `image` uint8 (C, H, W), its channels in the order of INPUT.FORMAT (see `data.channels`), `height`
    and `width` of the file, `file_name`, `image_id`. In training also what the target kind builds (`data.targets`), and
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
        target: TargetKind | None = None,
        padded_side: int = 0,
        crop_needs_labels: bool = False,
        max_broken_images: int = 0,
    ) -> None:
        """`target`: what is learned of the image's truth; of use in training alone.

        `padded_side`: pixels to which a smaller image is padded at the right and bottom, 0 for none.
        `crop_needs_labels`: whether the augmentations look at the class of each pixel.
        """
        assert target is not None or not is_train, "training needs a target kind"
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.target: Any = target
        self.padded_side = padded_side
        self.crop_needs_labels = crop_needs_labels
        self.max_broken_images = max_broken_images
        # One byte for each broken image: a count that all copies in the loader's workers share, however those start.
        self._tally_path = os.path.join(tempfile.gettempdir(), f"broken_images_{uuid.uuid4().hex}")
        weakref.finalize(self, _remove_tally, self._tally_path, os.getpid())

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        common = {"is_train": is_train, "image_format": cfg.INPUT.FORMAT}
        if not is_train:
            return {**common, "augmentations": build_test_augmentations(cfg)}
        target = target_kind(cfg)
        jitter = cfg.INPUT.AUGMENTATION == "large_scale_jitter"
        return {
            **common,
            "target": target,
            "augmentations": build_train_augmentations(cfg, target.ignore_label),
            "padded_side": cfg.INPUT.IMAGE_SIZE if jitter else cfg.INPUT.PAD_SIZE,
            "crop_needs_labels": needs_semantic_labels(cfg),
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
        image = read_record_image(record, self.image_format)
        result = _common_fields(record, image)
        result.update({key: record[key] for key in _PASSED_ON_AT_TEST if key in record})
        aug_input = ChannelInput(image, self.image_format)
        self.augmentations(aug_input)
        result["image"] = _image_tensor(aug_input.image)
        return result

    def _train_example(self, record: Record) -> dict[str, Any]:
        kind = self.target.chosen(record)
        image = read_record_image(record, self.image_format)
        source = Source(record, image)
        labels = _movable(kind.pixel_classes(source)) if kind.carries_labels or self.crop_needs_labels else None
        aug_input = ChannelInput(image, self.image_format, sem_seg=labels)
        transforms = self.augmentations(aug_input)
        moved = np.array(aug_input.sem_seg, dtype=np.int64) if kind.carries_labels else None
        augmented = Augmented(aug_input.image, moved, transforms, self.padded_side)
        padded = augmented.padded(_image_tensor(augmented.image), IMAGE_PADDING)
        return {**_common_fields(record, image), "image": padded, **kind.build(source, augmented)}

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


def _movable(labels: np.ndarray) -> np.ndarray:
    """(H, W) in a type that Detectron2's transforms take: uint8 where the labels fit, else float64."""
    fits = int(labels.min()) >= 0 and int(labels.max()) <= 255
    return labels.astype(np.uint8 if fits else np.float64)


def _image_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
