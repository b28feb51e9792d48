"""Meta-architectures: the registry; Detectron2's own models come with the real one only."""

from __future__ import annotations

from detectron2._left_out import META_ARCHITECTURES, stand_in
from detectron2.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from detectron2.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY, build_sem_seg_head

for _name in META_ARCHITECTURES:  # a configuration that names one is told how to get it
    META_ARCH_REGISTRY.register(stand_in(_name, __name__))
