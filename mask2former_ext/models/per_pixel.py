"""The per-pixel controls of MaskFormer (arXiv 2107.06278, section 4.1): its network with a class for each pixel.

PerPixelBaseline classifies the per-pixel embeddings by a 1x1 convolution. PerPixelBaselinePlus has MaskFormer's
transformer decoder, with one query for each class: the masks are the class logits. Both are trained by cross entropy.

Shapes: B images; K classes; h, w pixels of the predicted logits (stride 4); H, W pixels of the padded images.
"""

from __future__ import annotations

from detectron2.config import CfgNode as CN
from detectron2.layers import Conv2d, ShapeSpec
from fvcore.nn import weight_init
from torch import Tensor, nn

from mask2former_ext.models.image_model import num_classes_of
from mask2former_ext.models.maskformer import (
    MaskFormerHead,
    PixelDecoder,
    QueryMaskDecoder,
    decoder_options_of,
    pixel_decoder_of,
)
from mask2former_ext.models.pixel_classifier import PixelClassifier


class LinearHead(nn.Module):
    """Pixel decoder, then a 1x1 convolution to K classes."""

    def __init__(self, pixel_decoder: PixelDecoder, mask_dim: int, num_classes: int):
        super().__init__()
        self.pixel_decoder, self.stride = pixel_decoder, pixel_decoder.stride
        self.predictor = Conv2d(mask_dim, num_classes, kernel_size=1)
        weight_init.c2_msra_fill(self.predictor)

    def forward(self, features: dict[str, Tensor], valid_fraction: Tensor | None = None) -> list[Tensor]:
        mask_features, _ = self.pixel_decoder(features, valid_fraction)
        return [self.predictor(mask_features)]


class QueryHead(MaskFormerHead):
    """MaskFormer's head whose K masks are the class logits."""

    def __init__(self, pixel_decoder: PixelDecoder, predictor: QueryMaskDecoder, memory_feature: str):
        super().__init__(pixel_decoder, predictor, memory_feature)
        self.stride = pixel_decoder.stride

    def forward(  # type: ignore[override]  # the logits alone
        self, features: dict[str, Tensor], valid_fraction: Tensor | None = None
    ) -> list[Tensor]:
        outputs = super().forward(features, valid_fraction)
        return [layer["pred_masks"] for layer in (*outputs["aux_outputs"], outputs)]


class PerPixelBaseline(PixelClassifier):
    """MaskFormer's pixel decoder, and a linear classifier on its embeddings."""

    @classmethod
    def head(cls, cfg: CN, input_shape: dict[str, ShapeSpec]) -> LinearHead:
        return LinearHead(pixel_decoder_of(cfg, input_shape), cfg.MODEL.MASKFORMER.MASK_DIM, num_classes_of(cfg))


class PerPixelBaselinePlus(PixelClassifier):
    """MaskFormer's network with one query for each class: its mask logits are the class logits of the pixels."""

    @classmethod
    def head(cls, cfg: CN, input_shape: dict[str, ShapeSpec]) -> QueryHead:
        pixel_decoder = pixel_decoder_of(cfg, input_shape)
        predictor = QueryMaskDecoder(num_queries=num_classes_of(cfg), **decoder_options_of(cfg, input_shape))
        return QueryHead(pixel_decoder, predictor, cfg.MODEL.MASKFORMER.MEMORY_FEATURE)
