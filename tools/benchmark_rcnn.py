"""Mask R-CNN R50-FPN beside torchvision's and, where the real one is installed, Detectron2's own.

All in torchvision's form (older RoIAlign, 2 x 2 samples a cell, 2,000 proposals in training, frozen batch norms, stem
and first stage frozen), with random weights that find 100 objects. Inference: one image of 480 x 640, or of 800 x 1333,
to bool masks at its size. Training: forward, losses, backward and step of SGD of one 800 x 1333 image with 12 objects.
Pasting: 100 masks of 28 x 28 into an image of 3000 x 4000; not of torchvision's, which makes 5 GB of numbers of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_inputs import Job, Size, random_image, random_squares
from detectron2.config import CfgNode
from detectron2.layers import paste_masks_in_image
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.resnet import Bottleneck

import mask2former_ext as m
from mask2former_ext.layers.rcnn.mask_pasting import paste_masks
from mask2former_ext.postprocess import boxes_of_masks

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "mask_rcnn" / "coco_instance_r50_3x.yaml"
NUM_CLASSES = 80
SIZES: dict[str, Size] = {"inference": (480, 640), "inference_large": (800, 1333)}
TRAIN_SIZE, NUM_OBJECTS, OBJECT_SIDE = (800, 1333), 12, 200
PASTED_SIZE, NUM_PASTED = (3000, 4000), 100
Model = Callable[[torch.Tensor], object]


class MaskRCNNContest:
    """A `Contest` of three."""

    job_names: tuple[str, ...] = (*SIZES, "train", "paste")

    def rivals(self) -> list[str]:
        return ["ours", "torchvision", *(["detectron2"] if _has_detectron2() else [])]

    def save_weights(self, folder: str) -> None:
        torch.manual_seed(0)
        model = _torchvision_model()
        for module in model.modules():
            if isinstance(module, Bottleneck):
                module.bn3.weight.fill_(0.2)  # norms that do nothing let the sums of the blocks grow
        model.roi_heads.box_predictor.cls_score.weight.data *= 40  # so that there are objects
        torch.save(model.state_dict(), _file(folder))

    def jobs(self, who: str, folder: str, device: str) -> dict[str, Job]:
        if who == "torchvision":
            return _torchvision_jobs(folder, device)
        if who == "ours":
            return {**_detectron2_jobs(_our_model(folder, device)), "paste": _pasting(paste_masks, device)}
        theirs = {"paste": _pasting(paste_masks_in_image, device)}
        return {**_detectron2_jobs(_detectron2_model(folder, device)), **theirs}

    def stages(self, folder: str, device: str) -> tuple[Job, list[tuple[str, torch.nn.Module, str]]]:
        model = _our_model(folder, device)
        return _detectron2_jobs(model)["inference"], [
            ("batch", model, "batch"),
            ("backbone and pyramid", model.get_submodule("backbone"), "forward"),
            ("region proposals", model.get_submodule("proposal_generator"), "forward"),
            ("boxes and masks of regions", model.get_submodule("roi_heads"), "detect"),
            ("of these, the mask head", model.get_submodule("roi_heads.mask_head"), "forward"),
        ]


def _file(folder: str) -> str:
    return os.path.join(folder, "maskrcnn.pth")


def _torchvision_model() -> MaskRCNN:
    return MaskRCNN(resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3), NUM_CLASSES + 1)


def _config(device: str, *overrides: str) -> CfgNode:
    settings = {
        "DEVICE": device,
        "ROI_HEADS.NUM_CLASSES": str(NUM_CLASSES),
        "RESNETS.STRIDE_IN_1X1": "False",
        "ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
        "ROI_MASK_HEAD.POOLER_TYPE": "ROIAlign",
        "ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": "2",
        "ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": "2",
        "RPN.POST_NMS_TOPK_TRAIN": "2000",
        "PIXEL_MEAN": "[123.675, 116.28, 103.53]",
        "PIXEL_STD": "[58.395, 57.12, 57.375]",
        "WEIGHTS": "",
    }
    in_torchvisions_form = [x for key, value in settings.items() for x in (f"MODEL.{key}", value)]
    return m.load_config(str(CONFIG), [*in_torchvisions_form, *overrides])


def _our_model(folder: str, device: str) -> torch.nn.Module:
    rounded = ["MODEL.ANCHOR_GENERATOR.NAME", "RoundedAnchorGenerator"]
    return m.load_model(_config(device, *rounded, "MODEL.WEIGHTS", _file(folder)))


def _detectron2_model(folder: str, device: str) -> torch.nn.Module:
    """Its anchors do not lie on whole pixels."""
    model = build_model(_config(device, "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"))
    model.load_state_dict(_our_model(folder, device).state_dict(), strict=False)
    return model


def _has_detectron2() -> bool:
    try:
        build_model(_config("cpu", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"))
    except ImportError:  # which the embedded Detectron2 raises
        return False
    return True


def _detectron2_jobs(model: torch.nn.Module) -> dict[str, Job]:
    """Of our model, or of Detectron2's own: the same input, the same output."""
    masks, labels = random_squares(TRAIN_SIZE, NUM_OBJECTS, OBJECT_SIDE, NUM_CLASSES)
    boxes = Boxes(boxes_of_masks(masks).float())
    instances = Instances(TRAIN_SIZE, gt_classes=labels, gt_masks=BitMasks(masks), gt_boxes=boxes)

    def find(image: torch.Tensor) -> object:
        with torch.inference_mode():
            (result,) = model.eval()([{"image": image, "height": image.shape[1], "width": image.shape[2]}])
        assert len(result["instances"]) == 100, "the rivals do not find equally many objects"
        return result

    def losses(image: torch.Tensor) -> dict[str, torch.Tensor]:
        with EventStorage(0):
            return model.train()([{"image": image, "instances": instances.to(model.device)}])

    return {**_inference_jobs(find), "train": _training_job(model, losses)}


