"""What the published projects' configuration keys mean here: facts, one `Architecture` per published model.

Each says which of our keys an upstream key becomes, what upstream fixes in code, and which upstream keys are known but
change nothing. A key that Detectron2 (or this package) has under the same name passes through. How the tables are used
is in `upstream_config`; the projects' default values are in upstream_defaults.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Rule = tuple[str, Callable[[Any], Any]]  # our key, and how its value follows from upstream's

HEAD = "MODEL.SEM_SEG_HEAD."
CLASSIFIER = "MODEL.MASK_CLASSIFIER."
MASK2FORMER = "MODEL.MASK2FORMER."
MASKFORMER = "MODEL.MASKFORMER."
ONEFORMER = "MODEL.ONEFORMER."
SWIN_BACKBONE = "D2SwinTransformer"
DEEPLAB_BACKBONE = "build_resnet_deeplab_backbone"
DEEPLAB_RESNET = ("MODEL.RESNETS.STEM_TYPE", "MODEL.RESNETS.RES4_DILATION", "MODEL.RESNETS.RES5_MULTI_GRID")


@dataclass(frozen=True)
class Architecture:
    """How one published model's keys become ours."""

    name: str  # our MODEL.META_ARCHITECTURE
    defaults: tuple[str, ...]  # sections of upstream_defaults.yaml
    decides: frozenset[str] = frozenset()  # keys that only say which architecture it is
    renamed: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)  # our key -> the value that upstream fixes in code
    # Several upstream keys -> our keys and values, from the upstream values in that order.
    joint: Mapping[tuple[str, ...], Callable[..., dict[str, Any]]] = field(default_factory=dict)
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


# MaskFormer's pixel decoders -> whether there is a transformer encoder on the coarsest map
PYRAMIDS = {"BasePixelDecoder": False, "TransformerEncoderPixelDecoder": True}


def _has_encoder(pixel_decoder: str) -> bool:
    if pixel_decoder not in PYRAMIDS:
        raise ValueError(f"PIXEL_DECODER_NAME is {pixel_decoder!r}; known here: {', '.join(PYRAMIDS)}")
    return PYRAMIDS[pixel_decoder]


def _decoder_layers(places_with_loss: int) -> int:
    """Upstream counts the prediction before the first layer as a layer: 10 means 9."""
    if places_with_loss < 1:
        raise ValueError(f"DEC_LAYERS is {places_with_loss}; it counts the first prediction too and is at least 1")
    return places_with_loss - 1


