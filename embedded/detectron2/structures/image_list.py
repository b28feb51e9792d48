"""A batch of images of different sizes in one padded tensor."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035  (TorchScript reads these)

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import device as Device  # noqa: N812  (TorchScript knows no dotted names)


class ImageList:
    """`tensor` (N, ..., H, W), images at the top left; `image_sizes`, their N (height, width) before padding."""

    def __init__(self, tensor: Tensor, image_sizes: List[Tuple[int, int]]) -> None:  # noqa: UP006
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx) -> Tensor:  # noqa: ANN001  (TorchScript infers it, and would read a "type:" comment)
        """Image number `idx` without its padding."""
        size = self.image_sizes[idx]
        return self.tensor[idx, ..., : size[0], : size[1]]

    @torch.jit.unused
    def to(self, *args: Any, **kwargs: Any) -> ImageList:
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> Device:
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: List[Tensor],  # noqa: UP006
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: Optional[Dict[str, int]] = None,  # noqa: UP006, UP045
    ) -> ImageList:
        """Pad (..., Hi, Wi) tensors at the right and bottom to one size, a multiple of `size_divisibility` if above 1.

        `padding_constraints` may hold "square_size" (> 0: height and width of the result before rounding up) and
        "size_divisibility", which replaces the argument.
        """
        assert len(tensors) > 0, "an ImageList needs at least one image"
        for tensor in tensors:
            assert tensor.shape[:-2] == tensors[0].shape[:-2], "images of one batch must have the same channels"
        square_size = 0
        if padding_constraints is not None:
            square_size = padding_constraints.get("square_size", 0)
            size_divisibility = padding_constraints.get("size_divisibility", size_divisibility)

        if not torch.jit.is_scripting() and torch.jit.is_tracing():
            return _traced_from_tensors(tensors, size_divisibility, pad_value, square_size)
        height = square_size if square_size > 0 else max([t.shape[-2] for t in tensors])
        width = square_size if square_size > 0 else max([t.shape[-1] for t in tensors])
        if size_divisibility > 1:
            height = (height + size_divisibility - 1) // size_divisibility * size_divisibility
            width = (width + size_divisibility - 1) // size_divisibility * size_divisibility
        sizes = [(t.shape[-2], t.shape[-1]) for t in tensors]
        padded = [F.pad(t, [0, width - t.shape[-1], 0, height - t.shape[-2]], value=pad_value) for t in tensors]
        return ImageList(torch.stack(padded), sizes)


@torch.jit.unused
def _traced_from_tensors(
    tensors: list[Tensor],
    size_divisibility: int,
    pad_value: float,
    square_size: int,  # noqa: UP006
) -> ImageList:
    """`from_tensors` with the sizes as tensors, so that a trace follows them."""
    sizes = [torch.stack([torch.as_tensor(side) for side in tensor.shape[-2:]]) for tensor in tensors]
    common = torch.stack(sizes).amax(dim=0) if square_size == 0 else torch.full((2,), square_size)
    if size_divisibility > 1:
        common = torch.div(common + size_divisibility - 1, size_divisibility, rounding_mode="floor") * size_divisibility
    padded: list[Tensor] = []
    pad: Any = F.pad  # which takes tensors for lengths while it is traced
    traced_sizes: Any = sizes
    for tensor, size in zip(tensors, sizes, strict=True):
        below, right = (common - size).unbind()
        padded.append(pad(tensor, [0, right, 0, below], value=pad_value))
    return ImageList(torch.stack(padded), traced_sizes)
