"""What every model here does with its images: normalize them, batch them, answer one result for each.

Shapes: B images; H, W pixels of an image.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from detectron2.config import CfgNode as CN
from detectron2.modeling import Backbone
from detectron2.structures import BitMasks, ImageList, Instances, PolygonMasks
from torch import Tensor, nn

from mask2former_ext.contract import Contract, Request


class ImageModel(Contract):
    """Detectron2's list[dict] in; losses in training, else one result dict per image. A model says what these two are.

    Input, a dict per image of H x W pixels:
      image             uint8 or float (C, H, W): the channels of INPUT.FORMAT, not normalized
      height, width     int, the size of the results in pixels; left out: H and W
      file_name         str, what messages call the image; may be left out
      task              str, one of `contract.TASKS` or a sentence that names one, for a model that reads a task
    In training also what the model's target kinds build (`Contract.target_kinds`, `mask2former_ext.data.targets`):
      instances         Instances of (H, W) with gt_classes (N) int64 in 0..K-1; gt_masks as BitMasks, PolygonMasks or
                        bool (N, H, W); and for models that number things and stuff apart gt_boxes (N, 4)
      sem_seg           (H, W) int, the class of each pixel or the ignored label
      text              list of `texts_per_image` strings
      sampling_seed     int from which all that is drawn for this image follows; left out: drawn anew

    Output in training: dict of weighted losses by name, scalars. Else a dict per image, of these keys the ones that
    answer its tasks (`contract.ANSWERS`), at height x width:
      sem_seg           (K, height, width) float: scores of each class, the highest of a pixel being its class
      instances         Instances with pred_classes (R) int64, scores (R) in [0, 1], pred_boxes (R, 4) as Boxes, and
                        unless it is a model without masks pred_masks bool (R, height, width)
      panoptic_seg      (ids (height, width) int32, 0 for no segment; list of a dict per segment: id, category_id,
                        isthing, and where it is known score, area or instance_id)

    In inference images run together if their padded sizes agree, so that none depends on its company.
    """

    def __init__(
        self, *, backbone: Backbone, pixel_mean: list[float], pixel_std: list[float], size_divisibility: int = -1
    ) -> None:
        """Images are padded to a multiple of `size_divisibility`; 0: as little as possible, -1: the backbone's own."""
        super().__init__()
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        self.backbone = backbone
        self.size_divisibility: int = backbone.size_divisibility if size_divisibility < 0 else size_divisibility
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Named weighted losses in training, else one result dict per image, in order."""
        if self.training:
            return self.train_batch(batched_inputs, self.batch(batched_inputs))
        return self.answer(batched_inputs, Request())

    def answer(self, batched_inputs: list[dict], request: Request) -> list[dict]:
        results: list[dict] = [{} for _ in batched_inputs]
        for group in self._groups_of_one_padded_size(batched_inputs):
            members = [batched_inputs[index] for index in group]
            for index, result in zip(group, self.infer_batch(members, self.batch(members), request), strict=True):
                results[index] = result
        return results

    def train_batch(self, batched_inputs: list[dict], images: ImageList) -> dict[str, Tensor]:
        """Named weighted losses."""
        raise NotImplementedError

    def infer_batch(self, batched_inputs: list[dict], images: ImageList, request: Request) -> list[dict]:
        """One result per image of one padded size, at its `height` x `width` (default: the input's own size)."""
        raise NotImplementedError

    def batch(self, batched_inputs: list[dict]) -> ImageList:
        """Normalized images (B, C, H, W), padded with 0 at the right and the bottom to one size."""
        for index, x in enumerate(batched_inputs):
            if len(x["image"]) != len(self.pixel_mean):
                raise ValueError(
                    f"{name_of(x, index)}: its channels are {len(x['image'])}, but MODEL.PIXEL_MEAN has "
                    f"{len(self.pixel_mean)} numbers, one for each channel of INPUT.FORMAT"
                )
        images = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        batch = ImageList.from_tensors(images, self.size_divisibility)
        if self.device.type == "cpu":  # convolutions and their gradients copy fewer maps in this order
            batch.tensor = batch.tensor.contiguous(memory_format=torch.channels_last)
        return batch

    def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """What an image of (height, width) is padded to where it is alone."""
        step = max(self.size_divisibility, 1)
        return -(-size[0] // step) * step, -(-size[1] // step) * step

    def _groups_of_one_padded_size(self, batched_inputs: list[dict]) -> list[list[int]]:
        groups = defaultdict(list)
        for index, x in enumerate(batched_inputs):
            groups[self.padded_size(tuple(x["image"].shape[-2:]))].append(index)
        return list(groups.values())


def output_size_of(model_input: dict, image_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the results; default: the image's own."""
    return model_input.get("height", image_size[0]), model_input.get("width", image_size[1])


def name_of(model_input: dict, index: int) -> str:
    """What messages call an image."""
    return str(model_input.get("file_name", f"image {index} of the batch"))


def gt_masks_of(instances: Instances, name: str) -> Tensor | PolygonMasks:
    """gt_masks of any kind: bool (N, H, W), or polygons as they are. ValueError for anything else."""
    masks = instances.gt_masks if instances.has("gt_masks") else None
    if isinstance(masks, BitMasks):
        return masks.tensor
    if isinstance(masks, PolygonMasks):
        return masks
    if isinstance(masks, Tensor) and masks.dim() == 3:
        return masks.bool()
    raise ValueError(
        f"{name}: gt_masks must be BitMasks, PolygonMasks or a bool tensor (N, H, W), got {type(masks).__name__}"
    )


def mask_tensor_of(instances: Instances, name: str) -> Tensor:
    """gt_masks of any kind as bool (N, H, W), polygons drawn at the image's size."""
    masks = gt_masks_of(instances, name)
    if isinstance(masks, Tensor):
        return masks
    drawn = BitMasks.from_polygon_masks(masks, *instances.image_size).tensor
    return drawn.to(instances.gt_classes.device)


def check_num_classes(num_classes: int, key: str) -> None:
    """ValueError naming the key unless a number of classes was set."""
    if num_classes < 1:
        raise ValueError(
            f"{key} is {num_classes}: set the number, or name a data set in DATASETS and call "
            "mask2former_ext.data.prepare_data(cfg) before the model is built"
        )


def check_classes(classes: Tensor, num_classes: int, name: str) -> None:
    """ValueError unless the truth's classes (N,) are in 0..num_classes - 1."""
    wrong = classes[(classes < 0) | (classes >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"{name}: class {int(wrong[0])} is in the truth, "
            f"but the model has {num_classes} classes (0 to {num_classes - 1})"
        )


def check_labels(labels: Tensor, num_classes: int, ignored: int, size: tuple[int, int], name: str) -> None:
    """ValueError unless the labels (H, W) of an image of `size` are in 0..num_classes - 1, or `ignored`."""
    if tuple(labels.shape) != size:
        raise ValueError(f"{name}: sem_seg is of size {[*labels.shape]}, but the image of {[*size]}")
    wrong = labels[(labels != ignored) & ((labels < 0) | (labels >= num_classes))]
    if len(wrong):
        raise ValueError(
            f"{name}: label {int(wrong[0])} is in sem_seg, but the model has {num_classes} classes "
            f"(0 to {num_classes - 1}), and {ignored} is what it ignores"
        )


class Segmenter(ImageModel):
    """preprocess -> predict -> losses, or -> postprocess. A model says what the last two are.

    `sem_seg_head(features, valid_fraction)`, the latter (B, 2) the share of the canvas' height and width that is image,
    or None, returns the outputs that both are made of, batch first.
    """

    def __init__(self, *, sem_seg_head: nn.Module, **image_options: Any):
        """`image_options`: see `ImageModel`."""
        super().__init__(**image_options)
        self.sem_seg_head = sem_seg_head

    def train_batch(self, batched_inputs: list[dict], images: ImageList) -> dict[str, Tensor]:
        valid_sizes = self.valid_sizes(images)
        outputs = self.predict(images.tensor, valid_sizes, *self.condition(batched_inputs))
        return self.losses(outputs, batched_inputs, images, valid_sizes)

    def infer_batch(self, batched_inputs: list[dict], images: ImageList, request: Request) -> list[dict]:
        outputs = self.predict(images.tensor, None, *self.condition(batched_inputs))
        return [self.postprocess(outputs, position, images, x, request) for position, x in enumerate(batched_inputs)]

    def valid_sizes(self, images: ImageList) -> list[tuple[int, int]] | None:
        """Each image's own (height, width) rounded up to the divisibility.

        None if they are all that of the padded batch: then nothing is padding that attention must avoid.
        """
        sizes = [self.padded_size(size) for size in images.image_sizes]
        return None if all(size == tuple(images.tensor.shape[-2:]) for size in sizes) else sizes

    def condition(self, batched_inputs: list[dict]) -> tuple[Tensor, ...]:  # noqa: ARG002  # for a subclass
        """What the head takes of the batch beside its images, (B, ...) each: nothing."""
        return ()

    def predict(self, images: Tensor, valid_sizes: list[tuple[int, int]] | None, *condition: Tensor) -> Any:
        """(B, 3, H, W) normalized images -> the head's outputs."""
        valid_fraction = None
        if valid_sizes is not None:
            canvas = images.new_tensor(images.shape[-2:], dtype=torch.float32)
            valid_fraction = torch.tensor(valid_sizes, device=images.device) / canvas
        return self.sem_seg_head(self.backbone(images), valid_fraction, *condition)

    def losses(
        self,
        outputs: Any,
        batched_inputs: list[dict],
        images: ImageList,
        valid_sizes: list[tuple[int, int]] | None,
    ) -> dict[str, Tensor]:
        """Named weighted losses of a batch (see `valid_sizes`)."""
        raise NotImplementedError

    def postprocess(self, outputs: Any, position: int, images: ImageList, model_input: dict, request: Request) -> dict:
        """Results of one image at its `height` x `width` (default: the input's own size)."""
        raise NotImplementedError


def num_classes_of(cfg: CN) -> int:
    """K, at least 1. Raises ValueError if it was not set."""
    num_classes = cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES
    check_num_classes(num_classes, "MODEL.MASK_CLASSIFIER.NUM_CLASSES")
    return num_classes
