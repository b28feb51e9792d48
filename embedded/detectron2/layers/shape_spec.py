"""What is known of a feature map before there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class ShapeSpec:
    """Channels, size in pixels and stride (input pixels per step) of a feature map; None where it does not matter."""

    channels: Any = None  # these are int or None; Any, since who reads one knows that it matters
    height: Any = None
    width: Any = None
    stride: Any = None