_INPUT_RULES: dict[str, Sequence[Rule]] = {
    "INPUT.DATASET_MAPPER_NAME": [_to("INPUT.TARGETS", _mapper(0)), _to("INPUT.AUGMENTATION", _mapper(1))],
    # Despite its name: the side of the square that smaller crops are padded to; -1: no padding.
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


# Detectron2's optimizer reads these; the trainers of the mask classifiers do not.
_BIAS_KEYS = frozenset({"SOLVER.BIAS_LR_FACTOR", "SOLVER.WEIGHT_DECAY_BIAS"})

MASK_FORMER = "MODEL.MASK_FORMER"
_HEAD_NAMES = frozenset({"MODEL.META_ARCHITECTURE", f"{HEAD}NAME", f"{MASK_FORMER}.TRANSFORMER_DECODER_NAME"})
_DECODER_NAMES = _HEAD_NAMES | {f"{HEAD}PIXEL_DECODER_NAME"}
_DEEPLAB_HEAD = frozenset(
    HEAD + key
    for key in (
        *("LOSS_TYPE", "PROJECT_FEATURES", "PROJECT_CHANNELS", "ASPP_CHANNELS", "ASPP_DILATIONS", "ASPP_DROPOUT"),
        "USE_DEPTHWISE_SEPARABLE_CONV",
    )
)


def _masked_attention_rules(theirs: str, ours: str) -> dict[str, Sequence[Rule]]:
    """The keys of a Mask2Former, in section `theirs` of upstream and `ours` of this package."""
    decoder = ours + "PIXEL_DECODER."
    return {
        f"{theirs}.NUM_OBJECT_QUERIES": [_to(ours + "NUM_QUERIES")],
        f"{theirs}.HIDDEN_DIM": [_to(ours + "HIDDEN_DIM")],
        f"{theirs}.DIM_FEEDFORWARD": [_to(ours + "FEEDFORWARD_DIM")],
        f"{theirs}.DEC_LAYERS": [_to(ours + "DECODER_LAYERS", _decoder_layers)],
        f"{theirs}.PRE_NORM": [_to(ours + "PRE_NORM")],
        f"{theirs}.ENFORCE_INPUT_PROJ": [_to(ours + "ENFORCE_INPUT_PROJ")],
        f"{theirs}.TRAIN_NUM_POINTS": [_to(ours + "NUM_POINTS")],
        f"{theirs}.OVERSAMPLE_RATIO": [_to(ours + "OVERSAMPLE_RATIO")],
        f"{theirs}.IMPORTANCE_SAMPLE_RATIO": [_to(ours + "IMPORTANCE_SAMPLE_RATIO")],
        # One number of heads for both; the encoder's own key (DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS) is not read.
        f"{theirs}.NHEADS": [_to(ours + "NUM_HEADS"), _to(decoder + "ENCODER_HEADS")],
        # Dropout does not reach the masked-attention decoder, which is built without.
        f"{theirs}.DROPOUT": [_to(decoder + "ENCODER_DROPOUT")],
        f"{HEAD}MASK_DIM": [_to(ours + "MASK_DIM")],
        f"{HEAD}IN_FEATURES": [_to(decoder + "IN_FEATURES")],
        f"{HEAD}DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": [_to(decoder + "DEFORMABLE_IN_FEATURES")],
        f"{HEAD}CONVS_DIM": [_to(decoder + "CONV_DIM")],
        f"{HEAD}NORM": [_to(decoder + "NORM")],
        f"{HEAD}TRANSFORMER_ENC_LAYERS": [_to(decoder + "ENCODER_LAYERS")],
        f"{HEAD}COMMON_STRIDE": [_to(decoder + "COMMON_STRIDE")],
    }


def _masked_attention_constants(ours: str) -> dict[str, Any]:
    return {f"{ours}PIXEL_DECODER.ENCODER_FEEDFORWARD_DIM": 1024, f"{ours}PIXEL_DECODER.ENCODER_POINTS": 4}


_MULTI_SCALE_FEATURE = "multi_scale_pixel_decoder"
_MASKED_ATTENTION_UNUSED = (_DEEPLAB_HEAD | _BIAS_KEYS) | {
    f"{HEAD}LOSS_WEIGHT",
    f"{HEAD}IGNORE_VALUE",  # the data set says which label is ignored
    f"{HEAD}DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS",
    f"{HEAD}DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS",
}

MASK2FORMER_TABLE = Architecture(
    name="Mask2Former",
    defaults=("common", "mask_former"),
    decides=_DECODER_NAMES,
    renamed={
        **_INPUT_RULES,
        **_classifier_rules(MASK_FORMER, f"{MASK_FORMER}.TEST"),
        **_masked_attention_rules(MASK_FORMER, MASK2FORMER),
    },
    constants=_masked_attention_constants(MASK2FORMER),
    required={f"{MASK_FORMER}.TRANSFORMER_IN_FEATURE": _MULTI_SCALE_FEATURE},
    unused=_MASKED_ATTENTION_UNUSED | {f"{MASK_FORMER}.ENC_LAYERS"},
)

# MaskFormer's network, which the per-pixel baselines have in part: the pixel decoder ...
_PYRAMID_RULES: dict[str, Sequence[Rule]] = {
    f"{HEAD}PIXEL_DECODER_NAME": [_to(MASKFORMER + "PIXEL_DECODER.ENCODER", _has_encoder)],
    f"{HEAD}IN_FEATURES": [_to(MASKFORMER + "PIXEL_DECODER.IN_FEATURES")],
    f"{HEAD}CONVS_DIM": [_to(MASKFORMER + "PIXEL_DECODER.CONV_DIM")],
    f"{HEAD}NORM": [_to(MASKFORMER + "PIXEL_DECODER.NORM")],
    f"{HEAD}TRANSFORMER_ENC_LAYERS": [_to(MASKFORMER + "PIXEL_DECODER.ENCODER_LAYERS")],
    f"{HEAD}MASK_DIM": [_to(MASKFORMER + "MASK_DIM")],
    f"{MASK_FORMER}.NHEADS": [_to(MASKFORMER + "NUM_HEADS")],
    f"{MASK_FORMER}.DIM_FEEDFORWARD": [_to(MASKFORMER + "FEEDFORWARD_DIM")],
    f"{MASK_FORMER}.DROPOUT": [_to(MASKFORMER + "DROPOUT")],
    f"{MASK_FORMER}.PRE_NORM": [_to(MASKFORMER + "PRE_NORM")],
}
# ... and the transformer decoder, whose layers are counted truly.
_QUERY_RULES: dict[str, Sequence[Rule]] = {
    f"{MASK_FORMER}.HIDDEN_DIM": [_to(MASKFORMER + "HIDDEN_DIM")],
    f"{MASK_FORMER}.ENC_LAYERS": [_to(MASKFORMER + "ENCODER_LAYERS")],
    f"{MASK_FORMER}.DEC_LAYERS": [_to(MASKFORMER + "DECODER_LAYERS")],
    f"{MASK_FORMER}.ENFORCE_INPUT_PROJ": [_to(MASKFORMER + "ENFORCE_INPUT_PROJ")],
    f"{MASK_FORMER}.TRANSFORMER_IN_FEATURE": [_to(MASKFORMER + "MEMORY_FEATURE")],
}
_NOT_MASKFORMERS = (
    frozenset(
        {
            f"{HEAD}COMMON_STRIDE",  # fixed: that of the finest map
            f"{HEAD}IGNORE_VALUE",  # the data set says which label is ignored
            *(f"{HEAD}DEFORMABLE_TRANSFORMER_ENCODER_{key}" for key in ("IN_FEATURES", "N_POINTS", "N_HEADS")),
            *(f"{MASK_FORMER}.{key}" for key in ("TRAIN_NUM_POINTS", "OVERSAMPLE_RATIO", "IMPORTANCE_SAMPLE_RATIO")),
        }
    )
    | _DEEPLAB_HEAD
    | _BIAS_KEYS
)

MASKFORMER_TABLE = Architecture(
    name="MaskFormer",
    defaults=("common", "mask_former"),
    decides=_HEAD_NAMES,
    renamed={
        **_INPUT_RULES,
        **_classifier_rules(MASK_FORMER, f"{MASK_FORMER}.TEST"),
        **_PYRAMID_RULES,
        **_QUERY_RULES,
        f"{MASK_FORMER}.NUM_OBJECT_QUERIES": [_to(MASKFORMER + "NUM_QUERIES")],
    },
    unused=_NOT_MASKFORMERS | {f"{HEAD}LOSS_WEIGHT"},
)


def _task_probabilities(semantic: float, instance: float) -> dict[str, Any]:
    """Upstream's two are thresholds on one uniform number: below the first semantic, below the second instance."""
    if not 0 <= semantic <= 1 or not 0 <= instance <= 1:
        raise ValueError(f"INPUT.TASK_PROB holds thresholds in [0, 1], got SEMANTIC {semantic}, INSTANCE {instance}")
    instance = max(instance, semantic)
    ours = {"SEMANTIC": semantic, "INSTANCE": instance - semantic, "PANOPTIC": 1 - instance}
    # 1 - 0.66 is 0.34, but for the last digit.
    return {f"INPUT.TASK_PROBABILITIES.{task}": round(value, 9) for task, value in ours.items()}


def _test_sets(test: Sequence[str], *of_tasks: Sequence[str]) -> dict[str, Any]:
    """One set is scored in every task that it has truth for; upstream names the same images once for each task."""
    candidates = [[name for name in names if name] for names in (test, *of_tasks)]
    return {"DATASETS.TEST": next((names for names in candidates if names), [])}


# Backbones that this package does not have, and what to do instead.
LACKING_BACKBONES = {
    "D2DiNAT": "the same project's files with D2SwinTransformer or a ResNet can be read",
    "D2ConvNeXt": "timm's ConvNeXt (MODEL.BACKBONE.NAME TimmBackbone, MODEL.TIMM.NAME convnext_large) can be trained "
    "in its place, but does not take the published weights",
}
_DINAT = frozenset(
    f"MODEL.DiNAT.{key}"
    for key in (
        *("DEPTHS", "OUT_FEATURES", "EMBED_DIM", "MLP_RATIO", "NUM_HEADS", "DROP_PATH_RATE", "KERNEL_SIZE"),
        *("DILATIONS", "OUT_INDICES", "QKV_BIAS", "QK_SCALE", "DROP_RATE", "ATTN_DROP_RATE", "IN_PATCH_SIZE"),
    )
)
_CONVNEXT = frozenset(
    f"MODEL.CONVNEXT.{key}"
    for key in ("IN_CHANNELS", "DEPTHS", "DIMS", "DROP_PATH_RATE", "LSIT", "OUT_INDICES", "OUT_FEATURES")
)
_SLIDING_WINDOW = frozenset(
    f"TEST.AUG.{key}"
    for key in ("IS_SLIDE", "CROP_SIZE", "STRIDE", "SCALE", "SETR_MULTI_SCALE", "KEEP_RATIO", "SIZE_DIVISOR")
)
_ONE_FORMER = "MODEL.ONE_FORMER"
_CONTRASTIVE_DECODER = f"{_ONE_FORMER}.TRANSFORMER_DECODER_NAME"
_TEXT_ENCODER = ONEFORMER + "TEXT_ENCODER."
_MASKED_ATTENTION_OF_ONEFORMER = _masked_attention_rules(_ONE_FORMER, ONEFORMER)

ONEFORMER_TABLE = Architecture(
    name="OneFormer",
    defaults=("common", "one_former"),
    decides=(_DECODER_NAMES - {f"{MASK_FORMER}.TRANSFORMER_DECODER_NAME"}) | {_CONTRASTIVE_DECODER},
    renamed={
        **_INPUT_RULES,
        **_classifier_rules(_ONE_FORMER, "MODEL.TEST"),
        **_MASKED_ATTENTION_OF_ONEFORMER,
        f"{_ONE_FORMER}.DROPOUT": [
            *_MASKED_ATTENTION_OF_ONEFORMER[f"{_ONE_FORMER}.DROPOUT"],
            _to(ONEFORMER + "QUERY_DROPOUT"),
        ],
        f"{_ONE_FORMER}.CLASS_DEC_LAYERS": [_to(ONEFORMER + "QUERY_LAYERS")],
        f"{_ONE_FORMER}.CONTRASTIVE_WEIGHT": [_to(ONEFORMER + "CONTRASTIVE_WEIGHT")],
        f"{_ONE_FORMER}.CONTRASTIVE_TEMPERATURE": [_to(ONEFORMER + "CONTRASTIVE_TEMPERATURE")],
        "INPUT.TASK_SEQ_LEN": [_to(ONEFORMER + "TASK_CONTEXT_LENGTH")],
        "MODEL.IS_TRAIN": [_to(_TEXT_ENCODER + "ENABLED")],
        **{
            f"MODEL.TEXT_ENCODER.{key}": [_to(_TEXT_ENCODER + key)]
            for key in ("WIDTH", "CONTEXT_LENGTH", "NUM_LAYERS", "VOCAB_SIZE", "PROJ_NUM_LAYERS")
        },
        "MODEL.TEXT_ENCODER.N_CTX": [_to(_TEXT_ENCODER + "NUM_CONTEXT")],
    },
    joint={
        ("INPUT.TASK_PROB.SEMANTIC", "INPUT.TASK_PROB.INSTANCE"): _task_probabilities,
        tuple(f"DATASETS.TEST{of}" for of in ("", "_PANOPTIC", "_SEMANTIC", "_INSTANCE")): _test_sets,
    },
    constants=_masked_attention_constants(ONEFORMER),
    required={
        f"{_ONE_FORMER}.TRANSFORMER_IN_FEATURE": _MULTI_SCALE_FEATURE,
        # In every published file so; the queries' transformer has no encoder, and the task goes through a norm.
        f"{_ONE_FORMER}.ENC_LAYERS": 0,
        f"{_ONE_FORMER}.USE_TASK_NORM": True,
    },
    unused=_MASKED_ATTENTION_UNUSED
    | {
        "INPUT.MAX_SEQ_LEN",  # of the texts, for which MODEL.TEXT_ENCODER.CONTEXT_LENGTH must be the same
        f"{_ONE_FORMER}.NUM_OBJECT_CTX",
        *(f"{HEAD}SEM_EMBED_DIM", f"{HEAD}INST_EMBED_DIM"),
        "MODEL.TEST.TASK",  # every task is scored
        "MODEL.TEST.DETECTION_ON",  # instances have boxes, always
        "MODEL.IS_DEMO",
        *("WANDB.PROJECT", "WANDB.NAME"),
    }
    | _DINAT
    | _CONVNEXT
    | _SLIDING_WINDOW,
)

# What only a mask classifier reads.
_NOT_PER_PIXEL = _NOT_MASKFORMERS | (
    _classifier_rules(MASK_FORMER, f"{MASK_FORMER}.TEST").keys()
    - {f"{HEAD}NUM_CLASSES", f"{MASK_FORMER}.DEEP_SUPERVISION"}
)
_PER_PIXEL_RULES = {**_INPUT_RULES, **_PYRAMID_RULES, f"{HEAD}LOSS_WEIGHT": [_to("MODEL.PER_PIXEL.LOSS_WEIGHT")]}

PER_PIXEL_TABLES = {
    "PerPixelBaselineHead": Architecture(
        name="PerPixelBaseline",
        defaults=("common", "mask_former"),
        decides=_HEAD_NAMES,
        renamed={**_PER_PIXEL_RULES, f"{HEAD}NUM_CLASSES": [_to(CLASSIFIER + "NUM_CLASSES")]},
        unused=_NOT_PER_PIXEL
        | _QUERY_RULES.keys()
        | {f"{MASK_FORMER}.DEEP_SUPERVISION", f"{MASK_FORMER}.NUM_OBJECT_QUERIES"},
    ),
    "PerPixelBaselinePlusHead": Architecture(
        name="PerPixelBaselinePlus",
        defaults=("common", "mask_former"),
        decides=_HEAD_NAMES,
        renamed={
            **_PER_PIXEL_RULES,
            **_QUERY_RULES,
            f"{MASK_FORMER}.DEEP_SUPERVISION": [_to(CLASSIFIER + "DEEP_SUPERVISION")],
            # Each query is one class: upstream's network has as many classes as queries, whatever NUM_CLASSES says.
            f"{MASK_FORMER}.NUM_OBJECT_QUERIES": [_to(CLASSIFIER + "NUM_CLASSES")],
        },
        unused=_NOT_PER_PIXEL | {f"{HEAD}NUM_CLASSES"},
    ),
}


def _crop_order(crops: bool) -> dict[str, Any]:
    """Detectron2's mapper crops before it resizes."""
    return {"INPUT.CROP.ENABLED": crops, "INPUT.AUGMENTATION": "crop_resize" if crops else "resize_crop"}


# Detectron2's own architectures: no key of theirs is called otherwise here, but their mapper knows no INPUT.TARGETS and
# their trainer SGD alone. Which of their parts are built here says the model itself.
DETECTRON2_TABLES = {
    theirs: Architecture(
        name=ours,
        defaults=(),
        joint={("INPUT.CROP.ENABLED",): _crop_order},
        constants={"SOLVER.OPTIMIZER": "SGD", "INPUT.TARGETS": targets},
    )
    for theirs, ours, targets in (
        ("GeneralizedRCNN", "MaskRCNN", "instance"),
        ("PanopticFPN", "PanopticFeaturePyramid", "panoptic"),
    )
}
DETECTRON2_OTHERS = ("ProposalNetwork", "RetinaNet", "SemanticSegmentor")

DEFORMABLE = "MSDeformAttnPixelDecoder"
MULTI_SCALE = "MultiScaleMaskedTransformerDecoder"
CONTRASTIVE = "ContrastiveMultiScaleMaskedTransformerDecoder"
STANDARD = "StandardTransformerDecoder"

# (pixel decoder, transformer decoder) -> architecture
DECODERS = {
    (DEFORMABLE, MULTI_SCALE): MASK2FORMER_TABLE,
    (DEFORMABLE, CONTRASTIVE): ONEFORMER_TABLE,
    **{(pixel_decoder, STANDARD): MASKFORMER_TABLE for pixel_decoder in PYRAMIDS},
}
TABLES = {table.name: table for table in (*DECODERS.values(), *PER_PIXEL_TABLES.values())}
