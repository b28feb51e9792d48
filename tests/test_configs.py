"""Every configuration file resolves, and the published ones say what was published."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from mask2former_ext.config import load_config
from mask2former_ext.interop.config_keys import leaves

CONFIGS = Path(__file__).parents[1] / "configs"
ALL = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/*.yaml"))
LEAVES = [name for name in ALL if not name.startswith(("datasets/", "models/"))]

# The public Mask2Former repository, if it lies somewhere.
UPSTREAM = Path(os.environ.get("MASK2FORMER_EXT_UPSTREAM", CONFIGS.parent.parent / "Mask2Former")) / "configs"
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
NAMES = list(PUBLISHED_FILES)

# What the papers' zoo says, by data set and task: iterations, drops, scheduler, warm-up iterations, augmentation,
# shortest sides in training (first, last, how many), crop (height, width), colour, padded side, test sides, classes.
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
def ours(name: str):
    return load_config(str(CONFIGS / "mask2former" / f"{name}.yaml"))


@pytest.mark.parametrize("name", ALL)
def test_every_file_resolves(name):
    assert load_config(str(CONFIGS / name)).VERSION == 2


@pytest.mark.parametrize("name", LEAVES)
def test_every_head_says_its_own_command(name):
    first = (CONFIGS / name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"# train_net.py --config-file configs/{name}")


def test_every_published_model_has_a_file():
    assert {f"mask2former/{name}.yaml" for name in NAMES} <= set(ALL)


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
    """All keys but those that nobody reads: test-time augmentation is not used, nor a ResNet's keys beside a Swin."""
    swin = cfg.MODEL.BACKBONE.NAME == "D2SwinTransformer"
    unread = ("TEST.AUG.", "MODEL.RESNETS.", "MODEL.WEIGHTS") if swin else ("TEST.AUG.",)
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in leaves(cfg)
        if not key.startswith(unread)
    }


@pytest.mark.parity
@pytest.mark.skipif(not UPSTREAM.is_dir(), reason="needs the public Mask2Former (MASK2FORMER_EXT_UPSTREAM)")
@pytest.mark.parametrize("name", NAMES)
def test_published_file_gives_the_same_configuration(name):
    theirs = load_config(str(UPSTREAM / PUBLISHED_FILES[name]))
    assert comparable(theirs) == comparable(ours(name))


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("swin_t")])
def test_swin_starts_from_the_weights_of_its_published_name(name):
    # Published: swin_tiny_patch4_window7_224.pkl, the same file put into another container by a script.
    assert Path(ours(name).MODEL.WEIGHTS).stem == "swin_tiny_patch4_window7_224"
