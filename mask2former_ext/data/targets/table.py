"""The target kinds by name: what INPUT.TARGETS may be. A user's own module adds its kinds by `register_target_kind`."""

from __future__ import annotations

from detectron2.config import CfgNode

from mask2former_ext.contract import UNIFIED, contract_of
from mask2former_ext.data.targets.instance import InstanceTarget
from mask2former_ext.data.targets.kind import TargetKind
from mask2former_ext.data.targets.panoptic import PanopticTarget
from mask2former_ext.data.targets.semantic import SemanticTarget
from mask2former_ext.data.targets.things import ThingsAndStuffTarget, ThingTarget
from mask2former_ext.data.targets.unified import UnifiedTarget

# Name and the model's numbering of classes -> kind: what "panoptic" means depends on the latter.
_KINDS: dict[tuple[str, str], type[TargetKind]] = {}


def register_target_kind(name: str, kind: type[TargetKind]) -> None:
    """Let INPUT.TARGETS name a kind, for models of its `numberings`. Raises ValueError if the name is taken."""
    for numbering in kind.numberings:
        taken = _KINDS.setdefault((name, numbering), kind)
        if taken is not kind:
            raise ValueError(f"the target kind '{name}' is {taken.__qualname__} already; choose another name")


def target_kind_names() -> list[str]:
    """What INPUT.TARGETS may be, for models of either numbering."""
    return sorted({name for name, _ in _KINDS})


def target_kind_class(cfg: CfgNode) -> type[TargetKind]:
    """The kind that INPUT.TARGETS names, for the model of `cfg`. Raises ValueError if there is none."""
    numbering = contract_of(cfg).numbering
    known = sorted(name for name, of in _KINDS if of == numbering)
    if cfg.INPUT.TARGETS not in known:
        raise ValueError(f"INPUT.TARGETS is '{cfg.INPUT.TARGETS}', but must be one of {', '.join(known)}")
    return _KINDS[cfg.INPUT.TARGETS, numbering]


def target_kind(cfg: CfgNode) -> TargetKind:
    """The kind of truth that the model of `cfg` is trained on. Raises ValueError where a key cannot work."""
    kind = target_kind_class(cfg)
    kind.check_config(cfg)
    return kind.from_config(cfg)


register_target_kind("semantic", SemanticTarget)
register_target_kind("instance", InstanceTarget)
register_target_kind("panoptic", PanopticTarget)
register_target_kind(UNIFIED, UnifiedTarget)
register_target_kind("instance", ThingTarget)
register_target_kind("panoptic", ThingsAndStuffTarget)
