"""Keypoints as annotations. Heat maps for keypoint heads come with the real Detectron2 only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class Keypoints:
    """N objects with K keypoints each: a float32 tensor (N, K, 3) of x, y, visibility (0, 1, 2), in `tensor`."""

    def __init__(self, keypoints: Tensor | np.ndarray | list) -> None:
        device = keypoints.device if isinstance(keypoints, Tensor) else "cpu"
        keypoints = torch.as_tensor(keypoints, dtype=torch.float32, device=device)
        assert keypoints.dim() == 3 and keypoints.shape[2] == 3, f"keypoints are (N, K, 3), not {keypoints.shape}"
        self.tensor = keypoints

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def to(self, *args: Any, **kwargs: Any) -> Keypoints:
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __getitem__(self, item: int | slice | Tensor) -> Keypoints:
        return Keypoints(self.tensor[item][None] if isinstance(item, int) else self.tensor[item])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    @staticmethod
    def cat(keypoints_list: list[Keypoints]) -> Keypoints:
        assert keypoints_list, "Keypoints.cat needs at least one element"
        return Keypoints(torch.cat([keypoints.tensor for keypoints in keypoints_list], dim=0))
