"""Between records and tensors: images read and checked, annotations transformed and packed into `Instances`."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks, polygons_to_bitmask
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps
from torch import Tensor

from . import transforms as T
from .catalog import MetadataCatalog

logger = logging.getLogger(__name__)

# Recommendation ITU-R BT.601: rows are Y, U, V of R, G, B in 0..1; and back.
_YUV_FROM_RGB = np.array([[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]])
_RGB_FROM_YUV = np.array([[1.0, 0.0, 1.13983], [1.0, -0.39465, -0.58060], [1.0, 2.03211, 0.0]])
_YUV = "YUV-BT.601"


class SizeMismatchError(ValueError):
    """An image has another size than its record says."""


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:  # noqa: N802 (the published name)
    """PIL image -> (H, W, C) array in `format`: see `read_image`. None keeps the image's own mode."""
    if format is None:
        return np.asarray(image)
    array = np.asarray(image.convert("RGB" if format in ("BGR", _YUV) else format))
    if format == "L":
        return array[:, :, None]
    if format == "BGR":
        return array[:, :, ::-1]
    if format == _YUV:
        return array / 255.0 @ _YUV_FROM_RGB.T
    return array


def convert_image_to_rgb(image: np.ndarray | Tensor, format: str) -> np.ndarray:
    """(H, W, C) in `format` (see `read_image`) -> (H, W, 3) RGB in 0..255, float where the input was, else uint8."""
    if isinstance(image, Tensor):
        image = image.cpu().numpy()
    if format == "BGR":
        return image[:, :, [2, 1, 0]]
    if format == _YUV:
        return image @ _RGB_FROM_YUV.T * 255.0
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image, dtype=np.uint8)
    return np.asarray(Image.frombytes(format, (width, height), pixels.tobytes()).convert("RGB"))


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image, turned upright as its EXIF orientation says.

    format: a PIL mode ("RGB", "L", ...) or "BGR", all uint8 0..255, or "YUV-BT.601", float with Y in 0..1; None for
        the file's own. Returns (H, W, C), with C = 1 for "L".
    """
    with PathManager.open(file_name, "rb") as file:
        image: Image.Image = Image.open(file)
        try:
            image = ImageOps.exif_transpose(image)
        except (SyntaxError, ValueError, TypeError, KeyError, OverflowError, struct.error) as error:
            logger.warning(f"{file_name}: broken EXIF data, read without orientation ({error})")
        return convert_PIL_to_numpy(image, format)


def check_image_size(dataset_dict: dict[str, Any], image: np.ndarray) -> None:
    """Raise SizeMismatchError unless the record's "height" and "width" are the image's; fill them in if absent."""
    height, width = image.shape[:2]
    expected = dataset_dict.setdefault("height", height), dataset_dict.setdefault("width", width)
    if (height, width) != expected:
        raise SizeMismatchError(
            f"{dataset_dict.get('file_name', 'image')}: is {width} x {height} pixels, but its annotation says "
            f"width {expected[1]} and height {expected[0]}"
        )


def get_bbox(annotation: dict[str, Any]) -> Any:
    """The annotation's box as x0, y0, x1, y1."""
    return BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)


def transform_instance_annotations(
    annotation: dict[str, Any],
    transforms: T.Transform | list[T.Transform] | tuple[T.Transform, ...],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: Sequence[int] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Transform one instance's box, segmentation and keypoints, in place; returns the same dict.

    image_size: (height, width) after the transforms; boxes are clipped to it.
    Afterwards the box is XYXY_ABS, a polygon segmentation a list of flat arrays, an RLE an (H, W) array.
    """
    if isinstance(transforms, (tuple, list)):
        transforms = T.TransformList(list(transforms))
    height, width = image_size
    box = transforms.apply_box(np.array([get_bbox(annotation)]))[0]
    annotation["bbox"] = np.clip(box, 0, [width, height, width, height])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" in annotation:
        annotation["segmentation"] = _transform_segmentation(annotation["segmentation"], transforms, image_size)
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def _transform_segmentation(segmentation: Any, transforms: T.Transform, image_size: tuple[int, int]) -> Any:
    if isinstance(segmentation, list):
        polygons = transforms.apply_polygons([np.asarray(polygon).reshape(-1, 2) for polygon in segmentation])
        return [polygon.reshape(-1) for polygon in polygons]
    if isinstance(segmentation, dict):
        mask = transforms.apply_segmentation(mask_util.decode(segmentation))
        assert mask.shape[:2] == tuple(image_size), f"the mask became {mask.shape[:2]}, the image {image_size}"
        return mask
    raise ValueError(f"a segmentation is a list of polygons or a COCO RLE (dict), not {segmentation!r}")


def transform_keypoint_annotations(
    keypoints: Any,
    transforms: T.TransformList,
    image_size: tuple[int, int],
    keypoint_hflip_indices: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Keypoints (N * 3: x, y, visibility, ...) -> transformed (N, 3) float64.

    Points outside of the image become unlabeled: 0, 0, 0. An odd number of horizontal flips exchanges left and right
    points, as `create_keypoint_hflip_indices` says.
    """
    points = np.array(keypoints, dtype=np.float64).reshape(-1, 3)
    points[:, :2] = transforms.apply_coords(points[:, :2])
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= image_size[::-1])).all(axis=1)
    points[~inside, 2] = 0
    if sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms) % 2:
        if keypoint_hflip_indices is None:
            raise ValueError("keypoints cannot be flipped without keypoint_hflip_indices")
        if len(points) != len(keypoint_hflip_indices):
            raise ValueError(f"an instance has {len(points)} keypoints, the data set {len(keypoint_hflip_indices)}")
        points = points[np.asarray(keypoint_hflip_indices, dtype=np.int64)]
    points[points[:, 2] == 0] = 0
    return points


