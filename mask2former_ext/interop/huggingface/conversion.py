"""What the conversions of Hugging Face's models share: rules for names, and keys that all mask classifiers have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# A pattern of a tensor's whole name, and our name: a template for the match, or a function of it.
Name = tuple[str, str | Callable[[re.Match], str]]


@dataclass(frozen=True)
class Conversion:
    """How one of their models becomes one of ours."""

    architecture: str  # our MODEL.META_ARCHITECTURE
    keys: Callable[[Mapping[str, Any], str], dict[str, Any]]  # (their config.json, its path) -> our keys
    names: Sequence[Name]
    # Query, key and value apart, where ours are one tensor in this order; which one, is the group `part`.
    parts: Sequence[Name]

    def state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their tensors under our names; names that are not known stay as they are."""
        converted: dict[str, Tensor] = {}
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            part = _first_match(name, self.parts)
            if part is None:
                whole = _first_match(name, self.names)
                converted[whole[1] if whole else name] = tensor
            else:
                match, ours = part
                parts.setdefault(ours, {})[match["part"]] = tensor
        for name, tensors in parts.items():
            if len(tensors) != 3:
                raise ValueError(f"{name}: of query, key and value only {sorted(tensors)} are in the file")
            converted[name] = torch.cat([tensors[part] for part in "qkv"])
        return converted


def _first_match(name: str, rules: Sequence[Name]) -> tuple[re.Match, str] | None:
    for pattern, ours in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match, match.expand(ours) if isinstance(ours, str) else ours(match)
    return None


def classifier_keys(config: Mapping[str, Any], class_weight: float) -> dict[str, Any]:
    """MODEL.MASK_CLASSIFIER.

    The files do not say which classes are things, so panoptic inference is off.
    """
    values = {
        "NUM_CLASSES": len(config.get("id2label", range(config.get("num_labels", 2)))),
        "SIZE_DIVISIBILITY": 32,
        "SEMANTIC_ON": True,
        "INSTANCE_ON": True,
        "CLASS_WEIGHT": class_weight,
        "MASK_WEIGHT": config["mask_weight"],
        "DICE_WEIGHT": config["dice_weight"],
        "NO_OBJECT_WEIGHT": config["no_object_weight"],
        "DEEP_SUPERVISION": config["use_auxiliary_loss"],
    }
    return {f"MODEL.MASK_CLASSIFIER.{key}": value for key, value in values.items()}
