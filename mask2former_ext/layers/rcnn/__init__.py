"""Parts of Mask R-CNN: anchors, boxes, proposals, RoIAlign, heads, pasting of masks."""
