"""Atrous spatial pyramid pooling: with the real Detectron2 only."""

from __future__ import annotations

from detectron2._left_out import left_out

__all__ = ["ASPP"]

(ASPP,) = left_out(__name__, *__all__)
