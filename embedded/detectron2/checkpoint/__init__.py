"""Saving and loading."""

from __future__ import annotations

from detectron2.checkpoint import catalog
from detectron2.checkpoint.detection_checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer
