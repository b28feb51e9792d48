"""Two global name tables: how to load a data set, and what is known about it without loading it."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

_FORMER_NAMES = {
    "class_names": "thing_classes",
    "dataset_id_to_contiguous_id": "thing_dataset_id_to_contiguous_id",
    "stuff_class_names": "stuff_classes",
}


class _Catalog(UserDict):
    """A dict of data set names with the two methods that both catalogs share."""

    def list(self) -> list[str]:
        return [*self.data]

    def remove(self, name: str) -> None:
        self.pop(name)

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({', '.join(self.data)})"


class _DatasetCatalog(_Catalog):
    """name -> function without arguments that returns the data set's records (list[dict]), the same at every call."""

    def register(self, name: str, func: Callable[[], Any]) -> None:
        assert callable(func), f"data set '{name}': a function that loads it is needed, got {type(func).__name__}"
        assert name not in self, f"data set '{name}' is already registered"
        self[name] = func

    def get(self, name: str) -> Any:
        """Load the data set. An unknown name is a KeyError that lists the known ones."""
        if name not in self:
            raise KeyError(f"data set '{name}' is not registered; registered are: {', '.join(self)}")
        return self[name]()


class Metadata(SimpleNamespace):
    """What holds for a whole data set (class names, id maps, paths, ...), as attributes.

    An attribute can be set once; setting an equal value again is allowed, another value is an AssertionError.
    """

    name: str = "N/A"

    def __getattr__(self, key: str) -> Any:
        if key in _FORMER_NAMES:
            return getattr(self, _FORMER_NAMES[key])
        known = ", ".join(vars(self)) if len(vars(self)) > 1 else "none, it is empty"
        raise AttributeError(f"metadata of data set '{self.name}' has no '{key}'; known keys: {known}")

    def __setattr__(self, key: str, value: Any) -> None:
        key = _FORMER_NAMES.get(key, key)
        if key in vars(self):
            old = vars(self)[key]
            assert old == value, f"metadata '{key}' of data set '{self.name}' is already {old!r}, not {value!r}"
        else:
            super().__setattr__(key, value)

    def set(self, **attributes: Any) -> Metadata:
        for key, value in attributes.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)


class _MetadataCatalog(_Catalog):
    """name -> its one Metadata object, which is created on first access."""

    def get(self, name: str) -> Metadata:
        assert name, "metadata needs a data set name, got an empty one"
        return self.data.setdefault(name, Metadata(name=name))


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
