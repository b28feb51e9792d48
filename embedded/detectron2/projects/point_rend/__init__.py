"""PointRend: configuration, point sampling and color augmentation. Its heads come with the real Detectron2 only."""

from __future__ import annotations

from detectron2.projects.point_rend.color_augmentation import ColorAugSSDTransform
from detectron2.projects.point_rend.config import add_pointrend_config
