"""What is known of the objects of one image: fields of equal length beside the image's size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch


class Instances:
    """N objects: each attribute is a field with N entries (tensor, list, Boxes, BitMasks, ...).

    `instances.scores = tensor` sets a field, `instances[mask]` selects objects in all fields at once.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        """`image_size` is (height, width); the keyword arguments are fields."""
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"Instances have no field {name!r}; there are: {sorted(fields)}")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Add or replace a field, which must have as many entries as the others."""
        if self._fields:
            assert len(value) == len(self), f"field {name!r} has {len(value)} entries, the others {len(self)}"
        self._fields[name] = value

    def get(self, name: str) -> Any:
        return self._fields[name]

    def has(self, name: str) -> bool:
        return name in self._fields

    def remove(self, name: str) -> None:
        del self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """Every field that has a `to`, moved or converted."""
        moved = {
            name: value.to(*args, **kwargs) if hasattr(value, "to") else value for name, value in self._fields.items()
        }
        return Instances(self._image_size, **moved)

    def __getitem__(self, item: int | slice | torch.Tensor) -> Instances:
        """The chosen objects; a single number gives Instances of length 1."""
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"index {item} is out of range for {len(self)} instances")
            item = slice(item, item + 1 or None)
        return Instances(self._image_size, **{name: value[item] for name, value in self._fields.items()})

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without any field have no length")

    def __iter__(self) -> Iterator:
        raise NotImplementedError("Instances cannot be iterated; iterate over a field")

    @staticmethod
    def cat(instance_lists: list[Instances]) -> Instances:
        """The objects of all of them, which must have the same image size and fields."""
        assert instance_lists, "Instances.cat needs at least one element"
        first = instance_lists[0]
        assert all(isinstance(each, Instances) for each in instance_lists), "Instances.cat takes Instances only"
        sizes = {tuple(each.image_size) for each in instance_lists if not torch.is_tensor(each.image_size)}
        assert len(sizes) <= 1, f"cannot join instances of images with different sizes: {sorted(sizes)}"
        if len(instance_lists) == 1:
            return first
        fields = {name: _joined(name, [each.get(name) for each in instance_lists]) for name in first.get_fields()}
        return Instances(first.image_size, **fields)

    def __str__(self) -> str:
        size = f"num_instances={len(self) if self._fields else 0}, image_height={self._image_size[0]}"
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return f"Instances({size}, image_width={self._image_size[1]}, fields=[{fields}])"

    __repr__ = __str__


def _joined(name: str, values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(values, dim=0)
    if isinstance(first, list):
        return list(itertools.chain.from_iterable(values))
    if hasattr(type(first), "cat"):
        return type(first).cat(values)
    raise ValueError(f"field {name!r}: cannot join values of type {type(first).__name__}")
