"""Mask2Former: masked-attention mask transformer (Cheng et al., arXiv 2112.01527).

What differs from MaskFormer: a pixel decoder of multi-scale deformable attention (section 3.2, Deformable DETR
arXiv 2010.04159); queries that attend only inside the mask predicted before them, over three scales in turn; learned
query features, supervised before the first layer; losses on sampled points (section 3.3).

Shapes: B images; Q queries; C hidden channels; K classes; h, w map sizes; S tokens of all levels.
Levels are listed from coarse (stride 32) to fine, as in the published parameters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from detectron2.config import CfgNode as CN
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former_ext.layers.deformable_attention import MultiScaleDeformableAttention
from mask2former_ext.layers.padding import inside, map_size, valid_size
from mask2former_ext.layers.pyramid import TopDownPath, convolution, projection
from mask2former_ext.layers.transformer import (
    MLP,
    CrossAttentionLayer,
    FeedForwardLayer,
    NumberedNormLayer,
    SelfAttentionLayer,
    sine_position_encoding,
    tokens_of,
)
from mask2former_ext.losses import PointCriterion
from mask2former_ext.models.mask_classifier import MaskClassifier, image_options_of, loss_options_of, things_of


def add_mask2former_config(cfg: CN) -> None:
    node = cfg.MODEL.MASK2FORMER = CN()
    node.NUM_QUERIES = 100  # N in the paper
    node.HIDDEN_DIM = 256  # C
    node.MASK_DIM = 256  # channels of the mask embeddings and of the per-pixel embeddings
    node.NUM_HEADS = 8  # of each attention of the decoder
    node.DECODER_LAYERS = 9  # L in the paper; losses are taken at L + 1 places (also before layer 1)
    node.FEEDFORWARD_DIM = 2048  # hidden width of a decoder layer's MLP
    node.PRE_NORM = False  # a norm before each sublayer instead of after it
    node.ENFORCE_INPUT_PROJ = False  # a 1x1 convolution before the decoder even where the widths agree
    node.NUM_POINTS = 112 * 112  # sampled per mask for matching and loss; K in section 3.3
    node.OVERSAMPLE_RATIO = 3.0  # candidates per point; k in PointRend
    node.IMPORTANCE_SAMPLE_RATIO = 0.75  # share of uncertain points; beta in PointRend

    decoder = node.PIXEL_DECODER = CN()
    decoder.IN_FEATURES = ["res2", "res3", "res4", "res5"]  # the backbone's maps that it takes
    decoder.DEFORMABLE_IN_FEATURES = ["res3", "res4", "res5"]  # levels that attend to each other
    decoder.CONV_DIM = 256  # channels of its maps
    decoder.NORM = "GN"  # of the FPN convolutions
    decoder.ENCODER_LAYERS = 6  # of deformable attention
    decoder.ENCODER_HEADS = 8  # of each deformable attention
    decoder.ENCODER_POINTS = 4  # sampled per head and level
    decoder.ENCODER_FEEDFORWARD_DIM = 1024  # hidden width of an encoder layer's MLP
    decoder.ENCODER_DROPOUT = 0.0  # of the encoder's layers
    decoder.COMMON_STRIDE = 4  # of the per-pixel embeddings, in pixels of the input


# ------------------------------------------------------------------------------------------------------ pixel decoder


class DeformableEncoderLayer(NumberedNormLayer):
    """Every token samples all levels around its own position, then a feed-forward network; LayerNorm after each sum."""

    def __init__(self, channels: int, *, num_heads: int, num_levels: int, num_points: int, hidden: int, dropout: float):
        super().__init__(channels, hidden, dropout, num_norms=2)
        self.self_attn = MultiScaleDeformableAttention(channels, num_heads, num_levels, num_points)

    def forward(
        self, x: Tensor, position: Tensor, reference_points: Tensor, shapes: list, padding: Tensor | None
    ) -> Tensor:
        """x, position (B, S, C); reference_points (B, S, levels, 2); padding (B, S), True on padding -> (B, S, C)."""
        x = self.add(x, lambda y: self.self_attn(y + position, reference_points, y, shapes, padding), 1)
        return self.add(x, self.feed_forward, 2)


class DeformableEncoder(nn.Module):
    """Deformable self-attention over the tokens of all levels; a learned embedding tells the levels apart."""

    def __init__(self, channels: int, num_levels: int, num_layers: int, **layer_options: Any):
        super().__init__()
        layers = [DeformableEncoderLayer(channels, num_levels=num_levels, **layer_options) for _ in range(num_layers)]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.level_embed = nn.Parameter(torch.randn(num_levels, channels))

    def forward(self, maps: list[Tensor], positions: list[Tensor], valid: list[Tensor] | None) -> list[Tensor]:
        """Maps and positions of each level (B, C, h, w), valid sizes (B, 2) or None -> maps of the same sizes."""
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        x = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
        position = torch.cat(
            [p.flatten(2).transpose(1, 2) + e for p, e in zip(positions, self.level_embed, strict=True)], dim=1
        )
        reference_points = _reference_points(shapes, valid, x.device).expand(len(x), -1, -1, -1)
        padding = None
        if valid is not None:
            padding = ~torch.cat([inside(s, v).flatten(1) for s, v in zip(shapes, valid, strict=True)], dim=1)
        for layer in self.encoder["layers"].children():
            x = layer(x, position, reference_points, shapes, padding)
        parts = x.split([h * w for h, w in shapes], dim=1)
        return [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]


class PixelDecoder(TopDownPath):
    """Backbone maps -> per-pixel embeddings at stride 4, and the three maps the decoder attends to."""

    num_memory_levels = 3

    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        deformable_in_features: list[str],
        conv_dim: int,
        mask_dim: int,
        norm: str,
        num_layers: int,
        num_heads: int,
        num_points: int,
        feedforward_dim: int,
        dropout: float,
        common_stride: int,
    ):
        super().__init__()
        by_stride = sorted(input_shape, key=lambda name: input_shape[name].stride)
        self.deformable_features = [name for name in reversed(by_stride) if name in deformable_in_features]
        if len(self.deformable_features) != len(deformable_in_features):
            raise ValueError(f"DEFORMABLE_IN_FEATURES {deformable_in_features} must be among IN_FEATURES {by_stride}")
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(input_shape[name].channels, conv_dim, 1), nn.GroupNorm(32, conv_dim))
            for name in self.deformable_features
        )
        for layers in self.input_proj:
            nn.init.xavier_uniform_(layers.get_parameter("0.weight"))
            nn.init.zeros_(layers.get_parameter("0.bias"))
        self.transformer = DeformableEncoder(
            conv_dim,
            len(self.deformable_features),
            num_layers,
            num_heads=num_heads,
            num_points=num_points,
            hidden=feedforward_dim,
            dropout=dropout,
        )
        finest = input_shape[self.deformable_features[-1]].stride
        if common_stride > finest:
            raise ValueError(f"COMMON_STRIDE {common_stride} exceeds {finest}, the finest of DEFORMABLE_IN_FEATURES")
        num_fpn_levels = int(math.log2(finest / common_stride))
        self.fpn_features = by_stride[:num_fpn_levels]
        for number, name in enumerate(self.fpn_features, start=1):
            self.add_level(number, input_shape[name].channels, conv_dim, norm)
        self.mask_features = convolution(conv_dim, mask_dim, kernel_size=1)

    def forward(self, features: dict[str, Tensor], valid_fraction: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """valid_fraction (B, 2): the share of the canvas' height and width that is image; None: all of it.

        Returns per-pixel embeddings (B, mask_dim, h, w) at stride 4, and the memory maps from coarse to fine.
        """
        sources = [features[name] for name in self.deformable_features]
        sizes = [map_size(x) for x in sources]
        valid = None if valid_fraction is None else [valid_size(size, valid_fraction) for size in sizes]
        positions = [
            sine_position_encoding(size, self.mask_features.in_channels, v, device=sources[0].device)
            for size, v in zip(sizes, [None] * len(sizes) if valid is None else valid, strict=True)
        ]
        maps = self.transformer([p(x) for p, x in zip(self.input_proj, sources, strict=True)], positions, valid)
        for number, name in reversed(list(enumerate(self.fpn_features, start=1))):
            maps.append(self.descend(number, features[name], maps[-1], "bilinear"))
        return self.mask_features(maps[-1]), maps[: self.num_memory_levels]


def _reference_points(shapes: list[tuple[int, int]], valid: list[Tensor] | None, device: torch.device) -> Tensor:
    """Center of each token's cell, in coordinates [0, 1] of every level's map: (B or 1, S, levels, 2), x then y.

    With padding, the center is taken relative to the valid part of the token's level and placed in that of the other.
    """
    sizes = torch.tensor(shapes, dtype=torch.float32, device=device)
    # (B, levels, 2), height then width
    ratios = sizes.new_ones(1, len(shapes), 2) if valid is None else torch.stack(valid, dim=1) / sizes
    centers = []
    for level, (height, width) in enumerate(shapes):
        y = torch.arange(0.5, height, device=device) / (ratios[:, level, 0, None] * height)
        x = torch.arange(0.5, width, device=device) / (ratios[:, level, 1, None] * width)
        grid = torch.stack((x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)), dim=-1)
        centers.append(grid.flatten(1, 2))
    return torch.cat(centers, dim=1)[:, :, None] * ratios.flip(-1)[:, None]


# ------------------------------------------------------------------------------------------------ transformer decoder


class MaskedAttentionDecoder(nn.Module):
    """Queries that look, at each layer, inside the mask they predicted before it (section 3.2.1)."""

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        hidden_dim: int,
        mask_dim: int,
        num_queries: int,
        num_heads: int,
        num_layers: int,
        feedforward_dim: int,
        pre_norm: bool,
        enforce_input_proj: bool,
        deep_supervision: bool,
        num_memory_levels: int = 3,
        learned_queries: bool = True,
    ):
        """`learned_queries`: False if a subclass has `initial_queries` of its own."""
        super().__init__()
        self.deep_supervision = deep_supervision
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(hidden_dim, num_heads, pre_norm) for _ in range(num_layers)
        )
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(hidden_dim, num_heads, pre_norm) for _ in range(num_layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FeedForwardLayer(hidden_dim, feedforward_dim, pre_norm) for _ in range(num_layers)
        )
        self.decoder_norm = nn.LayerNorm(hidden_dim)
        if learned_queries:
            self.query_feat = nn.Embedding(num_queries, hidden_dim)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.level_embed = nn.Embedding(num_memory_levels, hidden_dim)
        self.input_proj = nn.ModuleList(
            projection(in_channels, hidden_dim, enforce_input_proj) for _ in range(num_memory_levels)
        )
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)

    def forward(
        self, memory: list[Tensor], mask_features: Tensor, valid_fraction: Tensor | None = None, *condition: Tensor
    ) -> dict:
        """memory (B, in_channels, h, w) coarse to fine, mask_features (B, mask_dim, h, w), valid_fraction (B, 2).

        `condition`: what `initial_queries` takes beside the maps. Returns the outputs of the last layer, those of the
        earlier ones under "aux_outputs", and "initial_queries".
        """
        keys, values, valid = self.tokens(memory, valid_fraction)
        # A mask is linear in the per-pixel embeddings and so is resizing: what is attended to at a level's size needs
        # the embeddings of that size only. No gradient flows through the choice of positions.
        small_features = [_resize(mask_features.detach(), map_size(x)) for x in memory]
        queries = initial = self.initial_queries(mask_features, valid_fraction, *condition)
        position = self.query_embed.weight.expand(len(queries), -1, -1)
        supervised = self.training and self.deep_supervision
        outputs = [self.predict(queries, mask_features)] if supervised else []
        for index in range(len(self.transformer_cross_attention_layers)):
            level = index % len(memory)
            allowed = self.allowed_positions(queries, small_features[level], valid[level])
            queries = self.transformer_cross_attention_layers[index](
                queries, position, keys[level], values[level], allowed
            )
            queries = self.transformer_self_attention_layers[index](queries, position)
            queries = self.transformer_ffn_layers[index](queries)
            if supervised:
                outputs.append(self.predict(queries, mask_features))
        final = outputs.pop() if supervised else self.predict(queries, mask_features)
        return {**final, "aux_outputs": outputs, "initial_queries": initial}

    def initial_queries(
        self,
        mask_features: Tensor,
        valid_fraction: Tensor | None,  # noqa: ARG002  # for a subclass
        *condition: Tensor,
    ) -> Tensor:
        """(B, Q, C): the learned features, the same for every image."""
        assert not condition, "these queries depend on nothing"
        return self.query_feat.weight.expand(len(mask_features), -1, -1)

    def tokens(
        self, memory: list[Tensor], valid_fraction: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor | None]]:
        """Per level keys (with position) and values (without), (B, h w, C), and bool (B, 1, h w): not padding."""
        keys, values, valid = [], [], []
        for level, x in enumerate(memory):
            at_level = self.input_proj[level](x) + self.level_embed.weight[level][:, None, None]
            value, position, allowed = tokens_of(at_level, valid_fraction)
            values.append(value)
            keys.append(value + position)
            valid.append(None if allowed is None else allowed[:, 0])
        return keys, values, valid

    def predict(self, queries: Tensor, mask_features: Tensor) -> dict[str, Tensor]:
        """(B, Q, C) -> class logits (B, Q, K + 1) and mask logits (B, Q, h, w)."""
        queries = self.decoder_norm(queries)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embed(queries), mask_features)
        return {"pred_logits": self.class_embed(queries), "pred_masks": masks}

    def allowed_positions(self, queries: Tensor, features: Tensor, valid: Tensor | None) -> Tensor:
        """bool (B, 1, Q, h w): where the mask predicted from `queries` has probability >= 0.5, `valid` (B, 1, h w)."""
        # Detached, not under no_grad: there the autocast of PyTorch 2.6 caches half-precision copies of weights that
        # have no gradient, and `predict` would be given the same ones.
        embeddings = self.mask_embed(self.decoder_norm(queries)).detach()
        allowed = (embeddings @ features.flatten(2)) >= 0
        if valid is not None:
            allowed &= valid
        # A query whose mask is empty would attend nowhere, and softmax over nothing is NaN: it attends everywhere.
        empty = ~allowed.any(dim=-1, keepdim=True)
        everywhere = empty if valid is None else empty & valid
        return (allowed | everywhere)[:, None]


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


# ----------------------------------------------------------------------------------------------------- the whole model


class Mask2FormerHead(nn.Module):
    """Pixel decoder, then transformer decoder."""

    def __init__(self, pixel_decoder: PixelDecoder, predictor: MaskedAttentionDecoder):
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor

    def forward(
        self, features: dict[str, Tensor], valid_fraction: Tensor | None = None, *condition: Tensor
    ) -> dict[str, Any]:
        mask_features, memory = self.pixel_decoder(features, valid_fraction)
        return self.predictor(memory, mask_features, valid_fraction, *condition)


class Mask2Former(MaskClassifier):
    """Input and output as every model of Detectron2; see `MaskClassifier`."""

    section = "MASK2FORMER"  # of MODEL, with the keys of `add_mask2former_config`

    @configurable
    def __init__(self, **parts):
        super().__init__(**parts)

    @classmethod
    def build_decoder(cls, node: CN, **options: Any) -> MaskedAttentionDecoder:
        return MaskedAttentionDecoder(**options)

    @classmethod
    def build_criterion(cls, node: CN, **options: Any) -> PointCriterion:
        return PointCriterion(**options)

    @classmethod
    def from_config(cls, cfg: CN) -> dict[str, Any]:
        node = cfg.MODEL[cls.section]
        decoder = node.PIXEL_DECODER
        is_thing = things_of(cfg)
        backbone = build_backbone(cfg)
        pixel_decoder = PixelDecoder(
            {name: spec for name, spec in backbone.output_shape().items() if name in decoder.IN_FEATURES},
            deformable_in_features=decoder.DEFORMABLE_IN_FEATURES,
            conv_dim=decoder.CONV_DIM,
            mask_dim=node.MASK_DIM,
            norm=decoder.NORM,
            num_layers=decoder.ENCODER_LAYERS,
            num_heads=decoder.ENCODER_HEADS,
            num_points=decoder.ENCODER_POINTS,
            feedforward_dim=decoder.ENCODER_FEEDFORWARD_DIM,
            dropout=decoder.ENCODER_DROPOUT,
            common_stride=decoder.COMMON_STRIDE,
        )
        predictor = cls.build_decoder(
            node,
            in_channels=decoder.CONV_DIM,
            num_classes=len(is_thing),
            hidden_dim=node.HIDDEN_DIM,
            mask_dim=node.MASK_DIM,
            num_queries=node.NUM_QUERIES,
            num_heads=node.NUM_HEADS,
            num_layers=node.DECODER_LAYERS,
            feedforward_dim=node.FEEDFORWARD_DIM,
            pre_norm=node.PRE_NORM,
            enforce_input_proj=node.ENFORCE_INPUT_PROJ,
            deep_supervision=cfg.MODEL.MASK_CLASSIFIER.DEEP_SUPERVISION,
        )
        criterion = cls.build_criterion(
            node,
            num_classes=len(is_thing),
            **loss_options_of(cfg),
            num_points=node.NUM_POINTS,
            oversample_ratio=node.OVERSAMPLE_RATIO,
            importance_sample_ratio=node.IMPORTANCE_SAMPLE_RATIO,
        )
        return {
            "backbone": backbone,
            "sem_seg_head": Mask2FormerHead(pixel_decoder, predictor),
            "criterion": criterion,
            "is_thing": is_thing,
            **image_options_of(cfg),
        }
