"""A small model of every registered architecture, on the backbones that differ, and inputs with truth of every kind.

Shapes: N objects; H, W pixels. Classes are 0..4, of which 0..2 are things.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances

from mask2former_ext import load_config
from mask2former_ext.classes import ClassTable
from mask2former_ext.config import import_own_files, own_files
from mask2former_ext.contract import TASKS, contract_of, numbered_for
from tests.places import ROOT

NUM_CLASSES, NUM_THINGS, IGNORED = 5, 3, 254
CLASSES = ClassTable(
    names=tuple(f"a {k}" for k in range(NUM_CLASSES)),
    is_thing=tuple(k < NUM_THINGS for k in range(NUM_CLASSES)),
    ignore_label=IGNORED,
)
# What a head counts (`Contract.class_heads`) -> how many there are here.
NUM_OF = {"all": NUM_CLASSES, "things": NUM_THINGS, "labels": 1 + NUM_CLASSES - NUM_THINGS}
NUM_TEXTS = 8  # of an image, for OneFormer: its queries less its learned texts
# A model that has learned nothing is never sure of anything.
UNSURE = {
    "MODEL__MASK_CLASSIFIER__MIN_CLASS_PROB": 0.0,
    "MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.0,
    "MODEL__PANOPTIC_FPN__COMBINE__INSTANCES_CONFIDENCE_THRESH": 0.0,
    "MODEL__SEM_SEG_HEAD__IGNORE_VALUE": IGNORED,
}


def tiny(folder: str, **changes: object) -> CfgNode:
    """configs/<folder>/tiny.yaml, see `config_of`."""
    return config_of(ROOT / "configs" / folder / "tiny.yaml", **changes)


def config_of(path: Path, **changes: object) -> CfgNode:
    """A yaml for the classes of this file, on the CPU, answering all tasks that its model can.

    `__` in a changed key stands for a dot.
    """
    overrides = [item for key, value in {**UNSURE, **changes}.items() for item in (key.replace("__", "."), value)]
    cfg = load_config(str(path), ["MODEL.DEVICE", "cpu", *overrides])
    model = contract_of(cfg)
    cfg.MODEL.CLASSES = CfgNode(numbered_for(cfg, CLASSES).to_dict(), new_allowed=True)
    for section, counted in model.class_heads(cfg).items():
        cfg.MODEL[section].NUM_CLASSES = NUM_OF[counted]
    model.choose_tasks(cfg, TASKS)
    return cfg


_OUTSIDE: dict = {}  # the files of `outside`, each run once in a process


def outside(path: Path) -> CfgNode:
    """`config_of` a yaml whose model stands in the Python file beside it, which is no part of the package.

    The file's keys are in this configuration alone: left in the process, they would be in those of other tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_files, "_own_files", _OUTSIDE)
        import_own_files([str(path.with_suffix(".py"))])
        return config_of(path)


RESNET = {
    "MODEL__BACKBONE__NAME": "build_resnet_backbone",
    "MODEL__RESNETS__DEPTH": 18,
    "MODEL__RESNETS__RES2_OUT_CHANNELS": 64,
    "MODEL__RESNETS__OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL__RESNETS__NORM": "FrozenBN",
}
DEEPLAB_RESNET = {
    **RESNET,
    "MODEL__BACKBONE__NAME": "build_resnet_deeplab_backbone",
    "MODEL__RESNETS__DEPTH": 50,
    "MODEL__RESNETS__STEM_OUT_CHANNELS": 16,
    "MODEL__RESNETS__RES2_OUT_CHANNELS": 32,
    "MODEL__RESNETS__WIDTH_PER_GROUP": 8,
}
SWIN = {
    "MODEL__BACKBONE__NAME": "D2SwinTransformer",
    "MODEL__SWIN__EMBED_DIM": 24,
    "MODEL__SWIN__DEPTHS": [2, 1, 1, 1],
    "MODEL__SWIN__NUM_HEADS": [1, 2, 2, 4],
    "MODEL__SWIN__WINDOW_SIZE": 4,
}
CONVNEXT = {"MODEL__TIMM__NAME": "convnext_atto"}
VIT = {"MODEL__TIMM__NAME": "vit_tiny_patch16_224"}
RESNET_FPN = {**RESNET, "MODEL__BACKBONE__NAME": "build_resnet_fpn_backbone"}
ENCODER = {
    "MODEL__MASKFORMER__PIXEL_DECODER__ENCODER": True,
    "MODEL__MASKFORMER__MEMORY_FEATURE": "transformer_encoder",
}
UNPADDED = {"MODEL__MASK_CLASSIFIER__SIZE_DIVISIBILITY": 0}
BASELINE = {"MODEL__META_ARCHITECTURE": "PerPixelBaseline"}

