"""Meta-architectures: the registry; Detectron2's own models come with the real one only."""
from __future__ import annotations

from detectron2._left_out import left_out
from detectron2.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from detectron2.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY, SemanticSegmentor, build_sem_seg_head

FCOS, GeneralizedRCNN, PanopticFPN, ProposalNetwork, RetinaNet = left_out(
    __name__, "FCOS", "GeneralizedRCNN", "PanopticFPN", "ProposalNetwork", "RetinaNet"
)
for _architecture in (FCOS, GeneralizedRCNN, PanopticFPN, ProposalNetwork, RetinaNet):
    META_ARCH_REGISTRY.register(_architecture)  # a configuration that names one is told how to get it

__all__ = [
    "FCOS",
    "GeneralizedRCNN",
    "META_ARCH_REGISTRY",
    "PanopticFPN",
    "ProposalNetwork",
    "RetinaNet",
    "SEM_SEG_HEADS_REGISTRY",
    "SemanticSegmentor",
    "build_model",
    "build_sem_seg_head",
]
