"""Hugging Face's MaskFormerForInstanceSegmentation, whose transformer is that of their DETR."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mask2former_ext.interop.huggingface.backbones import BACKBONE_NAMES, BACKBONE_PARTS, backbone_keys
from mask2former_ext.interop.huggingface.conversion import Conversion, Name, classifier_keys

# Their MaskFormerConfig and DetrConfig, with default values: a file may leave them out.
_DEFAULTS: dict[str, Any] = {
    "fpn_feature_size": 256,
    "mask_feature_size": 256,
    "no_object_weight": 0.1,
    "cross_entropy_weight": 1.0,
    "mask_weight": 20.0,
    "dice_weight": 1.0,
    "use_auxiliary_loss": False,
}
_DETR_DEFAULTS: dict[str, Any] = {
    "num_queries": 100,
    "d_model": 256,
    "decoder_layers": 6,
    "decoder_attention_heads": 8,
    "decoder_ffn_dim": 2048,
    "dropout": 0.1,
    "activation_function": "relu",
}
_NUM_LEVELS = 4  # of the pyramid: their backbones give four maps


def _keys(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    config = {**_DEFAULTS, **config}
    return {
        **classifier_keys(config, config["cross_entropy_weight"]),
        **_network_keys(config, {**_DETR_DEFAULTS, **(config.get("decoder_config") or {})}, path),
        **backbone_keys(config.get("backbone_config") or {}, path),
    }


def _network_keys(config: Mapping[str, Any], detr: Mapping[str, Any], path: str) -> dict[str, Any]:
    if detr["activation_function"] != "relu":
        raise ValueError(f"{path}: the decoder's activation is {detr['activation_function']}; relu can be converted")
    values = {
        "NUM_QUERIES": detr["num_queries"],
        "HIDDEN_DIM": detr["d_model"],
        "MASK_DIM": config["mask_feature_size"],
        "NUM_HEADS": detr["decoder_attention_heads"],
        "DECODER_LAYERS": detr["decoder_layers"],
        "FEEDFORWARD_DIM": detr["decoder_ffn_dim"],
        "DROPOUT": detr["dropout"],
        "PIXEL_DECODER.CONV_DIM": config["fpn_feature_size"],
    }
    return {f"MODEL.MASKFORMER.{key}": value for key, value in values.items()}


# ------------------------------------------------------------------------------------------------------------- names

_PIXEL = r"model\.pixel_level_module\.decoder\."
_QUERY = r"model\.transformer_module\."
_LAYER = _QUERY + r"decoder\.layers\.(\d+)\."
_OUR_PIXEL = "sem_seg_head.pixel_decoder."
_OUR_QUERY = "sem_seg_head.predictor."
_OUR_LAYER = _OUR_QUERY + r"transformer.decoder.layers.\1."
_ATTENTIONS = {"self_attn": "self_attn", "encoder_attn": "multihead_attn"}
_NORMS = {"self_attn_layer_norm": "norm1", "encoder_attn_layer_norm": "norm2", "final_layer_norm": "norm3"}


def _pyramid_level(match: re.Match) -> str:
    """Their levels are numbered from the coarsest but one, 0, to the finest; ours from the finest, 1."""
    index, part, place, rest = match.groups()
    kind = {"proj": "adapter", "block": "layer"}[part]
    return f"{_OUR_PIXEL}{kind}_{_NUM_LEVELS - 1 - int(index)}.{'norm.' if place == '1' else ''}{rest}"


_NAMES: list[Name] = [
    *BACKBONE_NAMES,
    (_PIXEL + r"fpn\.stem\.0\.(.*)", rf"{_OUR_PIXEL}layer_{_NUM_LEVELS}.\1"),
    (_PIXEL + r"fpn\.stem\.1\.(.*)", rf"{_OUR_PIXEL}layer_{_NUM_LEVELS}.norm.\1"),
    (_PIXEL + r"fpn\.layers\.(\d)\.(proj|block)\.([01])\.(.*)", _pyramid_level),
    (_PIXEL + r"mask_projection\.(.*)", _OUR_PIXEL + r"mask_features.\1"),
    (_QUERY + r"queries_embedder\.(.*)", _OUR_QUERY + r"query_embed.\1"),
    (_QUERY + r"input_projection\.(.*)", _OUR_QUERY + r"input_proj.\1"),
    *(
        (_LAYER + rf"{their}\.o(?:ut)?_proj\.(.*)", _OUR_LAYER + rf"{our}.out_proj.\2")
        for their, our in _ATTENTIONS.items()
    ),
    *((_LAYER + rf"{their}\.(.*)", _OUR_LAYER + rf"{our}.\2") for their, our in _NORMS.items()),
    (_LAYER + r"(?:mlp\.)?fc([12])\.(.*)", _OUR_LAYER + r"linear\2.\3"),
    (_QUERY + r"decoder\.layernorm\.(.*)", _OUR_QUERY + r"transformer.decoder.norm.\1"),
    (r"mask_embedder\.(\d)\.0\.(.*)", _OUR_QUERY + r"mask_embed.layers.\1.\2"),
    (r"class_predictor\.(.*)", _OUR_QUERY + r"class_embed.\1"),
]
_PARTS: list[Name] = [
    *BACKBONE_PARTS,
    *(
        (_LAYER + rf"{their}\.(?P<part>[qkv])_proj\.(\w+)", _OUR_LAYER + rf"{our}.in_proj_\3")
        for their, our in _ATTENTIONS.items()
    ),
]

CONVERSION = Conversion("MaskFormer", _keys, _NAMES, _PARTS)
