"""RoIAlign as a module, over torchvision's operator."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import roi_align


class ROIAlign(nn.Module):
    """Features inside each box, resampled to a fixed size (Mask R-CNN, section 3).

    `aligned` shifts by half a pixel, so that pixel centers lie at .5 (Detectron2's ROIAlignV2); without it coordinates
    are as in the first Detectron. `sampling_ratio` 0 takes as many samples per bin as it has pixels.
    """

    def __init__(
        self, output_size: int | tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool = True
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """(N, C, H, W), (R, 5) of image number, x1, y1, x2, y2 in input-image pixels -> (R, C, *output_size)."""
        assert rois.dim() == 2 and rois.size(1) == 5, f"RoIs have shape (R, 5), not {tuple(rois.shape)}"
        return roi_align(
            input, rois.to(input.dtype), self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )
