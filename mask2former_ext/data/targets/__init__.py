"""What a model learns from: one file for each kind of truth, and the codecs of masks that they share.

`masks` holds pure functions and loads nothing else of the house; the names below are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mask2former_ext.on_demand import names_on_demand

if TYPE_CHECKING:
    from mask2former_ext.data.targets.kind import Augmented, Source, TargetKind
    from mask2former_ext.data.targets.table import register_target_kind, target_kind, target_kind_class

__all__ = ["Augmented", "Source", "TargetKind", "register_target_kind", "target_kind", "target_kind_class"]

_HOME_OF = {
    **dict.fromkeys(("Augmented", "Source", "TargetKind"), "kind"),
    **dict.fromkeys(("register_target_kind", "target_kind", "target_kind_class"), "table"),
}

__getattr__, __dir__ = names_on_demand(__name__, _HOME_OF)
