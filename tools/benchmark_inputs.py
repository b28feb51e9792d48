"""What the rivals of the benchmark have in common: their inputs and their jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

Job = Callable[[], object]
Size = tuple[int, int]  # height, width


class Contest(Protocol):
    """A model of ours, and rivals with the same weights."""

    @property
    def job_names(self) -> tuple[str, ...]:
        """Names of all jobs."""

    def rivals(self) -> list[str]:
        """Who takes part here, "ours" first."""

    def save_weights(self, folder: str) -> None:
        """Random weights for all, the same each time."""

    def jobs(self, who: str, folder: str, device: str) -> dict[str, Job]:
        """What is timed, by its name; a rival may lack some of `job_names`."""

    def stages(self, folder: str, device: str) -> tuple[Job, list[tuple[str, torch.nn.Module, str]]]:
        """Our inference, and its parts: what each is called, and module and method that do it."""


def random_image(size: Size) -> torch.Tensor:
    """uint8 (3, H, W)."""
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def random_squares(size: Size, count: int, side: int, num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Objects of `side` x `side` pixels: masks bool (count, H, W), and their classes (count,)."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(count, *size, dtype=torch.bool)
    for mask in masks:
        top, left = (int(torch.randint(0, length - side, (), generator=generator)) for length in size)
        mask[top : top + side, left : left + side] = True
    return masks, torch.randint(0, num_classes, (count,), generator=generator)
