"""Modules that have moved: their old names go on working for one release, with one warning each."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Old name -> new name, both in this package; to go with version 0.2.
MOVED = {
    "architecture": "contract",
    "backbones": "models.backbones",
    "data.datasets": "data.sets.published",
    "inference.commands": "commands.trained_model",
    "prediction": "inference.prediction",
    "predictor": "inference.predictor",
    "results": "inference.segmentation",
    "saving": "inference.saving",
    "task_by_task": "contract",
    "tracking": "inference.tracking",
    "video": "inference.video",
    "visualize": "inference.drawing",
}
_PREFIX = f"{__package__}."


class _MovedFinder(MetaPathFinder):
    """Finds a module under its old name where its file is no more."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname.startswith(_PREFIX) and fullname.removeprefix(_PREFIX) in MOVED:
            return ModuleSpec(fullname, _MovedLoader())
        return None


class _MovedLoader(Loader):
    """Gives the very module of the new name; Python asks once, then finds it under the old name too."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = _PREFIX + MOVED[spec.name.removeprefix(_PREFIX)]
        warnings.warn(f"{spec.name} is now {new}; the old name goes with version 0.2", FutureWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # which the import of the old name has replaced


def keep_old_names() -> None:
    """Make the old names importable in this process."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(_MovedFinder())
