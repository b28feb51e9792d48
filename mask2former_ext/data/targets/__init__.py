"""What a model learns from: one file for each kind of truth, and the codecs of masks that they share.

`masks` holds pure functions and loads nothing else of the house; the names below are loaded when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mask2former_ext.data.targets.kind import Augmented, Source, TargetKind
    from mask2former_ext.data.targets.table import register_target_kind, target_kind, target_kind_class

__all__ = ["Augmented", "Source", "TargetKind", "register_target_kind", "target_kind", "target_kind_class"]

_HOME_OF = {
    **dict.fromkeys(("Augmented", "Source", "TargetKind"), "kind"),
    **dict.fromkeys(("register_target_kind", "target_kind", "target_kind_class"), "table"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
