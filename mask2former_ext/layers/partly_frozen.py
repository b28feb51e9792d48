"""A network of which some parts are not trained."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from typing_extensions import Self


class PartlyFrozen(nn.Module):
    """Frozen parts have no gradient and stay in evaluation mode: no statistics move and nothing is dropped in them."""

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Module] = []

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Freeze these modules of this network as well."""
        for module in modules:
            module.requires_grad_(False).eval()
            self._frozen.append(module)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self
