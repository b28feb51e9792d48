"""Hugging Face's Mask2FormerForUniversalSegmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mask2former_ext.interop.huggingface.backbones import BACKBONE_NAMES, BACKBONE_PARTS, backbone_keys
from mask2former_ext.interop.huggingface.conversion import Conversion, Name, classifier_keys

# Their Mask2FormerConfig, with default values: a file may leave them out.
DEFAULTS: dict[str, Any] = {
    "feature_size": 256,
    "mask_feature_size": 256,
    "hidden_dim": 256,
    "encoder_feedforward_dim": 1024,
    "encoder_layers": 6,
    "decoder_layers": 10,
    "num_attention_heads": 8,
    "dropout": 0.0,
    "dim_feedforward": 2048,
    "pre_norm": False,
    "enforce_input_projection": False,
    "common_stride": 4,
    "num_queries": 100,
    "no_object_weight": 0.1,
    "class_weight": 2.0,
    "mask_weight": 5.0,
    "dice_weight": 5.0,
    "train_num_points": 12544,
    "oversample_ratio": 3.0,
    "importance_sample_ratio": 0.75,
    "use_auxiliary_loss": True,
}


def _keys(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    config = {**DEFAULTS, **config}
    return {
        **classifier_keys(config, config["class_weight"]),
        **network_keys(config, "MODEL.MASK2FORMER"),
        **backbone_keys(config.get("backbone_config") or {}, path),
    }


def network_keys(config: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The keys of our `section` for a complete Mask2FormerConfig."""
    values = {
        "NUM_QUERIES": config["num_queries"],
        "HIDDEN_DIM": config["hidden_dim"],
        "MASK_DIM": config["mask_feature_size"],
        "NUM_HEADS": config["num_attention_heads"],
        "DECODER_LAYERS": config["decoder_layers"] - 1,  # theirs counts the prediction before the first layer too
        "FEEDFORWARD_DIM": config["dim_feedforward"],
        "PRE_NORM": config["pre_norm"],
        "ENFORCE_INPUT_PROJ": config["enforce_input_projection"],
        "NUM_POINTS": config["train_num_points"],
        "OVERSAMPLE_RATIO": config["oversample_ratio"],
        "IMPORTANCE_SAMPLE_RATIO": config["importance_sample_ratio"],
        "PIXEL_DECODER.CONV_DIM": config["feature_size"],
        "PIXEL_DECODER.ENCODER_LAYERS": config["encoder_layers"],
        "PIXEL_DECODER.ENCODER_HEADS": config["num_attention_heads"],
        "PIXEL_DECODER.ENCODER_POINTS": 4,  # fixed in their code
        "PIXEL_DECODER.ENCODER_FEEDFORWARD_DIM": config["encoder_feedforward_dim"],
        "PIXEL_DECODER.ENCODER_DROPOUT": config["dropout"],
        "PIXEL_DECODER.COMMON_STRIDE": config["common_stride"],
    }
    return {f"{section}.{key}": value for key, value in values.items()}


_PIXEL = r"model\.pixel_level_module\.decoder\."
_QUERY = r"model\.transformer_module\."
_LAYER = _QUERY + r"decoder\.layers\.(\d+)\."
_OUR_PIXEL = "sem_seg_head.pixel_decoder."
_OUR_ENCODER = _OUR_PIXEL + "transformer.encoder.layers."
_OUR_QUERY = "sem_seg_head.predictor."

# What OneFormer has, too.
SHARED_NAMES: list[Name] = [
    *BACKBONE_NAMES,
    (_PIXEL + r"level_embed", _OUR_PIXEL + "transformer.level_embed"),
    (_PIXEL + r"input_projections\.(.*)", _OUR_PIXEL + r"input_proj.\1"),
    (_PIXEL + r"encoder\.layers\.(\d+)\.self_attn\.(.*)", _OUR_ENCODER + r"\1.self_attn.\2"),
    (_PIXEL + r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.(.*)", _OUR_ENCODER + r"\1.norm1.\2"),
    (_PIXEL + r"encoder\.layers\.(\d+)\.final_layer_norm\.(.*)", _OUR_ENCODER + r"\1.norm2.\2"),
    (_PIXEL + r"encoder\.layers\.(\d+)\.fc([12])\.(.*)", _OUR_ENCODER + r"\1.linear\2.\3"),
    (_PIXEL + r"mask_projection\.(.*)", _OUR_PIXEL + r"mask_features.\1"),
    (_PIXEL + r"(adapter|layer)_(\d+)\.0\.(.*)", _OUR_PIXEL + r"\1_\2.\3"),
    (_PIXEL + r"(adapter|layer)_(\d+)\.1\.(.*)", _OUR_PIXEL + r"\1_\2.norm.\3"),
    (_QUERY + r"queries_embedder\.(.*)", _OUR_QUERY + r"query_embed.\1"),
    (_QUERY + r"level_embed\.(.*)", _OUR_QUERY + r"level_embed.\1"),
    (_QUERY + r"input_projections\.(.*)", _OUR_QUERY + r"input_proj.\1"),
]
_NAMES: list[Name] = [
    *SHARED_NAMES,
    (_QUERY + r"queries_features\.(.*)", _OUR_QUERY + r"query_feat.\1"),
    (_LAYER + r"self_attn\.out_proj\.(.*)", _OUR_QUERY + r"transformer_self_attention_layers.\1.self_attn.out_proj.\2"),
    (_LAYER + r"self_attn_layer_norm\.(.*)", _OUR_QUERY + r"transformer_self_attention_layers.\1.norm.\2"),
    (_LAYER + r"cross_attn\.(.*)", _OUR_QUERY + r"transformer_cross_attention_layers.\1.multihead_attn.\2"),
    (_LAYER + r"cross_attn_layer_norm\.(.*)", _OUR_QUERY + r"transformer_cross_attention_layers.\1.norm.\2"),
    (_LAYER + r"fc([12])\.(.*)", _OUR_QUERY + r"transformer_ffn_layers.\1.linear\2.\3"),
    (_LAYER + r"final_layer_norm\.(.*)", _OUR_QUERY + r"transformer_ffn_layers.\1.norm.\2"),
    (_QUERY + r"decoder\.layernorm\.(.*)", _OUR_QUERY + r"decoder_norm.\1"),
    (_QUERY + r"decoder\.mask_predictor\.mask_embedder\.(\d)\.0\.(.*)", _OUR_QUERY + r"mask_embed.layers.\1.\2"),
    (r"class_predictor\.(.*)", _OUR_QUERY + r"class_embed.\1"),
]
_PARTS: list[Name] = [
    *BACKBONE_PARTS,
    (
        _LAYER + r"self_attn\.(?P<part>[qkv])_proj\.(\w+)",
        _OUR_QUERY + r"transformer_self_attention_layers.\1.self_attn.in_proj_\3",
    ),
]

CONVERSION = Conversion("Mask2Former", _keys, _NAMES, _PARTS)
