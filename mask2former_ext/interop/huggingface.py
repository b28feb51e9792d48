"""Hugging Face transformers' Mask2FormerForUniversalSegmentation, read as a model of this package.

A folder that `save_pretrained` wrote (config.json, *.safetensors, perhaps preprocessor_config.json) serves as
MODEL.WEIGHTS and as the path of `load_config`. Nothing here needs transformers itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mask2former_ext.interop.config_keys import as_tree

_CONFIG_FILE = "config.json"
_PREPROCESSOR_FILE = "preprocessor_config.json"
_MODEL_TYPE = "mask2former"

# Their Mask2FormerConfig, with default values: a file may leave them out.
_DEFAULTS: dict[str, Any] = {
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
_SWIN_DEFAULTS: dict[str, Any] = {
    "image_size": 224,
    "patch_size": 4,
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "window_size": 7,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.1,
    "use_absolute_embeddings": False,
}
_RESNET_DEFAULTS: dict[str, Any] = {
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 6, 3],
    "layer_type": "bottleneck",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
_RESNET_DEPTHS = {
    ("basic", (2, 2, 2, 2)): 18,
    ("basic", (3, 4, 6, 3)): 34,
    ("bottleneck", (3, 4, 6, 3)): 50,
    ("bottleneck", (3, 4, 23, 3)): 101,
    ("bottleneck", (3, 8, 36, 3)): 152,
}


def is_folder(path: str) -> bool:
    """Whether `path` is a folder that holds a Hugging Face Mask2Former."""
    file = Path(path) / _CONFIG_FILE
    return file.is_file() and _read_json(file).get("model_type") == _MODEL_TYPE


def read_folder(path: str) -> dict[str, Tensor]:
    """All tensors of the folder's safetensors files, under this package's names."""
    files = sorted(Path(path).glob("*.safetensors"))
    if not files:
        raise ValueError(f"{path}: no *.safetensors file beside {_CONFIG_FILE}")
    state: dict[str, Tensor] = {}
    for file in files:
        state.update(load_file(file))
    return convert_state_dict(state)


def read_config(path: str) -> dict[str, Any]:
    """The folder's configuration as a nested dict of our keys; MODEL.WEIGHTS is the folder.

    The files do not say which classes are things, nor which tasks are wanted: panoptic inference stays off until
    DATASETS names a data set that says so.
    """
    config = {**_DEFAULTS, **_read_json(Path(path) / _CONFIG_FILE)}
    pairs = {
        "MODEL.META_ARCHITECTURE": "Mask2Former",
        "MODEL.WEIGHTS": os.fspath(path),
        **_classifier_keys(config),
        **_mask2former_keys(config),
        **_backbone_keys(config.get("backbone_config") or {}, path),
    }
    preprocessor = Path(path) / _PREPROCESSOR_FILE
    pairs.update(_input_keys(_read_json(preprocessor) if preprocessor.is_file() else {}))
    return as_tree(list(pairs.items()))


def _classifier_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    values = {
        "NUM_CLASSES": len(config.get("id2label", range(config.get("num_labels", 2)))),
        "SIZE_DIVISIBILITY": 32,
        "SEMANTIC_ON": True,
        "INSTANCE_ON": True,
        "CLASS_WEIGHT": config["class_weight"],
        "MASK_WEIGHT": config["mask_weight"],
        "DICE_WEIGHT": config["dice_weight"],
        "NO_OBJECT_WEIGHT": config["no_object_weight"],
        "DEEP_SUPERVISION": config["use_auxiliary_loss"],
    }
    return {f"MODEL.MASK_CLASSIFIER.{key}": value for key, value in values.items()}


def _mask2former_keys(config: Mapping[str, Any]) -> dict[str, Any]:
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
    return {f"MODEL.MASK2FORMER.{key}": value for key, value in values.items()}


def _backbone_keys(backbone: Mapping[str, Any], path: str) -> dict[str, Any]:
    kind = backbone.get("model_type", "swin")
    if kind == "swin":
        return _swin_keys({**_SWIN_DEFAULTS, **backbone}, path)
    if kind == "resnet":
        return _resnet_keys({**_RESNET_DEFAULTS, **backbone}, path)
    raise ValueError(f"{path}: the backbone is of type {kind!r}; swin and resnet can be converted")


def _swin_keys(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    if config["use_absolute_embeddings"]:
        raise ValueError(f"{path}: a Swin backbone with absolute position embeddings cannot be converted")
    values = {
        "PRETRAIN_IMG_SIZE": config["image_size"],
        "PATCH_SIZE": config["patch_size"],
        "EMBED_DIM": config["embed_dim"],
        "DEPTHS": list(config["depths"]),
        "NUM_HEADS": list(config["num_heads"]),
        "WINDOW_SIZE": config["window_size"],
        "MLP_RATIO": config["mlp_ratio"],
        "QKV_BIAS": config["qkv_bias"],
        "DROP_RATE": config["hidden_dropout_prob"],
        "ATTN_DROP_RATE": config["attention_probs_dropout_prob"],
        "DROP_PATH_RATE": config["drop_path_rate"],
    }
    return {
        "MODEL.BACKBONE.NAME": "D2SwinTransformer",
        "MODEL.BACKBONE.FREEZE_AT": 0,
        **{f"MODEL.SWIN.{key}": value for key, value in values.items()},
    }


def _resnet_keys(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    shape = config["layer_type"], tuple(config["depths"])
    if shape not in _RESNET_DEPTHS or config["downsample_in_first_stage"]:
        raise ValueError(
            f"{path}: a ResNet of {shape[0]} blocks {shape[1]}, downsample_in_first_stage "
            f"{config['downsample_in_first_stage']}, cannot be converted; known are {list(_RESNET_DEPTHS)} without"
        )
    width = config["hidden_sizes"][0]
    values = {
        "DEPTH": _RESNET_DEPTHS[shape],
        "STEM_OUT_CHANNELS": config["embedding_size"],
        "RES2_OUT_CHANNELS": width,
        "WIDTH_PER_GROUP": width // 4 if shape[0] == "bottleneck" else width,
        "STRIDE_IN_1X1": config["downsample_in_bottleneck"],
        "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    }
    return {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.BACKBONE.FREEZE_AT": 0,
        **{f"MODEL.RESNETS.{key}": value for key, value in values.items()},
    }


def _input_keys(preprocessor: Mapping[str, Any]) -> dict[str, Any]:
    mean = preprocessor.get("image_mean", [0.485, 0.456, 0.406])
    std = preprocessor.get("image_std", [0.229, 0.224, 0.225])
    size = preprocessor.get("size", {})
    keys = {
        "INPUT.FORMAT": "RGB",
        "MODEL.PIXEL_MEAN": [255 * value for value in mean],
        "MODEL.PIXEL_STD": [255 * value for value in std],
    }
    if isinstance(size, dict) and "shortest_edge" in size:
        keys["INPUT.MIN_SIZE_TEST"] = size["shortest_edge"]
        keys["INPUT.MAX_SIZE_TEST"] = size.get("longest_edge", 1333)
    return keys


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: holds a {type(content).__name__}, not a json object")
    return content


# ------------------------------------------------------------------------------------------------------------- names

_BACKBONE = r"model\.pixel_level_module\.encoder\.(?:swin\.|model\.)?"
_PIXEL = r"model\.pixel_level_module\.decoder\."
_QUERY = r"model\.transformer_module\."
_LAYER = _QUERY + r"decoder\.layers\.(\d+)\."
_BLOCK = _BACKBONE + r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."
_OUR_PIXEL = "sem_seg_head.pixel_decoder."
_OUR_ENCODER = _OUR_PIXEL + "transformer.encoder.layers."
_OUR_QUERY = "sem_seg_head.predictor."
_OUR_BLOCK = r"backbone.layers.\1.blocks.\2."

# (pattern of the whole name, our name). Where transformers 5 renamed a part, both spellings stand.
_NAMES = [
    (_BACKBONE + r"embeddings\.patch_embeddings\.projection\.(.*)", r"backbone.patch_embed.proj.\1"),
    (_BACKBONE + r"embeddings\.norm\.(.*)", r"backbone.patch_embed.norm.\1"),
    (_BACKBONE + r"layernorm\.(.*)", r"backbone.norm.\1"),  # a classifier's last norm, which no feature map passes
    (_BLOCK + r"layernorm_before\.(.*)", _OUR_BLOCK + r"norm1.\3"),
    (_BLOCK + r"layernorm_after\.(.*)", _OUR_BLOCK + r"norm2.\3"),
    (_BLOCK + r"attention\.(?:self|relative_position_bias)\.(relative_position_\w+)", _OUR_BLOCK + r"attn.\3"),
    (_BLOCK + r"attention\.(?:output\.dense|o_proj)\.(.*)", _OUR_BLOCK + r"attn.proj.\3"),
    (_BLOCK + r"(?:intermediate\.dense|mlp\.fc1)\.(.*)", _OUR_BLOCK + r"mlp.fc1.\3"),
    (_BLOCK + r"(?:output\.dense|mlp\.fc2)\.(.*)", _OUR_BLOCK + r"mlp.fc2.\3"),
    (_BACKBONE + r"encoder\.layers\.(\d+)\.downsample\.(.*)", r"backbone.layers.\1.downsample.\2"),
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
    (_QUERY + r"queries_features\.(.*)", _OUR_QUERY + r"query_feat.\1"),
    (_QUERY + r"level_embed\.(.*)", _OUR_QUERY + r"level_embed.\1"),
    (_QUERY + r"input_projections\.(.*)", _OUR_QUERY + r"input_proj.\1"),
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
# Query, key and value apart; ours are one tensor in this order. (pattern with the kind in the group `part`, our name)
_PARTS = [
    (_BLOCK + r"attention\.(?:self\.)?(?P<part>[qkv])(?:uery|ey|alue|_proj)\.(\w+)", _OUR_BLOCK + r"attn.qkv.\4"),
    (
        _LAYER + r"self_attn\.(?P<part>[qkv])_proj\.(\w+)",
        _OUR_QUERY + r"transformer_self_attention_layers.\1.self_attn.in_proj_\3",
    ),
]


def convert_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Mask2FormerForUniversalSegmentation's tensors under our names; names that are not known stay as they are."""
    converted: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        for pattern, ours in _PARTS:
            match = re.fullmatch(pattern, name)
            if match:
                parts.setdefault(match.expand(ours), {})[match["part"]] = tensor
                break
        else:
            converted[_our_name(name)] = tensor
    for name, tensors in parts.items():
        if len(tensors) != 3:
            raise ValueError(f"{name}: of query, key and value only {sorted(tensors)} are in the file")
        converted[name] = torch.cat([tensors[part] for part in "qkv"])
    return converted