def _torchvision_jobs(folder: str, device: str) -> dict[str, Job]:
    model = _torchvision_model().to(device)
    model.load_state_dict(torch.load(_file(folder), weights_only=True))
    masks, labels = random_squares(TRAIN_SIZE, NUM_OBJECTS, OBJECT_SIDE, NUM_CLASSES)
    truth = {"boxes": boxes_of_masks(masks).float(), "labels": labels + 1, "masks": masks.byte()}

    def scaled(image: torch.Tensor) -> torch.Tensor:
        model.transform.min_size = (image.shape[1],)  # as large as it is
        return image.to(device) / 255

    def find(image: torch.Tensor) -> object:
        with torch.inference_mode():
            (result,) = model.eval()([scaled(image)])
            assert len(result["labels"]) == 100, "the rivals do not find equally many objects"
            return {**result, "masks": result["masks"] > 0.5}

    def losses(image: torch.Tensor) -> dict[str, torch.Tensor]:
        return model.train()([scaled(image)], [{name: value.to(device) for name, value in truth.items()}])

    return {**_inference_jobs(find), "train": _training_job(model, losses)}


def _inference_jobs(find: Model) -> dict[str, Job]:
    def job(image: torch.Tensor) -> Job:
        return lambda: find(image)

    return {name: job(random_image(size)) for name, size in SIZES.items()}


def _training_job(model: torch.nn.Module, losses: Callable[[torch.Tensor], dict[str, torch.Tensor]]) -> Job:
    image = random_image(TRAIN_SIZE)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-6, momentum=0.9)

    def train() -> None:
        total = torch.stack(list(losses(image).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return train


def _pasting(paste: Callable[..., torch.Tensor], device: str) -> Job:
    generator = torch.Generator().manual_seed(2)
    height, width = PASTED_SIZE
    corners = torch.rand(NUM_PASTED, 2, 2, generator=generator) * torch.tensor([width, height])
    boxes = torch.cat((corners.amin(dim=1), corners.amax(dim=1) + 1), dim=1).to(device)
    probs = torch.rand(NUM_PASTED, 28, 28, generator=generator).to(device)

    def job() -> Any:
        with torch.inference_mode():
            return paste(probs, boxes, PASTED_SIZE)

    return job
