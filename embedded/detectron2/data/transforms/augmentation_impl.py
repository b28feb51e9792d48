"""The augmentations. All random numbers come from numpy's global generator."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fvcore.transforms import transform as T
from fvcore.transforms.transform import NoOpTransform, Transform
from PIL import Image

from .augmentation import Augmentation, _transform_to_aug
from .transform import ResizeTransform, RotationTransform

_SAMPLE_STYLES = ("range", "choice")
_CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")
_CROP_ATTEMPTS = 10


class RandomApply(Augmentation):
    """Apply an augmentation or transform with probability `prob`."""

    def __init__(self, tfm_or_aug: Augmentation | Transform, prob: float = 0.5) -> None:
        assert 0.0 <= prob <= 1.0, f"prob must be between 0 and 1, got {prob}"
        self.aug = _transform_to_aug(tfm_or_aug)
        self.prob = prob

    def get_transform(self, *args: Any) -> Transform:
        return self.aug.get_transform(*args) if self._rand_range() < self.prob else NoOpTransform()

    def __call__(self, aug_input: Any) -> Transform:
        return self.aug(aug_input) if self._rand_range() < self.prob else NoOpTransform()


class RandomFlip(Augmentation):
    """Mirror the image with probability `prob`: left to right, or with `vertical` top to bottom."""

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False) -> None:
        if horizontal == vertical:
            raise ValueError(f"exactly one of horizontal and vertical must be True, both are {horizontal}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return T.HFlipTransform(image.shape[1]) if self.horizontal else T.VFlipTransform(image.shape[0])


class Resize(Augmentation):
    """Resize to `shape`, (h, w) or one number for both."""

    def __init__(self, shape: int | Sequence[int], interp: int = Image.Resampling.BILINEAR.value) -> None:
        shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = self.shape
        return ResizeTransform(image.shape[0], image.shape[1], height, width, self.interp)


class ResizeShortestEdge(Augmentation):
    """Resize, aspect ratio kept, so that the short side gets a sampled length and the long one stays <= max_size.

    short_edge_length: with `sample_style` "range" a (min, max) from which to draw, with "choice" a list of lengths.
    A length of 0 means no resizing.
    """

    @torch.jit.unused
    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: int = Image.Resampling.BILINEAR.value,
    ) -> None:
        assert sample_style in _SAMPLE_STYLES, f"sample_style must be one of {_SAMPLE_STYLES}, got '{sample_style}'"
        self.is_range = sample_style == "range"
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        assert not self.is_range or len(short_edge_length) == 2, (
            f"short_edge_length must be (min, max) for sample_style 'range', got {short_edge_length}"
        )
        self._init(locals())

    @torch.jit.unused
    def get_transform(self, image):  # no types: TorchScript would try to compile them with get_output_shape
        if self.is_range:
            length = np.random.randint(self.short_edge_length[0], self.short_edge_length[1] + 1)
        else:
            length = np.random.choice(self.short_edge_length)
        if length == 0:
            return NoOpTransform()
        height, width = image.shape[:2]
        return ResizeTransform(height, width, *self.get_output_shape(height, width, length, self.max_size), self.interp)

    @staticmethod
    def get_output_shape(oldh: int, oldw: int, short_edge_length: int, max_size: int) -> tuple[int, int]:
        """The new (height, width), each rounded half up. TorchScript can compile this."""
        length = float(short_edge_length)
        ratio = length / min(oldh, oldw)
        new_height, new_width = length, ratio * oldw
        if oldh >= oldw:
            new_height, new_width = ratio * oldh, length
        longest = max(new_height, new_width)
        if longest > max_size:
            new_height, new_width = new_height * (max_size / longest), new_width * (max_size / longest)
        return int(new_height + 0.5), int(new_width + 0.5)


class ResizeScale(Augmentation):
    """Large-scale jitter, first part: fit the image, aspect ratio kept, into the target size times a random scale.

    The scale is uniform in min_scale..max_scale (arXiv 2012.07177, section 3). `FixedSizeCrop` is the second part.
    """

    def __init__(
        self,
        min_scale: float,
        max_scale: float,
        target_height: int,
        target_width: int,
        interp: int = Image.Resampling.BILINEAR.value,
    ) -> None:
        self._init(locals())

    def _get_resize(self, image: np.ndarray, scale: float) -> Transform:
        size = np.array(image.shape[:2])
        target = np.array([self.target_height, self.target_width]) * scale
        height, width = np.round(size * (target / size).min()).astype(int)
        return ResizeTransform(image.shape[0], image.shape[1], int(height), int(width), self.interp)

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))


class RandomRotation(Augmentation):
    """Rotate counter-clockwise by a random angle.

    angle: degrees, one number, (min, max) for `sample_style` "range" or a list for "choice".
    center: (x, y) in 0..1 of the image, a (min, max) pair or a list of such; matters only without `expand`.
    """

    def __init__(
        self,
        angle: float | Sequence[float],
        expand: bool = True,
        center: Sequence[Any] | None = None,
        sample_style: str = "range",
        interp: int | None = None,
    ) -> None:
        assert sample_style in _SAMPLE_STYLES, f"sample_style must be one of {_SAMPLE_STYLES}, got '{sample_style}'"
        self.is_range = sample_style == "range"
        if isinstance(angle, (float, int)):
            angle = (angle, angle)
        if center is not None and isinstance(center[0], (float, int)):
            center = (center, center)
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        angle = np.random.uniform(*self.angle) if self.is_range else np.random.choice(self.angle)
        center = None
        if self.center is not None:
            listed = not self.is_range
            x, y = self.center[np.random.randint(len(self.center))] if listed else np.random.uniform(*self.center)
            center = (width * x, height * y)
        if angle % 360 == 0:
            return NoOpTransform()
        return RotationTransform(height, width, angle, expand=self.expand, center=center, interp=self.interp)


class FixedSizeCrop(Augmentation):
    """Cut a `crop_size` (h, w) window from a random place where the image is larger, pad right and below where smaller.

    pad: without it smaller images stay as they are. pad_value fills images, seg_pad_value label maps.
    """

    def __init__(
        self, crop_size: tuple[int, int], pad: bool = True, pad_value: float = 128.0, seg_pad_value: int = 255
    ) -> None:
        self._init(locals())

    def _get_crop(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        crop_height, crop_width = self.crop_size
        # One random number serves both axes: the window lies on a diagonal.
        fraction = np.random.uniform(0.0, 1.0)
        y = int(np.round(max(height - crop_height, 0) * fraction))
        x = int(np.round(max(width - crop_width, 0) * fraction))
        return T.CropTransform(x, y, crop_width, crop_height, width, height)

    def _get_pad(self, image: np.ndarray) -> Transform:
        height, width = np.minimum(image.shape[:2], self.crop_size).tolist()
        crop_height, crop_width = self.crop_size
        return T.PadTransform(
            0, 0, crop_width - width, crop_height - height, width, height, self.pad_value, self.seg_pad_value
        )

    def get_transform(self, image: np.ndarray) -> T.TransformList:
        crop = self._get_crop(image)
        return T.TransformList([crop, self._get_pad(image)] if self.pad else [crop])


class RandomCrop(Augmentation):
    """Cut a window from a random place. For an (H, W) image and `crop_size` (a, b) the window is, by `crop_type`,

    - "relative": (H * a, W * b), with a and b in (0, 1];
    - "relative_range": the same with two random numbers from [a, 1] and [b, 1];
    - "absolute": (a, b), or as much of it as the image has;
    - "absolute_range": height and width each a random whole number from [a, b], but no more than the image has.
    """

    def __init__(self, crop_type: str, crop_size: Sequence[float]) -> None:
        assert crop_type in _CROP_TYPES, f"crop_type must be one of {_CROP_TYPES}, got '{crop_type}'"
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        crop_height, crop_width = self.get_crop_size((height, width))
        assert crop_height <= height and crop_width <= width, (
            f"{self}: crop {(crop_height, crop_width)} is larger than the image {(height, width)}"
        )
        y = np.random.randint(height - crop_height + 1)
        x = np.random.randint(width - crop_width + 1)
        return T.CropTransform(x, y, crop_width, crop_height)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the image -> those of the window, in pixels; random for the two "range" types."""
        height, width = image_size
        if self.crop_type == "absolute":
            return min(self.crop_size[0], height), min(self.crop_size[1], width)
        if self.crop_type == "absolute_range":
            low, high = self.crop_size
            assert low <= high, f"crop_size must be (min, max) for 'absolute_range', got {self.crop_size}"
            crop_height = np.random.randint(min(height, low), min(height, high) + 1)
            return crop_height, np.random.randint(min(width, low), min(width, high) + 1)
        fractions = np.asarray(self.crop_size, dtype=np.float32 if self.crop_type == "relative_range" else None)
        if self.crop_type == "relative_range":
            fractions = fractions + np.random.rand(2) * (1 - fractions)
        return int(height * fractions[0] + 0.5), int(width * fractions[1] + 0.5)