def _our_name(name: str) -> str:
    for pattern, ours in _NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(ours)
    stage_norm = re.fullmatch(_BACKBONE + r"hidden_states_norms\.stage(\d)\.(.*)", name)
    if stage_norm:
        return f"backbone.norm{int(stage_norm[1]) - 1}.{stage_norm[2]}"
    return _resnet_name(name)


def _resnet_name(name: str) -> str:
    """embedder / encoder.stages.0.layers.0.layer.1.convolution.weight -> backbone.res2.0.conv2.weight, and the like."""
    kinds = {"convolution": "", "normalization": "norm."}
    stem = re.fullmatch(_BACKBONE + r"embedder\.embedder\.(convolution|normalization)\.(.*)", name)
    if stem:
        return f"backbone.stem.conv1.{kinds[stem[1]]}{stem[2]}"
    place = r"encoder\.stages\.(\d)\.layers\.(\d+)\.(shortcut|layer\.\d)\."
    block = re.fullmatch(_BACKBONE + place + r"(convolution|normalization)\.(.*)", name)
    if not block:
        return name
    stage, index, place, kind, rest = block.groups()
    layer = "shortcut" if place == "shortcut" else f"conv{int(place[-1]) + 1}"
    return f"backbone.res{int(stage) + 2}.{index}.{layer}.{kinds[kind]}{rest}"
