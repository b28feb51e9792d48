"""Translate a config of the published projects (a yaml or a full dump) into this package's keys.

One `Architecture` per published model, a table of facts: which of our keys each upstream key becomes, what upstream
fixes in code, and which upstream keys are known but change nothing. A key that Detectron2 (or this package) has under
the same name passes through. A further architecture is a further table.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml
from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from mask2former_ext.interop.config_keys import as_tree, get_key, leaves, merge, parse_overrides, set_key, unknown_key
from mask2former_ext.interop.safe_yaml import merge_trees

Rule = tuple[str, Callable[[Any], Any]]  # our key, and how its value follows from upstream's

HEAD = "MODEL.SEM_SEG_HEAD."
CLASSIFIER = "MODEL.MASK_CLASSIFIER."
MASK2FORMER = "MODEL.MASK2FORMER."
PIXEL_DECODER = "MODEL.MASK2FORMER.PIXEL_DECODER."
SWIN_BACKBONE = "D2SwinTransformer"
DEEPLAB_BACKBONE = "build_resnet_deeplab_backbone"
DEEPLAB_RESNET = ("MODEL.RESNETS.STEM_TYPE", "MODEL.RESNETS.RES4_DILATION", "MODEL.RESNETS.RES5_MULTI_GRID")


@dataclass(frozen=True)
class Architecture:
    """How one published model's keys become ours. `built` is False while this package cannot build the model."""

    name: str  # our MODEL.META_ARCHITECTURE; "" keeps the file's
    defaults: tuple[str, ...]  # sections of upstream_defaults.yaml
    built: bool = False
    decides: frozenset[str] = frozenset()  # keys that only say which architecture it is
    renamed: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)  # our key -> the value that upstream fixes in code
    required: Mapping[str, Any] = field(default_factory=dict)  # upstream key -> the only value that upstream can run
    unused: frozenset[str] = frozenset()  # known keys that change nothing in upstream's model


def _same(value: Any) -> Any:
    return value


def _to(key: str, function: Callable[[Any], Any] = _same) -> Rule:
    return key, function


# Mapper -> (INPUT.TARGETS, INPUT.AUGMENTATION)
MAPPERS = {
    "mask_former_semantic": ("semantic", "resize_crop"),
    "mask_former_instance": ("instance", "resize_crop"),
    "mask_former_panoptic": ("panoptic", "resize_crop"),
    "coco_instance_lsj": ("instance", "large_scale_jitter"),
    "coco_panoptic_lsj": ("panoptic", "large_scale_jitter"),
    "detr_panoptic": ("panoptic", "detr"),
    "oneformer_unified": ("unified", "resize_crop"),
    "coco_unified_lsj": ("unified", "large_scale_jitter"),
}


def _mapper(position: int) -> Callable[[str], str]:
    def look_up(name: str) -> str:
        if name not in MAPPERS:
            raise ValueError(f"INPUT.DATASET_MAPPER_NAME is {name!r}; known mappers: {', '.join(MAPPERS)}")
        return MAPPERS[name][position]

    return look_up


def _decoder_layers(places_with_loss: int) -> int:
    """Upstream counts the prediction before the first layer as a layer: 10 means 9."""
    if places_with_loss < 1:
        raise ValueError(f"DEC_LAYERS is {places_with_loss}; it counts the first prediction too and is at least 1")
    return places_with_loss - 1


_INPUT_RULES: dict[str, Sequence[Rule]] = {
    "INPUT.DATASET_MAPPER_NAME": [_to("INPUT.TARGETS", _mapper(0)), _to("INPUT.AUGMENTATION", _mapper(1))],
    # Its name notwithstanding, the side of the square that smaller crops are padded to; -1: no padding.
    "INPUT.SIZE_DIVISIBILITY": [_to("INPUT.PAD_SIZE", lambda side: max(side, 0))],
}


def _classifier_rules(section: str, test: str) -> dict[str, Sequence[Rule]]:
    """The keys that all mask classifiers share; `section` holds the losses, `test` the inference keys."""
    return {
        f"{HEAD}NUM_CLASSES": [_to(CLASSIFIER + "NUM_CLASSES")],
        **{
            f"{section}.{key}": [_to(CLASSIFIER + key)]
            for key in (
                *("CLASS_WEIGHT", "MASK_WEIGHT", "DICE_WEIGHT", "NO_OBJECT_WEIGHT"),
                *("DEEP_SUPERVISION", "SIZE_DIVISIBILITY"),
            )
        },
        **{f"{test}.{key}": [_to(CLASSIFIER + key)] for key in ("SEMANTIC_ON", "INSTANCE_ON", "PANOPTIC_ON")},
        f"{test}.OBJECT_MASK_THRESHOLD": [_to(CLASSIFIER + "MIN_CLASS_PROB")],
        f"{test}.OVERLAP_THRESHOLD": [_to(CLASSIFIER + "MIN_VISIBLE_FRACTION")],
        f"{test}.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": [_to(CLASSIFIER + "RESIZE_MASKS_FIRST")],
    }


