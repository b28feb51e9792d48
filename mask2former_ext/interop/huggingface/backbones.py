"""The backbones of Hugging Face's models: Swin and ResNet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mask2former_ext.interop.huggingface.conversion import Name

# Their SwinConfig and ResNetConfig, with default values: a file may leave them out.
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


def backbone_keys(backbone: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Our keys for a `backbone_config`. Raises ValueError, naming `path`, for one that cannot be converted."""
    kind = backbone.get("model_type", "swin")
    if kind in ("swin", "maskformer-swin"):
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


# ------------------------------------------------------------------------------------------------------------- names

_BACKBONE = r"model\.pixel_level_module\.encoder\.(?:swin\.|model\.)?"
_BLOCK = _BACKBONE + r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."
_OUR_BLOCK = r"backbone.layers.\1.blocks.\2."
_RESNET_LAYER = r"(shortcut|layer\.\d)\.(convolution|normalization)\.(.*)"
_KINDS = {"convolution": "", "normalization": "norm."}


def _stage_norm(match: re.Match) -> str:
    """Swin calls its stages stage1, stage2, ...; MaskFormer's Swin 0, 1, ..."""
    index = int(match["index"]) - (1 if match["word"] else 0)
    return f"backbone.norm{index}.{match['rest']}"


def _resnet_stem(match: re.Match) -> str:
    kind, rest = match.groups()
    return f"backbone.stem.conv1.{_KINDS[kind]}{rest}"


def _resnet_layer(match: re.Match) -> str:
    """stages.0.layers.0.layer.1.convolution.weight -> backbone.res2.0.conv2.weight, and the like."""
    stage, index, place, kind, rest = match.groups()
    layer = "shortcut" if place == "shortcut" else f"conv{int(place[-1]) + 1}"
    return f"backbone.res{int(stage) + 2}.{index}.{layer}.{_KINDS[kind]}{rest}"


# Where transformers 5 renamed a part, both spellings stand.
BACKBONE_NAMES: list[Name] = [
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
    (_BACKBONE + r"hidden_states_norms\.(?P<word>stage)?(?P<index>\d)\.(?P<rest>.*)", _stage_norm),
    (_BACKBONE + r"embedder\.embedder\.(convolution|normalization)\.(.*)", _resnet_stem),
    (_BACKBONE + r"encoder\.stages\.(\d)\.layers\.(\d+)\." + _RESNET_LAYER, _resnet_layer),
]
BACKBONE_PARTS: list[Name] = [
    (_BLOCK + r"attention\.(?:self\.)?(?P<part>[qkv])(?:uery|ey|alue|_proj)\.(\w+)", _OUR_BLOCK + r"attn.qkv.\4"),
]
