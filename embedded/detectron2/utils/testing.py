"""Helpers that tests written for Detectron2 import."""

from __future__ import annotations

import io

import torch


def random_boxes(num_boxes: int, max_coord: float = 100, device: str | torch.device = "cpu") -> torch.Tensor:
    """(num_boxes, 4) corners within [0, max_coord], no side shorter than 1 where the range allows it."""
    corners = torch.rand(num_boxes, 2, 2, device=device) * max_coord
    low, high = corners.amin(dim=1), corners.amax(dim=1)
    low = torch.minimum(low, torch.as_tensor(max(max_coord - 1, 0.0), device=device))
    return torch.cat([low, torch.maximum(high, low + 1)], dim=1)


def reload_script_model(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """What comes back after saving and loading a TorchScript module."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)