class RandomCrop_CategoryAreaConstraint(Augmentation):  # noqa: N801 (the published name)
    """`RandomCrop` that looks, ten times at most, for a window in which no class covers too much of the labels.

    single_category_max_area: the largest fraction for one class, 1 for no such rule; a good window also shows two
        classes or more.
    ignored_category: a label that does not count.
    """

    def __init__(
        self,
        crop_type: str,
        crop_size: Sequence[float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ) -> None:
        self.crop_aug = RandomCrop(crop_type, crop_size)
        self._init(locals())

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        for _ in range(_CROP_ATTEMPTS):
            crop = self.crop_aug.get_transform(sem_seg)
            labels, areas = np.unique(crop.apply_segmentation(sem_seg), return_counts=True)
            areas = areas[labels != self.ignored_category] if self.ignored_category is not None else areas
            if len(areas) > 1 and areas.max() < areas.sum() * self.single_category_max_area:
                break
        return crop


class _RandomIntensity(Augmentation):
    """Blend the image with a duller one, by a weight uniform in intensity_min..intensity_max.

    1 keeps the image, less dulls it, more does the opposite.
    """

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        self._init(locals())

    def _dull(self, image: np.ndarray) -> Any:
        raise NotImplementedError

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return T.BlendTransform(src_image=self._dull(image), src_weight=1 - weight, dst_weight=weight)


class RandomContrast(_RandomIntensity):
    """Towards or away from the mean gray."""

    def _dull(self, image: np.ndarray) -> Any:
        return image.mean()


class RandomBrightness(_RandomIntensity):
    """Towards or away from black."""

    def _dull(self, _image: np.ndarray) -> Any:
        return 0


class RandomSaturation(_RandomIntensity):
    """Towards or away from the grayscale image (BT.601 luma). Images must be RGB."""

    def _dull(self, image: np.ndarray) -> Any:
        assert image.shape[-1] == 3, f"RandomSaturation needs an RGB image, got shape {image.shape}"
        return image.dot([0.299, 0.587, 0.114])[:, :, np.newaxis]
