"""Things one by one and the regions of stuff, by one numbering of all classes: from the panoptic PNG."""

from __future__ import annotations

from typing import Any

from mask2former_ext.data.targets.kind import PANOPTIC_FILE, Augmented, Source, TargetKind
from mask2former_ext.data.targets.masks import panoptic_ids, panoptic_masks


class PanopticTarget(TargetKind):
    """`instances`: a mask for each segment that is no crowd."""

    name = "panoptic"
    needs = ((PANOPTIC_FILE,),)
    numberings = ("together",)

    def build(self, source: Source, augmented: Augmented) -> dict[str, Any]:
        ids = panoptic_ids(augmented.moved(source.panoptic_png))
        return {"instances": augmented.instances(*panoptic_masks(ids, source.record["segments_info"]))}
