"""Multi-scale deformable attention: a reference, a fast kernel for CPUs, and one function over both."""

from __future__ import annotations

from .module import MultiScaleDeformableAttention
from .op import multi_scale_deformable_attention

__all__ = ["MultiScaleDeformableAttention", "multi_scale_deformable_attention"]
