"""Mask2Former, MaskFormer and OneFormer beside Hugging Face transformers'.

Inference: one 480 x 640 image to semantic, instance and panoptic results, post-processing included. Training: forward,
losses at every decoder layer, backward and optimizer step of one 512 x 512 image with 12 objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from benchmark_inputs import Contest, Job, random_image, random_squares
from detectron2.structures import Instances

import mask2former_ext as m
from mask2former_ext.layers.text_encoder import task_tokens, tokenize

NUM_CLASSES = 133
INFERENCE_SIZE, TRAIN_SIZE, NUM_OBJECTS, OBJECT_SIDE = (480, 640), (512, 512), 12, 90
DATASET = "coco_2017_val_panoptic"
# The texts of an image for OneFormer: 150 queries less 16 learned texts leave 134.
TASK, TEXTS = "panoptic", [f"a photo with a class{k}" for k in range(NUM_OBJECTS)] + ["a panoptic photo"] * 122


@dataclass(frozen=True)
class TransformersContest:
    """A `Contest` with a model of transformers, by the names of its classes there."""

    model: str
    config: str
    processor: str
    config_options: Mapping[str, Any] = field(default_factory=dict)
    train_options: Mapping[str, Any] = field(default_factory=dict)  # of the forward pass
    is_told_task: bool = False  # and, in training, texts
    job_names: tuple[str, ...] = ("inference", "train")

    def rivals(self) -> list[str]:
        return ["ours", "transformers"]

    def save_weights(self, folder: str) -> None:
        torch.manual_seed(0)
        resnet_config: Any = transformers.ResNetConfig  # whose keywords are not declared
        backbone = resnet_config(out_features=["stage1", "stage2", "stage3", "stage4"])
        config_class, model_class = getattr(transformers, self.config), getattr(transformers, self.model)
        config = config_class(backbone_config=backbone, num_labels=NUM_CLASSES, **self.config_options)
        model_class(config).save_pretrained(folder)

    def jobs(self, who: str, folder: str, device: str) -> dict[str, Job]:
        return _our_jobs(folder, device) if who == "ours" else _their_jobs(self, folder, device)

    def stages(self, folder: str, device: str) -> tuple[Job, list[tuple[str, torch.nn.Module, str]]]:
        model = _our_model(folder, device).eval()
        return lambda: model(_our_inputs()), [
            ("preprocess", model, "batch"),
            ("backbone", model.get_submodule("backbone"), "forward"),
            ("pixel decoder", model.get_submodule("sem_seg_head.pixel_decoder"), "forward"),
            ("transformer decoder", model.get_submodule("sem_seg_head.predictor"), "forward"),
            ("post-processing", model, "postprocess"),
        ]


CONTESTS: dict[str, Contest] = {
    "mask2former": TransformersContest(
        "Mask2FormerForUniversalSegmentation", "Mask2FormerConfig", "Mask2FormerImageProcessor"
    ),
    "maskformer": TransformersContest(
        "MaskFormerForInstanceSegmentation",
        "MaskFormerConfig",
        "MaskFormerImageProcessor",
        train_options={"output_hidden_states": True},  # from which it makes the predictions of the earlier layers
    ),
    "oneformer": TransformersContest(
        "OneFormerForUniversalSegmentation",
        "OneFormerConfig",
        "Mask2FormerImageProcessor",  # its own asks for a file of class names; what both take and give is the same
        config_options={"is_training": True},
        is_told_task=True,
    ),
}


def _our_model(folder: str, device: str) -> torch.nn.Module:
    tasks = [f"MODEL.MASK_CLASSIFIER.{task}_ON" for task in ("SEMANTIC", "INSTANCE", "PANOPTIC")]
    overrides = [x for task in tasks for x in (task, "True")]
    thresholds = ["MODEL.MASK_CLASSIFIER.MIN_CLASS_PROB", "0.5", "MODEL.MASK_CLASSIFIER.MIN_VISIBLE_FRACTION", "0.8"]
    other = ["MODEL.MASK_CLASSIFIER.DEEP_SUPERVISION", "True"]
    other += ["DATASETS.TRAIN", f"('{DATASET}',)", "MODEL.DEVICE", device]
    return m.load_model(m.load_config(folder, [*overrides, *thresholds, *other]))


def _our_jobs(folder: str, device: str) -> dict[str, Job]:
    model = _our_model(folder, device)
    inputs = _our_inputs()
    train_image, masks, labels = _truth(device)
    instances = Instances(TRAIN_SIZE, gt_classes=labels, gt_masks=masks)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, fused=True)

    def inference() -> object:
        with torch.inference_mode():
            return model.eval()(inputs)

    def train() -> None:
        losses = model.train()([{"image": train_image, "instances": instances, "task": TASK, "text": TEXTS}])
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return {"inference": inference, "train": train}


def _our_inputs() -> list[dict[str, Any]]:
    height, width = INFERENCE_SIZE
    return [{"image": random_image(INFERENCE_SIZE), "height": height, "width": width, "task": TASK}]


def _their_jobs(contest: TransformersContest, folder: str, device: str) -> dict[str, Job]:
    model = getattr(transformers, contest.model).from_pretrained(folder).to(device)
    processor = getattr(transformers, contest.processor)(do_resize=False, size_divisor=32, num_labels=NUM_CLASSES)
    image = random_image(INFERENCE_SIZE)
    train_image, masks, labels = _truth(device)
    train_pixels = processor(train_image, return_tensors="pt")["pixel_values"].to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, fused=True)
    condition, train_options = {}, dict(contest.train_options)
    if contest.is_told_task:
        condition = {"task_inputs": task_tokens(TASK, 77).float()[None].to(device)}
        train_options |= {**condition, "text_inputs": tokenize(TEXTS, 77)[None].to(device)}

    def set_training(is_training: bool) -> None:
        for module in model.train(is_training).modules():
            if hasattr(module, "is_training"):  # OneFormer's, beside PyTorch's own
                module.is_training = is_training

    def inference() -> object:
        with torch.inference_mode():
            pixels = processor(image, return_tensors="pt")["pixel_values"].to(device)
            set_training(False)
            outputs = model(pixel_values=pixels, **condition)
            return (
                processor.post_process_semantic_segmentation(outputs, [INFERENCE_SIZE]),
                processor.post_process_instance_segmentation(outputs, target_sizes=[INFERENCE_SIZE]),
                processor.post_process_panoptic_segmentation(outputs, target_sizes=[INFERENCE_SIZE]),
            )

    def train() -> None:
        model.config.use_auxiliary_loss = True
        truth = {"mask_labels": [masks.float()], "class_labels": [labels]}
        set_training(True)
        loss = model(pixel_values=train_pixels, **truth, **train_options).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {"inference": inference, "train": train}


def _truth(device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An image, masks of its objects and their classes."""
    masks, labels = random_squares(TRAIN_SIZE, NUM_OBJECTS, OBJECT_SIDE, NUM_CLASSES)
    return random_image(TRAIN_SIZE), masks.to(device), labels.to(device)
