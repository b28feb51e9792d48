"""The random changes of a training image, built from the configuration, and their repeatable randomness."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

from mask2former_ext.contract import color_places

DETR_SIDES = [400, 500, 600]  # shortest sides in pixels to which "detr" resizes before it crops


def build_train_augmentations(cfg: CfgNode, ignore_label: int) -> list[T.Augmentation]:
    """The list for cfg.INPUT.AUGMENTATION, in the published order. Padding is left to the mapper.

    "resize_crop" (MaskFormer, arXiv 2107.06278, section 4): shortest edge, crop, color, flip.
    "crop_resize" (Detectron2's own models): crop, shortest edge, color, flip.
    "large_scale_jitter" (Ghiasi et al., arXiv 2012.07177): flip, scale, crop to IMAGE_SIZE.
    "detr" (Carion et al., arXiv 2005.12872, section 4): flip, in half of the cases resize and crop, resize.
    """
    if cfg.INPUT.AUGMENTATION == "resize_crop":
        return _resize_crop(cfg, ignore_label)
    if cfg.INPUT.AUGMENTATION == "crop_resize":
        return _crop_resize(cfg)
    if cfg.INPUT.AUGMENTATION == "large_scale_jitter":
        return _large_scale_jitter(cfg)
    if cfg.INPUT.AUGMENTATION == "detr":
        return _detr(cfg)
    raise ValueError(
        f"INPUT.AUGMENTATION is '{cfg.INPUT.AUGMENTATION}', but must be resize_crop, crop_resize, large_scale_jitter "
        "or detr"
    )


def build_test_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Shortest edge to MIN_SIZE_TEST, the longest at most MAX_SIZE_TEST; MIN_SIZE_TEST 0 keeps the size."""
    return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]


def needs_semantic_labels(cfg: CfgNode) -> bool:
    """Whether the crop looks at the class of each pixel to choose its place."""
    limit = cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA
    return bool(cfg.INPUT.AUGMENTATION == "resize_crop" and cfg.INPUT.CROP.ENABLED and limit < 1.0)


def _resize(cfg: CfgNode) -> T.Augmentation:
    return T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)


def _resize_crop(cfg: CfgNode, ignore_label: int) -> list[T.Augmentation]:
    crop = cfg.INPUT.CROP
    result: list[T.Augmentation] = [_resize(cfg)]
    if crop.ENABLED and crop.SINGLE_CATEGORY_MAX_AREA < 1.0:
        result.append(
            T.RandomCrop_CategoryAreaConstraint(crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignore_label)
        )
    elif crop.ENABLED:
        result.append(T.RandomCrop(crop.TYPE, crop.SIZE))
    if cfg.INPUT.COLOR_AUG_SSD:
        result.append(_color(cfg))
    return result + _flip(cfg)


def _crop_resize(cfg: CfgNode) -> list[T.Augmentation]:
    crop = [T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)] if cfg.INPUT.CROP.ENABLED else []
    color = [_color(cfg)] if cfg.INPUT.COLOR_AUG_SSD else []
    return [*crop, _resize(cfg), *color, *_flip(cfg)]


def _large_scale_jitter(cfg: CfgNode) -> list[T.Augmentation]:
    if cfg.INPUT.CROP.ENABLED:
        raise ValueError("INPUT.CROP.ENABLED is True, but large_scale_jitter crops to INPUT.IMAGE_SIZE by itself")
    side = cfg.INPUT.IMAGE_SIZE
    result = _flip(cfg)
    result.append(T.ResizeScale(cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE, side, side))
    result.append(T.FixedSizeCrop((side, side), pad=False))
    if cfg.INPUT.COLOR_AUG_SSD:
        result.append(_color(cfg))
    return result


def _detr(cfg: CfgNode) -> list[T.Augmentation]:
    result = _flip(cfg)
    if cfg.INPUT.CROP.ENABLED:
        sides = T.ResizeShortestEdge(DETR_SIDES, sample_style="choice")
        crop = T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)
        result.append(T.RandomApply(T.AugmentationList([sides, crop]), prob=0.5))
    result.append(_resize(cfg))
    if cfg.INPUT.COLOR_AUG_SSD:
        result.append(_color(cfg))
    return result


def _flip(cfg: CfgNode) -> list[T.Augmentation]:
    choice = cfg.INPUT.RANDOM_FLIP
    if choice == "none":
        return []
    if choice not in ("horizontal", "vertical"):
        raise ValueError(f"INPUT.RANDOM_FLIP is '{choice}', but must be horizontal, vertical or none")
    return [T.RandomFlip(horizontal=choice == "horizontal", vertical=choice == "vertical")]


def _color(cfg: CfgNode) -> ColorAugSSDTransform:
    """For the colors; of an image with further channels `data.channels` gives it these alone."""
    places = color_places(cfg.INPUT.FORMAT)
    if not places:
        raise ValueError(f"INPUT.COLOR_AUG_SSD needs colors, but INPUT.FORMAT {cfg.INPUT.FORMAT} has no RGB or BGR")
    return ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT[places[0] : places[-1] + 1])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, `numpy.random` and `random` (which Detectron2's augmentations draw from) follow `seed`.

    Their states before the block are put back after it. 0 <= seed < 2**32.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