_MASK_FORMER = "MODEL.MASK_FORMER"
_DECODER_NAMES = frozenset(
    {"MODEL.META_ARCHITECTURE", f"{HEAD}NAME", f"{HEAD}PIXEL_DECODER_NAME", f"{_MASK_FORMER}.TRANSFORMER_DECODER_NAME"}
)
_DEEPLAB_HEAD = frozenset(
    HEAD + key
    for key in (
        *("LOSS_TYPE", "PROJECT_FEATURES", "PROJECT_CHANNELS", "ASPP_CHANNELS", "ASPP_DILATIONS", "ASPP_DROPOUT"),
        "USE_DEPTHWISE_SEPARABLE_CONV",
    )
)

MASK2FORMER_TABLE = Architecture(
    name="Mask2Former",
    defaults=("common", "mask_former"),
    built=True,
    decides=_DECODER_NAMES,
    renamed={
        **_INPUT_RULES,
        **_classifier_rules(_MASK_FORMER, f"{_MASK_FORMER}.TEST"),
        f"{_MASK_FORMER}.NUM_OBJECT_QUERIES": [_to(MASK2FORMER + "NUM_QUERIES")],
        f"{_MASK_FORMER}.HIDDEN_DIM": [_to(MASK2FORMER + "HIDDEN_DIM")],
        f"{_MASK_FORMER}.DIM_FEEDFORWARD": [_to(MASK2FORMER + "FEEDFORWARD_DIM")],
        f"{_MASK_FORMER}.DEC_LAYERS": [_to(MASK2FORMER + "DECODER_LAYERS", _decoder_layers)],
        f"{_MASK_FORMER}.PRE_NORM": [_to(MASK2FORMER + "PRE_NORM")],
        f"{_MASK_FORMER}.ENFORCE_INPUT_PROJ": [_to(MASK2FORMER + "ENFORCE_INPUT_PROJ")],
        f"{_MASK_FORMER}.TRAIN_NUM_POINTS": [_to(MASK2FORMER + "NUM_POINTS")],
        f"{_MASK_FORMER}.OVERSAMPLE_RATIO": [_to(MASK2FORMER + "OVERSAMPLE_RATIO")],
        f"{_MASK_FORMER}.IMPORTANCE_SAMPLE_RATIO": [_to(MASK2FORMER + "IMPORTANCE_SAMPLE_RATIO")],
        # One number of heads for both; the encoder's own key (DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS) is not read.
        f"{_MASK_FORMER}.NHEADS": [_to(MASK2FORMER + "NUM_HEADS"), _to(PIXEL_DECODER + "ENCODER_HEADS")],
        # Dropout reaches the encoder alone: the masked-attention decoder is built without.
        f"{_MASK_FORMER}.DROPOUT": [_to(PIXEL_DECODER + "ENCODER_DROPOUT")],
        f"{HEAD}MASK_DIM": [_to(MASK2FORMER + "MASK_DIM")],
        f"{HEAD}IN_FEATURES": [_to(PIXEL_DECODER + "IN_FEATURES")],
        f"{HEAD}DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": [_to(PIXEL_DECODER + "DEFORMABLE_IN_FEATURES")],
        f"{HEAD}CONVS_DIM": [_to(PIXEL_DECODER + "CONV_DIM")],
        f"{HEAD}NORM": [_to(PIXEL_DECODER + "NORM")],
        f"{HEAD}TRANSFORMER_ENC_LAYERS": [_to(PIXEL_DECODER + "ENCODER_LAYERS")],
        f"{HEAD}COMMON_STRIDE": [_to(PIXEL_DECODER + "COMMON_STRIDE")],
    },
    constants={PIXEL_DECODER + "ENCODER_FEEDFORWARD_DIM": 1024, PIXEL_DECODER + "ENCODER_POINTS": 4},
    required={f"{_MASK_FORMER}.TRANSFORMER_IN_FEATURE": "multi_scale_pixel_decoder"},
    unused=frozenset(
        {
            f"{HEAD}LOSS_WEIGHT",
            f"{HEAD}IGNORE_VALUE",  # the data set's metadata says which label is ignored
            f"{HEAD}DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS",
            f"{HEAD}DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS",
            f"{_MASK_FORMER}.ENC_LAYERS",
        }
    )
    | _DEEPLAB_HEAD,
)

