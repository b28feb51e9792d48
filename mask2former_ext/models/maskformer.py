"""MaskFormer: per-pixel classification is not all you need (Cheng et al., arXiv 2107.06278).

A segmentation is a set of (class, mask) pairs. A feature pyramid gives each pixel an embedding; a DETR decoder
(arXiv 2005.12872) makes of each query, which attends to one coarse map, a class and a mask embedding; the product of
the two embeddings is the mask (section 3.3). Losses look at all pixels. A query keeps its whole argmax region.

Shapes: B images; Q queries; C hidden channels; K classes; h, w map sizes; M = h w tokens of the map attended to.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn

from mask2former_ext.layers.padding import map_size
from mask2former_ext.layers.pyramid import TopDownPath, convolution, projection
from mask2former_ext.layers.transformer import MLP, TransformerDecoder, TransformerEncoder, tokens_of
from mask2former_ext.losses import DenseCriterion
from mask2former_ext.models.mask_classifier import MaskClassifier, image_options_of, loss_options_of, things_of

ENCODED = "transformer_encoder"  # the name of what the pixel decoder's own encoder makes of the coarsest map


def add_maskformer_config(cfg: CN) -> None:
    """MODEL.MASKFORMER: the network of MaskFormer and of its controls (`models.per_pixel`)."""
    node = cfg.MODEL.MASKFORMER = CN()
    node.NUM_QUERIES = 100  # N in the paper
    node.HIDDEN_DIM = 256  # C
    node.MASK_DIM = 256  # channels of the mask embeddings and of the per-pixel embeddings
    node.NUM_HEADS = 8  # of each attention
    node.ENCODER_LAYERS = 0  # of self-attention on the memory, before the decoder
    node.DECODER_LAYERS = 6  # losses are taken after each
    node.FEEDFORWARD_DIM = 2048  # hidden width of a layer's MLP
    node.DROPOUT = 0.1  # of encoder and decoder layers
    node.PRE_NORM = False  # a norm before each sublayer instead of after it
    node.ENFORCE_INPUT_PROJ = False  # a 1x1 convolution before the decoder even where the widths agree
    # The map that queries attend to: one of the backbone's, or "transformer_encoder": that of PIXEL_DECODER.ENCODER.
    node.MEMORY_FEATURE = "res5"

    decoder = node.PIXEL_DECODER = CN()
    decoder.IN_FEATURES = ["res2", "res3", "res4", "res5"]  # the backbone's maps that it takes
    decoder.CONV_DIM = 256  # channels of its maps
    decoder.NORM = "GN"  # of its convolutions
    decoder.ENCODER = False  # self-attention on the coarsest map first; its heads, width and dropout are those above
    decoder.ENCODER_LAYERS = 6  # if ENCODER


# ------------------------------------------------------------------------------------------------------ pixel decoder


class PixelDecoder(TopDownPath):
    """A feature pyramid: backbone maps -> per-pixel embeddings at the stride of the finest."""

    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        conv_dim: int,
        mask_dim: int,
        norm: str,
        start_channels: int | None = None,
    ):
        """`start_channels`: of what the path starts from, if that is not the coarsest map itself."""
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        *finer, coarsest = self.in_features
        self.stride: int = input_shape[self.in_features[0]].stride
        for number, name in enumerate(finer, start=1):
            self.add_level(number, input_shape[name].channels, conv_dim, norm)
        self.add_smoothing(len(self.in_features), start_channels or input_shape[coarsest].channels, conv_dim, norm)
        self.mask_features = convolution(conv_dim, mask_dim, kernel_size=3)

    def start(self, coarsest: Tensor, valid_fraction: Tensor | None) -> Tensor:  # noqa: ARG002  # for a subclass
        """What the path starts from, at the size of the coarsest map (B, C, h, w)."""
        return coarsest

    def forward(self, features: dict[str, Tensor], valid_fraction: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """valid_fraction (B, 2): the share of the canvas' height and width that is image; None: all of it.

        Returns per-pixel embeddings (B, mask_dim, h, w), and what the path started from.
        """
        *finer, coarsest = self.in_features
        start = self.start(features[coarsest], valid_fraction)
        x = self.smooth(len(self.in_features), start)
        for number, name in reversed(list(enumerate(finer, start=1))):
            x = self.descend(number, features[name], x, "nearest")
        return self.mask_features(x), start


class EncoderPixelDecoder(PixelDecoder):
    """The same, but for a transformer encoder on the coarsest map (section 4.1, panoptic segmentation)."""

    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        conv_dim: int,
        mask_dim: int,
        norm: str,
        num_layers: int,
        **layer_options: Any,
    ):
        super().__init__(input_shape, conv_dim=conv_dim, mask_dim=mask_dim, norm=norm, start_channels=conv_dim)
        self.input_proj = convolution(input_shape[self.in_features[-1]].channels, conv_dim, kernel_size=1)
        self.transformer = nn.ModuleDict({"encoder": TransformerEncoder(conv_dim, num_layers, **layer_options)})

    def start(self, coarsest: Tensor, valid_fraction: Tensor | None) -> Tensor:
        encoded = self.transformer["encoder"](*tokens_of(self.input_proj(coarsest), valid_fraction))
        return encoded.transpose(1, 2).unflatten(2, map_size(coarsest))


# ------------------------------------------------------------------------------------------------ transformer decoder


class QueryMaskDecoder(nn.Module):
    """Queries that start from nothing but a learned position and become one mask each."""

    def __init__(
        self,
        in_channels: int,
        *,
        num_queries: int,
        hidden_dim: int,
        mask_dim: int,
        encoder_layers: int,
        decoder_layers: int,
        enforce_input_proj: bool,
        deep_supervision: bool,
        **layer_options: Any,
    ):
        """`layer_options`: see `layers.transformer.DecoderLayer`."""
        super().__init__()
        self.deep_supervision = deep_supervision
        self.input_proj = projection(in_channels, hidden_dim, enforce_input_proj)
        self.transformer = nn.ModuleDict(
            {
                "encoder": TransformerEncoder(hidden_dim, encoder_layers, **layer_options),
                "decoder": TransformerDecoder(hidden_dim, decoder_layers, **layer_options),
            }
        )
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)

    def forward(self, memory: Tensor, mask_features: Tensor, valid_fraction: Tensor | None = None) -> dict:
        """Memory (B, in_channels, h, w), per-pixel embeddings (B, mask_dim, h, w) -> outputs of the last layer, and of
        the earlier ones under "aux_outputs"."""
        x, position, allowed = tokens_of(self.input_proj(memory), valid_fraction)
        x = self.transformer["encoder"](x, position, allowed)
        query_position = self.query_embed.weight.expand(len(x), -1, -1)
        start = torch.zeros_like(query_position)
        *earlier, last = self.transformer["decoder"](start, query_position, x, position, allowed)
        supervised = earlier if self.training and self.deep_supervision else []
        aux_outputs = [self.predict(queries, mask_features) for queries in supervised]
        return {**self.predict(last, mask_features), "aux_outputs": aux_outputs}

    def predict(self, queries: Tensor, mask_features: Tensor) -> dict[str, Tensor]:
        """(B, Q, C) -> mask logits (B, Q, h, w)."""
        return {"pred_masks": torch.einsum("bqc,bchw->bqhw", self.mask_embed(queries), mask_features)}


class ClassMaskDecoder(QueryMaskDecoder):
    """Queries that become one mask and one class each."""

    def __init__(self, in_channels: int, *, num_classes: int, hidden_dim: int, **options: Any):
        super().__init__(in_channels, hidden_dim=hidden_dim, **options)
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)

    def predict(self, queries: Tensor, mask_features: Tensor) -> dict[str, Tensor]:
        """(B, Q, C) -> class logits (B, Q, K + 1) and mask logits (B, Q, h, w)."""
        return {"pred_logits": self.class_embed(queries), **super().predict(queries, mask_features)}


# ----------------------------------------------------------------------------------------------------- the whole model


class MaskFormerHead(nn.Module):
    """Pixel decoder, then transformer decoder on the map called `memory_feature`."""

    def __init__(self, pixel_decoder: PixelDecoder, predictor: QueryMaskDecoder, memory_feature: str):
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor
        self.memory_feature = memory_feature

    def forward(self, features: dict[str, Tensor], valid_fraction: Tensor | None = None) -> dict:
        mask_features, encoded = self.pixel_decoder(features, valid_fraction)
        memory = encoded if self.memory_feature == ENCODED else features[self.memory_feature]
        return self.predictor(memory, mask_features, valid_fraction)


def pixel_decoder_of(cfg: CN, input_shape: dict[str, ShapeSpec]) -> PixelDecoder:
    """The pixel decoder of MODEL.MASKFORMER on a backbone's maps."""
    node = cfg.MODEL.MASKFORMER.PIXEL_DECODER
    missing = [name for name in node.IN_FEATURES if name not in input_shape]
    if missing:
        raise ValueError(
            f"MODEL.MASKFORMER.PIXEL_DECODER.IN_FEATURES: the backbone has no {missing}, only {[*input_shape]}"
        )
    options = {"conv_dim": node.CONV_DIM, "mask_dim": cfg.MODEL.MASKFORMER.MASK_DIM, "norm": node.NORM}
    used = {name: input_shape[name] for name in node.IN_FEATURES}
    if not node.ENCODER:
        return PixelDecoder(used, **options)
    return EncoderPixelDecoder(used, num_layers=node.ENCODER_LAYERS, **options, **layer_options_of(cfg))


