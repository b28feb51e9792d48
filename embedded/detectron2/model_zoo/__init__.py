"""Detectron2's model zoo (its config files and the addresses of its weights) comes with the real one only."""
from __future__ import annotations

from detectron2._left_out import left_out

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

get, get_checkpoint_url, get_config, get_config_file = left_out(__name__, *__all__)
