"""The rule for numbers that are not finite: never stepped over in silence, and told with what they belong to."""

from __future__ import annotations

import torch
from detectron2.utils import comm
from torch import Tensor


def check_finite(outputs: dict[str, list[Tensor]], *, part: str, names: list[str], together: bool) -> None:
    """FloatingPointError naming `part`, images and outputs unless all are finite; `outputs` hold a tensor per image.

    With `together` in all processes: one that went on alone would wait for the others for ever.
    """
    pairs = [(name, output) for output in outputs for name in names]
    finite = torch.stack([x.isfinite().all() for tensors in outputs.values() for x in tensors]).tolist()
    if all(comm.all_gather(all(finite)) if together else finite):
        return
    broken = [f"{name}: {output}" for (name, output), good in zip(pairs, finite, strict=True) if not good]
    raise FloatingPointError(f"outputs of the {part} are not finite: {'; '.join(broken) or 'in another process'}")