def _segmentation_to_mask(segmentation: Any, image_size: tuple[int, int]) -> np.ndarray:
    """Polygons, RLE or (H, W) array -> (H, W) array."""
    if isinstance(segmentation, list):
        return polygons_to_bitmask(segmentation, *image_size)
    if isinstance(segmentation, dict):
        return mask_util.decode(segmentation)
    if isinstance(segmentation, np.ndarray):
        assert segmentation.ndim == 2, f"a mask array must be (H, W), got shape {segmentation.shape}"
        return segmentation
    raise ValueError(f"a segmentation is a list of polygons, a COCO RLE (dict) or an array, not {segmentation!r}")


def annotations_to_instances(
    annos: list[dict[str, Any]], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Pack one image's (transformed) annotations into `Instances` of `image_size`, (height, width).

    Fields: gt_boxes and gt_classes; where the annotations have them, gt_masks (`PolygonMasks` for mask_format
    "polygon", `BitMasks` for "bitmask") and gt_keypoints.
    """
    assert mask_format in ("polygon", "bitmask"), f"mask_format must be polygon or bitmask, got '{mask_format}'"
    target = Instances(image_size)
    boxes: Any = np.stack([get_bbox(anno) for anno in annos]) if annos else np.zeros((0, 4))
    target.gt_boxes = Boxes(boxes)
    target.gt_classes = torch.tensor([int(anno["category_id"]) for anno in annos], dtype=torch.int64)
    if annos and "segmentation" in annos[0]:
        segmentations = [anno["segmentation"] for anno in annos]
        if mask_format == "polygon":
            try:
                target.gt_masks = PolygonMasks(segmentations)
            except ValueError as error:
                raise ValueError("not all segmentations are polygons, use INPUT.MASK_FORMAT bitmask") from error
        else:
            masks = [np.ascontiguousarray(_segmentation_to_mask(s, image_size)) for s in segmentations]
            target.gt_masks = BitMasks(torch.stack([torch.from_numpy(mask) for mask in masks]))
    if annos and "keypoints" in annos[0]:
        target.gt_keypoints = Keypoints([anno.get("keypoints", []) for anno in annos])
    return target


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Any:
    """Leave out instances whose box (sides <= box_threshold) or mask is empty.

    Returns the rest, and with `return_mask` also the (N,) bool of what was kept.
    """
    assert by_box or by_mask, "nothing to filter by: both by_box and by_mask are False"
    keep = torch.ones(len(instances), dtype=torch.bool)
    if by_box:
        keep = instances.gt_boxes.nonempty(threshold=box_threshold)
    if by_mask and instances.has("gt_masks"):
        keep = keep & instances.gt_masks.nonempty()
    return (instances[keep], keep) if return_mask else instances[keep]


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Raise AttributeError where a data set lacks this metadata, ValueError where two have different values of it."""
    values = {name: getattr(MetadataCatalog.get(name), key) for name in dataset_names}
    if any(value != values[dataset_names[0]] for value in values.values()):
        raise ValueError(f"data sets used together must have the same '{key}', but they have {values}")


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> list[int]:
    """For each keypoint of the data sets, the number of the one that takes its place in a mirrored image."""
    names = [dataset_names] if isinstance(dataset_names, str) else dataset_names
    check_metadata_consistency("keypoint_names", names)
    check_metadata_consistency("keypoint_flip_map", names)
    metadata = MetadataCatalog.get(names[0])
    opposite = dict(metadata.keypoint_flip_map)
    opposite |= {right: left for left, right in opposite.items()}
    return [metadata.keypoint_names.index(opposite.get(name, name)) for name in metadata.keypoint_names]


def gen_crop_transform_with_instance(
    crop_size: tuple[int, int], image_size: tuple[int, int], instance: dict[str, Any]
) -> T.CropTransform:
    """A random window of `crop_size` inside the image, both (height, width), that holds the center of the instance."""
    x0, y0, x1, y1 = get_bbox(instance)
    center = np.array([y0 + y1, x0 + x1]) * 0.5
    size, crop = np.asarray(image_size), np.asarray(crop_size)
    assert (center <= size).all(), f"box {instance['bbox']} is centered outside of the image of {image_size}"
    assert (crop <= size).all(), f"crop size {crop_size} is larger than the image of {image_size}"
    first = np.maximum(np.floor(center).astype(int) - crop, 0)
    last = np.minimum(size - crop, np.ceil(center).astype(int))
    top, left = (int(np.random.randint(low, high + 1)) for low, high in zip(first, last, strict=True))
    return T.CropTransform(left, top, int(crop[1]), int(crop[0]))


def build_augmentation(cfg: Any, is_train: bool) -> list[T.Augmentation]:
    """The default augmentations: resize by cfg.INPUT.MIN_SIZE_* and MAX_SIZE_*; in training flip by RANDOM_FLIP."""
    if not is_train:
        return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
    sizes, style = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    augmentations: list[T.Augmentation] = [T.ResizeShortestEdge(sizes, cfg.INPUT.MAX_SIZE_TRAIN, style)]
    flip = cfg.INPUT.RANDOM_FLIP
    if flip != "none":
        augmentations.append(T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical"))
    return augmentations
