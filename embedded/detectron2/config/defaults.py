"""Import path that Detectron2's users know for the default configuration."""

from __future__ import annotations

from detectron2.config.node import default_config

_C = default_config()
