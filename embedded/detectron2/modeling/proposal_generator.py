"""Registries of proposal generators; Detectron2's own come with the real one only."""
from __future__ import annotations

from detectron2._left_out import left_out
from detectron2.utils.registry import Registry

__all__ = ["PROPOSAL_GENERATOR_REGISTRY", "RPN_HEAD_REGISTRY", "build_proposal_generator", "build_rpn_head"]

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
RPN_HEAD_REGISTRY = Registry("RPN_HEAD")

build_proposal_generator, build_rpn_head = left_out(__name__, "build_proposal_generator", "build_rpn_head")
