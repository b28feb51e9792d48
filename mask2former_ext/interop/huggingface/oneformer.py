"""Hugging Face's OneFormerForUniversalSegmentation, where it differs from their Mask2Former."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mask2former_ext.interop.huggingface import mask2former
from mask2former_ext.interop.huggingface.backbones import BACKBONE_PARTS, backbone_keys
from mask2former_ext.interop.huggingface.conversion import Conversion, Name, classifier_keys

# Their OneFormerConfig, with default values: a file may leave them out.
_DEFAULTS: dict[str, Any] = {
    **mask2former.DEFAULTS,
    "dropout": 0.1,
    "num_queries": 150,
    "contrastive_weight": 0.5,
    "contrastive_temperature": 0.07,
    "is_training": False,
    "task_seq_len": 77,
    "text_encoder_width": 256,
    "text_encoder_context_length": 77,
    "text_encoder_num_layers": 6,
    "text_encoder_vocab_size": 49408,
    "text_encoder_proj_layers": 2,
    "text_encoder_n_ctx": 16,
    "use_task_norm": True,
    "query_dec_layers": 2,
}
# What their Mask2FormerConfig calls otherwise.
_CALLED = {
    "conv_dim": "feature_size",
    "mask_dim": "mask_feature_size",
    "enforce_input_proj": "enforce_input_projection",
}


def _keys(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    config = {**_DEFAULTS, **{_CALLED.get(key, key): value for key, value in config.items()}}
    if not config["use_task_norm"]:
        raise ValueError(
            f"{path}: use_task_norm is False; a OneFormer whose task is not normalized cannot be converted"
        )
    return {
        **classifier_keys(config, config["class_weight"]),
        **mask2former.network_keys(config, "MODEL.ONEFORMER"),
        **_task_and_text_keys(config),
        **backbone_keys(config.get("backbone_config") or {}, path),
    }


def _task_and_text_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    values = {
        "QUERY_LAYERS": config["query_dec_layers"],
        "QUERY_DROPOUT": config["dropout"],
        "TASK_CONTEXT_LENGTH": config["task_seq_len"],
        "CONTRASTIVE_WEIGHT": config["contrastive_weight"],
        "CONTRASTIVE_TEMPERATURE": config["contrastive_temperature"],
        "TEXT_ENCODER.ENABLED": config["is_training"],
        "TEXT_ENCODER.WIDTH": config["text_encoder_width"],
        "TEXT_ENCODER.NUM_LAYERS": config["text_encoder_num_layers"],
        "TEXT_ENCODER.CONTEXT_LENGTH": config["text_encoder_context_length"],
        "TEXT_ENCODER.VOCAB_SIZE": config["text_encoder_vocab_size"],
        "TEXT_ENCODER.PROJ_NUM_LAYERS": config["text_encoder_proj_layers"],
        "TEXT_ENCODER.NUM_CONTEXT": config["text_encoder_n_ctx"],
    }
    return {f"MODEL.ONEFORMER.{key}": value for key, value in values.items()}


_DECODER = r"model\.transformer_module\.decoder\."
_LAYER = _DECODER + r"layers\.(\d+)\."
_OUR_QUERY = "sem_seg_head.predictor."
_TEXT = r"model\.text_mapper\."
_TEXT_LAYER = _TEXT + r"text_encoder\.transformer\.layers\.(\d+)\."
_OUR_TEXT_LAYER = r"text_encoder.transformer.resblocks.\1."

_NAMES: list[Name] = [
    *mask2former.SHARED_NAMES,
    (
        _LAYER + r"self_attn\.(self_attn\.out_proj|norm)\.(.*)",
        _OUR_QUERY + r"transformer_self_attention_layers.\1.\2.\3",
    ),
    (_LAYER + r"cross_attn\.(.*)", _OUR_QUERY + r"transformer_cross_attention_layers.\1.\2"),
    (_LAYER + r"ffn\.(.*)", _OUR_QUERY + r"transformer_ffn_layers.\1.\2"),
    (_DECODER + r"(decoder_norm|class_embed)\.(.*)", _OUR_QUERY + r"\1.\2"),
    (_DECODER + r"mask_embed\.layers\.(\d)\.0\.(.*)", _OUR_QUERY + r"mask_embed.layers.\1.\2"),
    (_DECODER + r"query_transformer\.(.*)", _OUR_QUERY + r"class_transformer.\1"),
    (_DECODER + r"query_input_projection\.(.*)", _OUR_QUERY + r"class_input_proj.\1"),
    (r"model\.task_encoder\.task_mlp\.layers\.(\d)\.0\.(.*)", r"task_mlp.layers.\1.\2"),
    (_TEXT_LAYER + r"self_attn\.(.*)", _OUR_TEXT_LAYER + r"attn.\2"),
    (_TEXT_LAYER + r"layer_norm([12])\.(.*)", _OUR_TEXT_LAYER + r"ln_\2.\3"),
    (_TEXT_LAYER + r"mlp\.fc1\.(.*)", _OUR_TEXT_LAYER + r"mlp.c_fc.\2"),
    (_TEXT_LAYER + r"mlp\.fc2\.(.*)", _OUR_TEXT_LAYER + r"mlp.c_proj.\2"),
    (_TEXT + r"text_projector\.layers\.(\d)\.0\.(.*)", r"text_projector.layers.\1.\2"),
    (_TEXT + r"((?:text_encoder|prompt_ctx)\..*)", r"\1"),
]
_PARTS: list[Name] = [
    *BACKBONE_PARTS,
    (
        _LAYER + r"self_attn\.self_attn\.(?P<part>[qkv])_proj\.(\w+)",
        _OUR_QUERY + r"transformer_self_attention_layers.\1.self_attn.in_proj_\3",
    ),
]

CONVERSION = Conversion("OneFormer", _keys, _NAMES, _PARTS)