MODELS: dict[str, Callable[[], CfgNode]] = {
    "mask2former_resnet": lambda: tiny("mask2former", **RESNET),
    "mask2former_swin": lambda: tiny("mask2former", **SWIN),
    "mask2former_convnext": lambda: tiny("mask2former", **CONVNEXT),
    "mask2former_vit": lambda: tiny("mask2former", **VIT),
    "maskformer_resnet": lambda: tiny("maskformer", **RESNET),
    "maskformer_swin": lambda: tiny("maskformer", **SWIN),
    "maskformer_deeplab_resnet": lambda: tiny("maskformer", **DEEPLAB_RESNET),
    "maskformer_encoder_unpadded": lambda: tiny("maskformer", **RESNET, **ENCODER, **UNPADDED),
    "oneformer_resnet": lambda: tiny("oneformer", **RESNET),
    "oneformer_swin": lambda: tiny("oneformer", **SWIN),
    "per_pixel_baseline": lambda: tiny("per_pixel", **RESNET, **BASELINE),
    "per_pixel_baseline_plus": lambda: tiny("per_pixel", **RESNET),
    "per_pixel_baseline_plus_swin": lambda: tiny("per_pixel", **SWIN, **ENCODER),
    "mask_rcnn": lambda: tiny("mask_rcnn"),
    "mask_rcnn_resnet": lambda: tiny("mask_rcnn", **RESNET_FPN),
    "faster_rcnn": lambda: tiny("mask_rcnn", MODEL__MASK_ON=False),
    "panoptic_fpn": lambda: tiny("panoptic_fpn"),
    "my_model": lambda: outside(ROOT / "docs/examples/my_model.yaml"),
    "panoptic_fpn_uncombined": lambda: tiny("panoptic_fpn", MODEL__PANOPTIC_FPN__COMBINE__ENABLED=False),
}


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(MODELS[name]())


def an_input(
    height: int,
    width: int,
    num_objects: int = 3,
    seed: int = 0,
    *,
    num_classes: int = NUM_CLASSES,
    num_labels: int = NUM_CLASSES,
) -> dict:
    """A random image with truth of every kind: object k is the rectangle of rows and columns 8 k to 8 k + 20, class
    k mod `num_classes`, label k mod `num_labels`; the rest has no label."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(num_objects, height, width, dtype=torch.bool)
    labels = torch.full((height, width), IGNORED)
    for k in range(num_objects):
        masks[k, 8 * k : 8 * k + 20, 8 * k : 8 * k + 20] = True
        labels[8 * k : 8 * k + 20, 8 * k : 8 * k + 20] = k % num_labels
    instances = Instances((height, width))
    instances.gt_classes = torch.arange(num_objects) % num_classes
    instances.gt_masks = BitMasks(masks)
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    text = [f"a photo with a {k}" for k in range(num_objects)] + ["a panoptic photo"] * NUM_TEXTS
    truth = {"instances": instances, "sem_seg": labels, "text": text[:NUM_TEXTS], "sampling_seed": seed}
    return {"image": image, "height": height, "width": width, "task": "panoptic", **truth}


def input_of(name: str, height: int, width: int, num_objects: int = 3, seed: int = 0) -> dict:
    """`an_input` with the class numbers of the model `name`."""
    cfg = MODELS[name]()
    counted = contract_of(cfg).class_heads(cfg).values()
    num_classes = NUM_OF["all" if "all" in counted else "things"]
    num_labels = NUM_OF["labels" if "labels" in counted else "all"]
    return an_input(height, width, num_objects, seed, num_classes=num_classes, num_labels=num_labels)


def losses_of(model: torch.nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    """The losses of a batch, after their backward pass."""
    losses = model.train()(batch)
    sum(losses.values()).backward()
    return losses


def untrained_parameters(model: torch.nn.Module) -> list[str]:
    """Names of the parameters that should have a gradient and have none."""
    return [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def results_of(model: torch.nn.Module, batch: list[dict]) -> list[dict]:
    with torch.no_grad():
        return model.eval()(batch)
