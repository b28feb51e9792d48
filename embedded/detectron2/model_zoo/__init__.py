"""Detectron2's model zoo (its config files and the addresses of its weights) comes with the real one only."""

from __future__ import annotations

from detectron2._left_out import stand_ins

__getattr__ = stand_ins(__name__)