def layer_options_of(cfg: CN) -> dict[str, Any]:
    """What the layers of both transformers of MODEL.MASKFORMER have in common."""
    node = cfg.MODEL.MASKFORMER
    return {
        "num_heads": node.NUM_HEADS,
        "hidden": node.FEEDFORWARD_DIM,
        "dropout": node.DROPOUT,
        "pre_norm": node.PRE_NORM,
    }


def decoder_options_of(cfg: CN, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
    """Arguments of `QueryMaskDecoder` by MODEL.MASKFORMER, all but the number of queries."""
    node = cfg.MODEL.MASKFORMER
    known = [*input_shape, ENCODED] if node.PIXEL_DECODER.ENCODER else [*input_shape]
    if node.MEMORY_FEATURE not in known:
        raise ValueError(
            f"MODEL.MASKFORMER.MEMORY_FEATURE is '{node.MEMORY_FEATURE}', but must be one of {', '.join(known)}"
            + ("" if ENCODED in known else f" ({ENCODED} takes MODEL.MASKFORMER.PIXEL_DECODER.ENCODER True)")
        )
    encoded = node.MEMORY_FEATURE == ENCODED
    return {
        "in_channels": node.PIXEL_DECODER.CONV_DIM if encoded else input_shape[node.MEMORY_FEATURE].channels,
        "hidden_dim": node.HIDDEN_DIM,
        "mask_dim": node.MASK_DIM,
        "encoder_layers": node.ENCODER_LAYERS,
        "decoder_layers": node.DECODER_LAYERS,
        "enforce_input_proj": node.ENFORCE_INPUT_PROJ,
        "deep_supervision": cfg.MODEL.MASK_CLASSIFIER.DEEP_SUPERVISION,
        **layer_options_of(cfg),
    }


class MaskFormer(MaskClassifier):
    """Input and output as every model of Detectron2; see `MaskClassifier`."""

    min_pixel_prob = 0.0

    @configurable
    def __init__(self, **parts):
        super().__init__(**parts)

    @classmethod
    def from_config(cls, cfg: CN) -> dict:
        node = cfg.MODEL.MASKFORMER
        is_thing = things_of(cfg)
        backbone = build_backbone(cfg)
        input_shape = backbone.output_shape()
        predictor = ClassMaskDecoder(
            num_classes=len(is_thing), num_queries=node.NUM_QUERIES, **decoder_options_of(cfg, input_shape)
        )
        criterion = DenseCriterion(len(is_thing), **loss_options_of(cfg))
        return {
            "backbone": backbone,
            "sem_seg_head": MaskFormerHead(pixel_decoder_of(cfg, input_shape), predictor, node.MEMORY_FEATURE),
            "criterion": criterion,
            "is_thing": is_thing,
            **image_options_of(cfg),
        }
