"""Small Mask R-CNN and Panoptic FPN of a few layers, and inputs with truth for them: an image of 70 x 100 pixels."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances

from mask2former_ext import add_config

NUM_CLASSES = 3


def tiny_cfg(*overrides) -> CfgNode:
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", "MaskRCNN"
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_resnet_fpn_backbone", 0
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128], [256]]
    heads, box, mask = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD
    heads.NAME, heads.IN_FEATURES, heads.NUM_CLASSES = "StandardROIHeads", ["p2", "p3", "p4", "p5"], NUM_CLASSES
    heads.BATCH_SIZE_PER_IMAGE = 32
    box.NAME, box.NUM_FC, box.FC_DIM, box.POOLER_RESOLUTION = "FastRCNNConvFCHead", 2, 16, 7
    mask.NUM_CONV, mask.CONV_DIM, mask.POOLER_RESOLUTION = 2, 16, 14
    cfg.MODEL.MASK_ON = True
    cfg.merge_from_list(overrides)
    return cfg


def tiny_model(*overrides) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_cfg(*overrides)).eval()


def an_input(boxes=((10, 10, 50, 40), (30, 20, 90, 60)), *, seed: int | None = 0, **fields) -> dict:
    """An image of 70 x 100 with full boxes as objects, classes 0, 1, ..., and what `fields` give instead."""
    instances = Instances((70, 100))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.arange(len(boxes)) % NUM_CLASSES
    masks = torch.zeros(len(boxes), 70, 100, dtype=torch.bool)
    for mask, box in zip(masks, instances.gt_boxes.tensor.nan_to_num().clamp(0, 100).long().tolist(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = True
    instances.gt_masks = BitMasks(masks)
    for name, value in fields.items():
        instances.set(name, value)
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(0, 256, (3, 70, 100), dtype=torch.uint8, generator=generator)
    seeded = {} if seed is None else {"sampling_seed": seed}
    return {"image": image, "height": 140, "width": 150, "file_name": "photo.jpg", "instances": instances, **seeded}


def losses_of(model: torch.nn.Module, *inputs: dict) -> dict[str, torch.Tensor]:
    losses = model.train()(list(inputs))
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    return losses


NUM_LABELS = 4  # 0 for a thing, and three of stuff


def panoptic_cfg(*overrides) -> CfgNode:
    head = {"NUM_CLASSES": NUM_LABELS, "IN_FEATURES": ["p2", "p3", "p4", "p5"], "CONVS_DIM": 32}
    keys = [item for key, value in head.items() for item in (f"MODEL.SEM_SEG_HEAD.{key}", value)]
    return tiny_cfg("MODEL.META_ARCHITECTURE", "PanopticFeaturePyramid", *keys, *overrides)


def panoptic_model(*overrides) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(panoptic_cfg(*overrides)).eval()


def labeled(label: int = 1, **fields) -> dict:
    return {**an_input(**fields), "sem_seg": torch.full((70, 100), label)}
