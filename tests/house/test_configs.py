"""Every configuration file resolves, and the published ones say what was published."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from mask2former_ext.config import load_config
from mask2former_ext.interop.config_keys import leaves

CONFIGS = Path(__file__).parents[2] / "configs"
ALL = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/*.yaml"))
LEAVES = [name for name in ALL if not name.startswith(("datasets/", "models/"))]

# The public Mask2Former repository, if it lies somewhere; MaskFormer's and OneFormer's are looked for beside it.
UPSTREAM = Path(os.environ.get("MASK2FORMER_EXT_UPSTREAM", CONFIGS.parent.parent / "Mask2Former"))
PUBLISHED_FILES = {
    "coco_panoptic_r50": "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml",
    "coco_panoptic_swin_t": "coco/panoptic-segmentation/swin/maskformer2_swin_tiny_bs16_50ep.yaml",
    "coco_instance_r50": "coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml",
    "coco_instance_swin_t": "coco/instance-segmentation/swin/maskformer2_swin_tiny_bs16_50ep.yaml",
    "ade20k_semantic_r50": "ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml",
    "ade20k_semantic_swin_t": "ade20k/semantic-segmentation/swin/maskformer2_swin_tiny_bs16_160k.yaml",
    **{
        f"cityscapes_{task}_{ours}": f"cityscapes/{task}-segmentation/{theirs}_bs16_90k.yaml"
        for task in ("panoptic", "instance", "semantic")
        for ours, theirs in (("r50", "maskformer2_R50"), ("swin_t", "swin/maskformer2_swin_tiny"))
    },
}
ONEFORMER_FILES = {
    "oneformer/ade20k_r50": "ade20k/oneformer_R50_bs16_160k.yaml",
    "oneformer/ade20k_swin_t": "ade20k/swin/oneformer_swin_tiny_bs16_160k.yaml",
    "oneformer/ade20k_swin_l": "ade20k/swin/oneformer_swin_large_bs16_160k.yaml",
    "oneformer/coco_r50": "coco/oneformer_R50_bs16_50ep.yaml",
    "oneformer/coco_swin_t": "coco/swin/oneformer_swin_tiny_bs16_50ep.yaml",
    "oneformer/coco_swin_l": "coco/swin/oneformer_swin_large_bs16_100ep.yaml",
    "oneformer/cityscapes_r50": "cityscapes/oneformer_R50_bs16_90k.yaml",
    "oneformer/cityscapes_swin_l": "cityscapes/swin/oneformer_swin_large_bs16_90k.yaml",
}
NAMES = list(PUBLISHED_FILES)
MASKFORMER_FILES = {
    "maskformer/ade20k_semantic_r50": "ade20k-150/maskformer_R50_bs16_160k.yaml",
    "maskformer/ade20k_semantic_r101c": "ade20k-150/maskformer_R101c_bs16_160k.yaml",
    "maskformer/ade20k_semantic_swin_t": "ade20k-150/swin/maskformer_swin_tiny_bs16_160k.yaml",
    "maskformer/ade20k_semantic_swin_l": "ade20k-150/swin/maskformer_swin_large_IN21k_384_bs16_160k_res640.yaml",
    "maskformer/cityscapes_semantic_r101c": "cityscapes-19/maskformer_R101c_bs16_90k.yaml",
    "maskformer/coco_panoptic_r50": "coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml",
    "maskformer/coco_panoptic_swin_t": "coco-panoptic/swin/maskformer_panoptic_swin_tiny_bs64_554k.yaml",
    "maskformer/coco_panoptic_swin_l": "coco-panoptic/swin/maskformer_panoptic_swin_large_IN21k_384_bs64_554k.yaml",
    "per_pixel/ade20k_semantic_baseline_r50": "ade20k-150/per_pixel_baseline_R50_bs16_160k.yaml",
    "per_pixel/ade20k_semantic_baseline_plus_r50": "ade20k-150/per_pixel_baseline_plus_R50_bs16_160k.yaml",
}

# What the papers' zoo says, by data set and task: iterations, drops, scheduler, warm-up iterations, augmentation,
# shortest sides in training (first, last, how many), crop (height, width), color, padded side, test sides, classes.
SCHEDULES = {
    "coco": (368_750, (327_778, 355_092), "WarmupMultiStepLR", 10),
    "ade20k": (160_000, None, "WarmupPolyLR", 0),
    "cityscapes": (90_000, None, "WarmupPolyLR", 0),
}
SCALE_AND_CROP = {
    "ade20k": ((256, 1024, 16), 2048, (512, 512), 512, (512, 2048)),
    "cityscapes": ((512, 2048, 16), 4096, (512, 1024), 0, (1024, 2048)),
}
CLASSES = {
    "coco_panoptic": 133,
    "coco_instance": 80,
    "ade20k_semantic": 150,
    "cityscapes_panoptic": 19,
    "cityscapes_instance": 8,
    "cityscapes_semantic": 19,
}


@functools.cache
def ours(name: str, folder: str = "mask2former"):
    return load_config(str(CONFIGS / folder / f"{name}.yaml"))


@pytest.mark.parametrize("name", ALL)
def test_every_file_resolves(name):
    assert load_config(str(CONFIGS / name)).VERSION == 2


@pytest.mark.parametrize("name", LEAVES)
def test_every_head_says_its_own_command(name):
    first = (CONFIGS / name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# train_net.py --config-file configs/{name}")


def test_every_published_model_has_a_file():
    assert {f"mask2former/{name}.yaml" for name in NAMES} <= set(ALL)
    assert {f"{name}.yaml" for name in (*MASKFORMER_FILES, *ONEFORMER_FILES)} <= set(ALL)


@pytest.mark.parametrize("name", NAMES)
def test_schedule_is_the_published_one(name):
    solver = ours(name).SOLVER
    iterations, drops, scheduler, warmup = SCHEDULES[name.split("_")[0]]
    assert (solver.MAX_ITER, solver.LR_SCHEDULER_NAME, solver.WARMUP_ITERS) == (iterations, scheduler, warmup)
    assert drops is None or tuple(solver.STEPS) == drops


@pytest.mark.parametrize("name", NAMES)
def test_optimizer_is_the_published_one(name):
    solver = ours(name).SOLVER
    clip = solver.CLIP_GRADIENTS
    assert (solver.OPTIMIZER, solver.BASE_LR, solver.WEIGHT_DECAY, solver.IMS_PER_BATCH) == ("ADAMW", 1e-4, 0.05, 16)
    assert (solver.BACKBONE_MULTIPLIER, solver.WARMUP_FACTOR, solver.AMP.ENABLED) == (0.1, 1.0, True)
    assert (clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE) == (True, "full_model", 0.01, 2.0)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("coco")])
def test_coco_is_trained_with_large_scale_jitter(name):
    node = ours(name).INPUT
    assert node.AUGMENTATION == "large_scale_jitter"
    assert (node.IMAGE_SIZE, node.MIN_SCALE, node.MAX_SCALE) == (1024, 0.1, 2.0)
    assert (node.MIN_SIZE_TEST, node.MAX_SIZE_TEST, node.COLOR_AUG_SSD) == (800, 1333, False)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("coco")])
def test_others_are_scaled_cropped_and_padded(name):
    node = ours(name).INPUT
    (first, last, count), longest, crop, padded, test_sides = SCALE_AND_CROP[name.split("_")[0]]
    sides = node.MIN_SIZE_TRAIN
    assert (node.AUGMENTATION, sides[0], sides[-1], len(sides)) == ("resize_crop", first, last, count)
    assert (node.MAX_SIZE_TRAIN, tuple(node.CROP.SIZE), node.PAD_SIZE) == (longest, crop, padded)
    assert (node.CROP.ENABLED, node.CROP.TYPE, node.COLOR_AUG_SSD) == (True, "absolute", True)
    assert (node.MIN_SIZE_TEST, node.MAX_SIZE_TEST) == test_sides


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_weighted_as_published(name):
    node = ours(name).MODEL.MASK_CLASSIFIER
    assert (node.CLASS_WEIGHT, node.MASK_WEIGHT, node.DICE_WEIGHT, node.NO_OBJECT_WEIGHT) == (2.0, 5.0, 5.0, 0.1)
    assert node.DEEP_SUPERVISION


@pytest.mark.parametrize("name", NAMES)
def test_network_is_the_published_one(name):
    node = ours(name).MODEL.MASK2FORMER
    decoder = node.PIXEL_DECODER
    assert (node.NUM_QUERIES, node.DECODER_LAYERS, node.HIDDEN_DIM, node.FEEDFORWARD_DIM) == (100, 9, 256, 2048)
    assert (node.NUM_POINTS, node.OVERSAMPLE_RATIO, node.IMPORTANCE_SAMPLE_RATIO) == (12_544, 3.0, 0.75)
    assert (decoder.ENCODER_LAYERS, decoder.ENCODER_HEADS, decoder.ENCODER_POINTS) == (6, 8, 4)
    assert (decoder.ENCODER_FEEDFORWARD_DIM, decoder.CONV_DIM, decoder.ENCODER_DROPOUT) == (1024, 256, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_tasks_and_classes_are_those_of_the_name(name):
    node = ours(name).MODEL.MASK_CLASSIFIER
    data, task = name.split("_")[:2]
    answered = {"panoptic": (True, True, True), "instance": (False, True, False), "semantic": (True, False, False)}
    assert (node.SEMANTIC_ON, node.INSTANCE_ON, node.PANOPTIC_ON) == answered[task]
    assert (node.NUM_CLASSES, ours(name).INPUT.TARGETS) == (CLASSES[f"{data}_{task}"], task)
    assert (node.MIN_CLASS_PROB, node.MIN_VISIBLE_FRACTION) == (0.8, 0.8)


def comparable(cfg) -> dict:
    """All keys but those that nobody reads: test-time augmentation's, a ResNet's beside a Swin, those of no encoder."""
    unread = ["TEST.AUG."]
    if cfg.MODEL.BACKBONE.NAME == "D2SwinTransformer":
        unread += ["MODEL.RESNETS.", "MODEL.WEIGHTS"]
    if not cfg.MODEL.MASKFORMER.PIXEL_DECODER.ENCODER:
        unread += ["MODEL.MASKFORMER.PIXEL_DECODER.ENCODER_LAYERS"]
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in leaves(cfg)
        if not key.startswith(tuple(unread))
    }


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "project", "file"),
    [
        *((f"mask2former/{name}", "Mask2Former", file) for name, file in PUBLISHED_FILES.items()),
        *((name, "MaskFormer", file) for name, file in MASKFORMER_FILES.items()),
        *((name, "OneFormer", file) for name, file in ONEFORMER_FILES.items()),
    ],
)
def test_published_file_gives_the_same_configuration(name, project, file):
    path = UPSTREAM.parent / project / "configs" / file
    if not path.is_file():
        pytest.skip(f"needs the public {project} (MASK2FORMER_EXT_UPSTREAM names the public Mask2Former beside it)")
    folder, _, base = name.partition("/")
    assert comparable(load_config(str(path))) == comparable(ours(base, folder))


@pytest.mark.parametrize("name", [name for name in LEAVES if name.endswith(("swin_t.yaml", "swin_l.yaml"))])
def test_swin_starts_from_the_weights_of_its_published_name(name):
    # Published: the same with .pkl, the same file put into another container by a script.
    size = "tiny_patch4_window7_224" if name.endswith("swin_t.yaml") else "large_patch4_window12_384_22k"
    size += "to1k" if name.startswith("oneformer") and "large" in size else ""
    assert Path(load_config(str(CONFIGS / name)).MODEL.WEIGHTS).stem == f"swin_{size}"


# ------------------------------------------------------------------------------------- MaskFormer and its controls

# What MaskFormer's zoo says, by data set: iterations, drops, batch, warm-up iterations, classes, augmentation, crop,
# padded side, test sides.
MASKFORMER_DATA = {
    "ade20k": (160_000, None, 16, 0, 150, "resize_crop", (512, 512), 512, (512, 2048)),
    "ade20k_640": (160_000, None, 16, 0, 150, "resize_crop", (640, 640), 640, (640, 2560)),
    "cityscapes": (90_000, None, 16, 0, 19, "resize_crop", (512, 1024), 0, (1024, 2048)),
    "coco": (554_400, (369_600,), 64, 10, 133, "detr", (384, 600), 0, (800, 1333)),
}
every_maskformer = pytest.mark.parametrize("name", MASKFORMER_FILES)


def maskformer(name: str):
    folder, _, base = name.partition("/")
    return ours(base, folder)


@every_maskformer
def test_maskformers_data_and_schedule_are_the_published_ones(name):
    data = name.split("/")[1].split("_")[0] + ("_640" if name.endswith("ade20k_semantic_swin_l") else "")
    iterations, drops, batch, warmup, classes, augmentation, crop, padded, sides = MASKFORMER_DATA[data]
    solver, node = maskformer(name).SOLVER, maskformer(name).INPUT
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH) == (iterations, batch)
    assert drops is None or tuple(solver.STEPS) == drops
    assert solver.WARMUP_ITERS == (1500 if "swin" in name else warmup)
    assert maskformer(name).MODEL.MASK_CLASSIFIER.NUM_CLASSES == classes
    assert (node.AUGMENTATION, tuple(node.CROP.SIZE), node.PAD_SIZE) == (augmentation, crop, padded)
    assert (node.MIN_SIZE_TEST, node.MAX_SIZE_TEST) == sides


@every_maskformer
def test_maskformers_optimizer_is_the_published_one(name):
    solver = maskformer(name).SOLVER
    swin = "swin" in name
    expected = (6e-5, 0.01, 1.0, 1e-6) if swin else (1e-4, 1e-4, 0.1, 1.0)
    assert (solver.BASE_LR, solver.WEIGHT_DECAY, solver.BACKBONE_MULTIPLIER, solver.WARMUP_FACTOR) == expected
    assert (solver.CLIP_GRADIENTS.CLIP_TYPE, solver.CLIP_GRADIENTS.CLIP_VALUE) == ("full_model", 0.01)
    assert (solver.OPTIMIZER, solver.AMP.ENABLED) == ("ADAMW", False)


@every_maskformer
def test_maskformers_network_is_the_published_one(name):
    node = maskformer(name).MODEL.MASKFORMER
    assert (node.NUM_QUERIES, node.DECODER_LAYERS, node.HIDDEN_DIM, node.FEEDFORWARD_DIM) == (100, 6, 256, 2048)
    assert (node.NUM_HEADS, node.DROPOUT, node.PRE_NORM, node.ENCODER_LAYERS) == (8, 0.1, False, 0)
    encoded = name == "maskformer/coco_panoptic_r50"
    assert (node.MEMORY_FEATURE, node.PIXEL_DECODER.ENCODER) == ("transformer_encoder" if encoded else "res5", encoded)
    assert node.ENFORCE_INPUT_PROJ == name.startswith("maskformer/coco_panoptic_swin")


@pytest.mark.parametrize("name", [name for name in MASKFORMER_FILES if name.startswith("maskformer")])
def test_maskformers_losses_and_answers_are_the_published_ones(name):
    node = maskformer(name).MODEL.MASK_CLASSIFIER
    panoptic = "panoptic" in name
    assert (node.CLASS_WEIGHT, node.MASK_WEIGHT, node.DICE_WEIGHT, node.NO_OBJECT_WEIGHT) == (1.0, 20.0, 1.0, 0.1)
    assert (node.SEMANTIC_ON, node.INSTANCE_ON, node.PANOPTIC_ON) == (True, False, panoptic)
    expected = (0.8, 0.8, 0) if panoptic else (0.0, 0.0, 32)
    assert (node.MIN_CLASS_PROB, node.MIN_VISIBLE_FRACTION, node.SIZE_DIVISIBILITY) == expected


def test_the_deep_stem_is_the_published_one():
    node = maskformer("maskformer/ade20k_semantic_r101c").MODEL
    assert (node.BACKBONE.NAME, node.BACKBONE.FREEZE_AT) == ("build_resnet_deeplab_backbone", 0)
    assert (node.RESNETS.DEPTH, node.RESNETS.STEM_TYPE, node.RESNETS.STEM_OUT_CHANNELS) == (101, "deeplab", 128)
    assert (node.RESNETS.RES5_MULTI_GRID, node.RESNETS.RES5_DILATION) == ([1, 2, 4], 1)


# --------------------------------------------------------------------------------------------------------- OneFormer

# Not published: Swin-T on Cityscapes.
ONEFORMERS = [*(name.partition("/")[2] for name in ONEFORMER_FILES), "cityscapes_swin_t"]
every_oneformer = pytest.mark.parametrize("name", ONEFORMERS)


def oneformer(name: str):
    return ours(name, "oneformer")


@every_oneformer
def test_an_oneformer_is_trained_as_published(name):
    solver, (iterations, drops, scheduler, warmup) = oneformer(name).SOLVER, SCHEDULES[name.split("_")[0]]
    if name == "coco_swin_l":
        iterations, drops = 737_500, (655_556, 735_184)
    assert (solver.MAX_ITER, solver.LR_SCHEDULER_NAME, solver.WARMUP_ITERS) == (iterations, scheduler, warmup)
    assert drops is None or tuple(solver.STEPS) == drops
    assert (solver.OPTIMIZER, solver.BASE_LR, solver.WEIGHT_DECAY, solver.IMS_PER_BATCH) == ("ADAMW", 1e-4, 0.05, 16)
    assert (solver.CLIP_GRADIENTS.CLIP_VALUE, solver.AMP.ENABLED) == (0.01, name != "coco_swin_l")


@every_oneformer
def test_the_network_of_an_oneformer_is_the_published_one(name):
    node, queries = oneformer(name).MODEL.ONEFORMER, 250 if name in ("ade20k_swin_l", "cityscapes_swin_l") else 150
    text = node.TEXT_ENCODER
    assert (node.NUM_QUERIES, oneformer(name).TEST.DETECTIONS_PER_IMAGE) == (queries, queries)
    assert (node.DECODER_LAYERS, node.QUERY_LAYERS, node.HIDDEN_DIM, node.FEEDFORWARD_DIM) == (9, 2, 256, 2048)
    assert (node.QUERY_DROPOUT, node.PIXEL_DECODER.ENCODER_DROPOUT, node.PIXEL_DECODER.ENCODER_LAYERS) == (0.1, 0.1, 6)
    assert (node.CONTRASTIVE_WEIGHT, node.CONTRASTIVE_TEMPERATURE, node.TASK_CONTEXT_LENGTH) == (0.5, 0.07, 77)
    assert (text.WIDTH, text.NUM_LAYERS, text.NUM_CONTEXT, text.PROJ_NUM_LAYERS) == (256, 6, 16, 2)
    assert (text.CONTEXT_LENGTH, text.VOCAB_SIZE, text.ENABLED) == (77, 49_408, True)


@every_oneformer
def test_an_oneformer_learns_all_tasks_of_panoptic_truth(name):
    cfg, data = oneformer(name), name.split("_")[0]
    node, classes = cfg.MODEL.MASK_CLASSIFIER, {"ade20k": 150, "coco": 133, "cityscapes": 19}[data]
    assert cfg.INPUT.TARGETS == "unified" and "panoptic" in cfg.DATASETS.TRAIN[0]
    assert (node.NUM_CLASSES, node.SEMANTIC_ON, node.INSTANCE_ON, node.PANOPTIC_ON) == (classes, True, True, True)
    assert (node.MIN_CLASS_PROB, node.MIN_VISIBLE_FRACTION) == (0.5 if data == "ade20k" else 0.8, 0.8)
    drawn = cfg.INPUT.TASK_PROBABILITIES
    assert (drawn.SEMANTIC, drawn.INSTANCE, drawn.PANOPTIC) == (0.33, 0.33, 0.34)


def test_the_large_oneformer_of_ade20k_sees_crops_of_640_px():
    node = oneformer("ade20k_swin_l").INPUT
    assert (node.MIN_SIZE_TRAIN[0], node.MIN_SIZE_TRAIN[-1], node.MAX_SIZE_TRAIN) == (320, 1280, 2560)
    assert (tuple(node.CROP.SIZE), node.PAD_SIZE, node.MIN_SIZE_TEST, node.MAX_SIZE_TEST) == (
        (640, 640),
        640,
        640,
        2560,
    )
