"""What is known of a feature map before there is one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ShapeSpec:
    """Channels, size in pixels and stride (input pixels per step) of a feature map; None where it does not matter."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
