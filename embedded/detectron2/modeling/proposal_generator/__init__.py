"""Registry of proposal generators, for projects that bring their own; Detectron2's come with the real one only."""

from __future__ import annotations

from detectron2.utils.registry import Registry

PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")