MASKFORMER_TABLE = Architecture(
    name="MaskFormer",
    defaults=("common", "mask_former"),
    decides=_DECODER_NAMES,
    renamed={**_INPUT_RULES, **_classifier_rules(_MASK_FORMER, f"{_MASK_FORMER}.TEST")},
    unused=_DEEPLAB_HEAD,
)

ONEFORMER_TABLE = Architecture(
    name="OneFormer",
    defaults=("common", "one_former"),
    decides=_DECODER_NAMES | {"MODEL.ONE_FORMER.TRANSFORMER_DECODER_NAME"},
    renamed={**_INPUT_RULES, **_classifier_rules("MODEL.ONE_FORMER", "MODEL.TEST")},
    unused=_DEEPLAB_HEAD,
)

PER_PIXEL_TABLES = {
    head: Architecture(
        name=name,
        defaults=("common", "mask_former"),
        decides=_DECODER_NAMES,
        renamed=_INPUT_RULES,
        unused=_DEEPLAB_HEAD,
    )
    for head, name in (
        ("PerPixelBaselineHead", "PerPixelBaseline"),
        ("PerPixelBaselinePlusHead", "PerPixelBaselinePlus"),
    )
}

# Detectron2's own architectures: no key of theirs is called otherwise here, but their trainer knows SGD alone.
DETECTRON2_TABLE = Architecture(name="", defaults=(), built=True, constants={"SOLVER.OPTIMIZER": "SGD"})
DETECTRON2_NAMES = frozenset({"GeneralizedRCNN", "ProposalNetwork", "RetinaNet", "PanopticFPN", "SemanticSegmentor"})

_DEFORMABLE = "MSDeformAttnPixelDecoder"
_MULTI_SCALE = "MultiScaleMaskedTransformerDecoder"
_CONTRASTIVE = "ContrastiveMultiScaleMaskedTransformerDecoder"
_STANDARD = "StandardTransformerDecoder"

# (pixel decoder, transformer decoder) -> architecture
DECODERS = {
    (_DEFORMABLE, _MULTI_SCALE): MASK2FORMER_TABLE,
    (_DEFORMABLE, _CONTRASTIVE): ONEFORMER_TABLE,
    ("BasePixelDecoder", _STANDARD): MASKFORMER_TABLE,
    ("TransformerEncoderPixelDecoder", _STANDARD): MASKFORMER_TABLE,
}


