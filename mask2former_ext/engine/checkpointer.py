"""Detectron2's checkpoints with the names of the model's classes."""

from __future__ import annotations

from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from mask2former_ext.classes import ClassTable


class Checkpointer(DetectionCheckpointer):
    """Writes, beside what Detectron2's writes, the model's classes under `classes` (`ClassTable.to_dict`)."""

    def __init__(self, model: nn.Module, save_dir: str, *, classes: ClassTable | None, **parts: Any) -> None:
        """`parts`: what else a checkpoint holds, each with `state_dict` and `load_state_dict`."""
        super().__init__(model, save_dir, **parts)
        self.classes = classes

    def save(self, name: str, **values: Any) -> None:
        """Write `name`.pth; `values` are stored too, as they are."""
        known = {} if self.classes is None else {"classes": self.classes.to_dict()}
        super().save(name, **known, **values)
