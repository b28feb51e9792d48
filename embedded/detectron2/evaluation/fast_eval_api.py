"""The name under which scripts import Detectron2's compiled COCO evaluation; here it is pycocotools' own."""
# ruff: noqa: F401

from __future__ import annotations

from pycocotools.cocoeval import COCOeval as COCOeval_opt
