"""What an augmentation is: a rule, often random, that looks at an input and decides on a transform for it."""

from __future__ import annotations

import inspect
import pprint
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from fvcore.transforms.transform import Transform, TransformList


class Augmentation:
    """A subclass writes `get_transform`, whose argument names say what it needs to see of the input.

    input_args: those names, e.g. ("image", "sem_seg"), for a class whose argument names say something else. A single
    argument is always the image.
    """

    input_args: tuple[str, ...] | None = None

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What `_init` keeps."""

    def get_transform(self, *args: Any) -> Transform:
        """Decide, at random from numpy's global generator, and return the transform; nothing is applied yet.

        By convention `image` is (H, W) or (H, W, C) uint8, or float in 0..1 or 0..255; `boxes` (N, 4) x0, y0, x1, y1
        in pixels; `sem_seg` (H, W) labels.
        """
        raise NotImplementedError(f"{type(self).__name__} must define get_transform")

    def __call__(self, aug_input: Any) -> Transform:
        """Transform `aug_input` in place and return the transform, for all else that belongs to the image."""
        transform = self.get_transform(*self._arguments_from(aug_input))
        assert isinstance(transform, (Transform, TransformList)), (
            f"{self}.get_transform gave {transform!r}, no Transform"
        )
        aug_input.transform(transform)
        return transform

    def _arguments_from(self, aug_input: Any) -> list[Any]:
        if self.input_args is None:
            self.input_args = self._names_of_arguments()
        missing = [name for name in self.input_args if not hasattr(aug_input, name)]
        if missing:
            raise AttributeError(
                f"{type(self).__name__} needs {missing} of its input, which {type(aug_input).__name__} does not have"
            )
        return [getattr(aug_input, name) for name in self.input_args]

    def _names_of_arguments(self) -> tuple[str, ...]:
        parameters = inspect.signature(self.get_transform).parameters.values()
        if len(parameters) == 1:
            return ("image",)
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            raise TypeError(
                f"{type(self).__name__}.get_transform takes *args or **kwargs: set input_args to their names"
            )
        return tuple(p.name for p in parameters)

    def _init(self, params: dict[str, Any] | None = None) -> None:
        """Keep the arguments of a constructor (its `locals()`) as attributes, where `repr` finds them."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def _rand_range(self, low: float = 1.0, high: float | None = None, size: Any = None) -> Any:
        """Uniform random numbers from low to high; from 0 to low where only that is given."""
        if high is None:
            low, high = 0, low
        return np.random.uniform(low, high, [] if size is None else size)

    def __repr__(self) -> str:
        """Class and arguments, without those that have their default value; plain where they are not attributes."""
        parameters = inspect.signature(type(self).__init__).parameters.values()
        shown = []
        for parameter in list(parameters)[1:]:
            if not hasattr(self, parameter.name):  # *args and **kwargs too
                return super().__repr__()
            value = getattr(self, parameter.name)
            if value is not parameter.default:
                text = pprint.pformat(value)
                shown.append(f"{parameter.name}={'...' if chr(10) in text else text}")
        return f"{type(self).__name__}({', '.join(shown)})"


class _FixedTransform(Augmentation):
    """An augmentation that always decides on the same transform."""

    def __init__(self, tfm: Transform) -> None:
        self.tfm = tfm

    def get_transform(self, *_args: Any) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)


def _transform_to_aug(tfm_or_aug: Transform | Augmentation) -> Augmentation:
    if isinstance(tfm_or_aug, Augmentation):
        return tfm_or_aug
    assert isinstance(tfm_or_aug, (Transform, TransformList)), f"{tfm_or_aug!r} is neither Transform nor Augmentation"
    return _FixedTransform(tfm_or_aug)


class AugmentationList(Augmentation):
    """Several augmentations in turn, each of which sees what those before it have made of the input."""

    def __init__(self, augs: Sequence[Augmentation | Transform]) -> None:
        self.augs = [_transform_to_aug(aug) for aug in augs]

    def __call__(self, aug_input: Any) -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"


class AugInput:
    """An image, with its boxes and its label map where there are such: what augmentations look at and transform.

    Other classes can take its place if they have the attributes that the augmentations ask for, and `transform`.
    """

    def __init__(
        self, image: np.ndarray, *, boxes: np.ndarray | None = None, sem_seg: np.ndarray | None = None
    ) -> None:
        assert isinstance(image, np.ndarray), f"the image must be a numpy array, got {type(image).__name__}"
        assert image.ndim in (2, 3), f"the image must be (H, W) or (H, W, C), got shape {image.shape}"
        self.image = image
        self.boxes = boxes
        self.sem_seg = sem_seg

    def transform(self, tfm: Transform) -> None:
        self.image = tfm.apply_image(self.image)
        if self.boxes is not None:
            self.boxes = tfm.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)

    def apply_augmentations(self, augmentations: Sequence[Augmentation | Transform]) -> TransformList:
        return AugmentationList(augmentations)(self)


def apply_augmentations(augmentations: Sequence[Transform | Augmentation], inputs: Any) -> tuple[Any, TransformList]:
    """Augment an image (array) or an `AugInput`; returns the result in the same form, and the transforms."""
    if isinstance(inputs, np.ndarray):
        image_input = AugInput(inputs)
        transforms = image_input.apply_augmentations(augmentations)
        return image_input.image, transforms
    return inputs, inputs.apply_augmentations(augmentations)


apply_transform_gens = apply_augmentations
TransformGen = Augmentation