@functools.cache
def _upstream_defaults() -> dict[str, dict[str, Any]]:
    text = resources.files("mask2former_ext.interop").joinpath("upstream_defaults.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def is_upstream(tree: dict[str, Any], ours: CN) -> bool:
    """Whether a file's keys are those of a published project: one that `ours` lacks is there, none that is ours alone.

    A file that names one of Detectron2's own architectures and has no key of ours alone counts as published, too.
    """
    added = {key for section in _upstream_defaults().values() for key, _ in leaves(section)}
    theirs = added | {key for key, _ in leaves(get_cfg())}
    keys = {key for key, _ in leaves(tree)}
    if any(key not in theirs and get_key(ours, key, ...) is not ... for key in keys):
        return False
    foreign = any(key in added and get_key(ours, key, ...) is ... for key in keys)
    return foreign or get_key(tree, "MODEL.META_ARCHITECTURE") in DETECTRON2_NAMES


def architecture_of(tree: dict[str, Any], source: str) -> Architecture:
    """The table for an upstream file, by its decoder names: MaskFormer's and Mask2Former's META_ARCHITECTURE agree."""
    model = tree.get("MODEL", {})
    head = get_key(tree, f"{HEAD}NAME")
    if head in PER_PIXEL_TABLES:
        return PER_PIXEL_TABLES[head]
    pixel_decoder = get_key(tree, f"{HEAD}PIXEL_DECODER_NAME", "BasePixelDecoder")
    if "ONE_FORMER" in model:
        decoder = get_key(tree, "MODEL.ONE_FORMER.TRANSFORMER_DECODER_NAME", _CONTRASTIVE)
    elif "MASK_FORMER" in model:
        usual = _MULTI_SCALE if pixel_decoder == _DEFORMABLE else _STANDARD
        decoder = get_key(tree, f"{_MASK_FORMER}.TRANSFORMER_DECODER_NAME", usual)
    elif get_key(tree, "MODEL.META_ARCHITECTURE") in DETECTRON2_NAMES:
        return DETECTRON2_TABLE
    else:
        raise ValueError(f"{source}: neither MODEL.MASK_FORMER nor MODEL.ONE_FORMER is there to name the architecture")
    if (pixel_decoder, decoder) not in DECODERS:
        known = "; ".join(f"{first} with {second}" for first, second in DECODERS)
        raise ValueError(f"{source}: no architecture has {pixel_decoder} with {decoder}; known are {known}")
    return DECODERS[pixel_decoder, decoder]


def upstream_keys(table: Architecture) -> CN:
    """All keys of the project that `table` belongs to, Detectron2's among them, with that project's default values."""
    cfg = get_cfg()
    for section in table.defaults:
        for key, value in leaves(_upstream_defaults()[section]):
            *parents, last = key.split(".")
            node = cfg
            for parent in parents:
                node = node.setdefault(parent, CN())
            node[last] = value
    return cfg


def translate(tree: dict[str, Any], overrides: Sequence[Any], ours: CN, source: str) -> CN:
    """The settings of an upstream file (`tree`) in the keys of `ours`, which holds this package's defaults.

    Overrides may be in either language; upstream's apply before translation, ours after it. Raises ValueError.
    """
    pairs = parse_overrides(overrides)
    table = architecture_of(merge_trees(tree, as_tree(pairs), f"overrides of {source}"), source)
    theirs = upstream_keys(table)
    upstream_pairs = [pair for pair in pairs if get_key(theirs, pair[0], ...) is not ...]
    our_pairs = [pair for pair in pairs if pair not in upstream_pairs]
    for key, _ in our_pairs:
        if get_key(ours, key, ...) is ...:
            known = [name for cfg in (theirs, ours) for name, _ in leaves(cfg)]
            raise unknown_key(key, known, f"overrides of {source}", {})
    theirs = merge(theirs, tree, source)
    theirs = merge(theirs, as_tree(upstream_pairs), f"overrides of {source}")
    cfg = _apply(table, theirs, ours, source)
    return merge(cfg, as_tree(our_pairs), f"overrides of {source}")


def our_names() -> dict[str, str]:
    """Upstream's Mask2Former keys and what they are called here, for messages."""
    return {key: ", ".join(target for target, _ in rules) for key, rules in MASK2FORMER_TABLE.renamed.items()}


def check_no_upstream_values(cfg: CN, source: str) -> None:
    """Refuse keys of Detectron2 that say something in upstream's Mask2Former files, but nothing to our Mask2Former."""
    if cfg.MODEL.META_ARCHITECTURE != MASK2FORMER_TABLE.name:
        return
    defaults = get_cfg()
    for key, ours in our_names().items():
        value = get_key(cfg, key, ...)
        if value is not ... and value != get_key(defaults, key):
            raise ValueError(
                f"{source}: {key} is {value!r}, but Mask2Former does not read it: here it is called {ours}"
            )


def _apply(table: Architecture, theirs: CN, ours: CN, source: str) -> CN:
    cfg = ours.clone()
    waiting = []
    for key, value in leaves(theirs):
        if key in table.renamed:
            for target, function in table.renamed[key]:
                set_key(cfg, target, _named(function, value, source))
        elif key in table.required:
            if value != table.required[key]:
                raise ValueError(f"{source}: {key} is {value!r}; {table.name} needs {table.required[key]!r}")
        elif key in table.decides or key in table.unused:
            continue
        elif key in DEEPLAB_RESNET and theirs.MODEL.BACKBONE.NAME != DEEPLAB_BACKBONE:
            continue  # published files set these for every ResNet; the plain one does not read them
        elif get_key(cfg, key, ...) is not ...:
            set_key(cfg, key, value)
        else:
            waiting.append(key)
    assert not (table.built and waiting), f"upstream keys without a rule: {waiting}"
    for key, value in table.constants.items():
        set_key(cfg, key, value)
    if table.renamed and cfg.INPUT.AUGMENTATION == "resize_crop":
        cfg.INPUT.RANDOM_FLIP = "horizontal"  # the mask_former_* mappers flip so whatever the key says
    if theirs.MODEL.BACKBONE.NAME == SWIN_BACKBONE:
        cfg.MODEL.BACKBONE.FREEZE_AT = 0  # upstream's Swin does not read this key, ours does
    if table.name:
        cfg.MODEL.META_ARCHITECTURE = table.name
    if not table.built:
        logging.getLogger(__name__).warning(
            "%s: %s is not built yet; %d of its keys have no counterpart here", source, table.name, len(waiting)
        )
    return cfg


def _named(function: Callable[[Any], Any], value: Any, source: str) -> Any:
    try:
        return function(value)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
