"""Detectron2's drawing interface. Whole predictions are drawn by `mask2former_ext.inference.drawing`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2._left_out import left_out_message
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, BoxMode, Instances, PolygonMasks, polygons_to_bitmask
from detectron2.utils.colormap import random_color
from detectron2.utils.file_io import PathManager
from PIL import Image

from mask2former_ext.classes import from_metadata
from mask2former_ext.data.targets.masks import panoptic_ids
from mask2former_ext.inference import marks
from mask2former_ext.inference.drawing import UNLABELED, draw_instances, draw_panoptic, draw_semantic


@unique
class ColorMode(Enum):
    """Colors of instances: each its own, by class, or each its own on a gray picture."""

    IMAGE = 0
    SEGMENTATION = 1
    IMAGE_BW = 2


def _create_text_labels(
    classes: Sequence[int] | None,
    scores: Sequence[float] | None,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[bool] | None = None,
) -> list[str] | None:
    """ "name 90%|crowd" for each object, from what is known of it."""
    if classes is None and scores is None:
        return None
    names = (
        [""] * len(scores or ()) if classes is None else [class_names[k] if class_names else str(k) for k in classes]
    )
    percents = [""] * len(names) if scores is None else [f"{float(score) * 100:.0f}%" for score in scores]
    crowds = [""] * len(names) if is_crowd is None else ["|crowd" if crowd else "" for crowd in is_crowd]
    return [" ".join(filter(None, words[:2])) + words[2] for words in zip(names, percents, crowds, strict=True)]


class GenericMask:
    """A mask (H, W) from an array, a COCO RLE or polygons; each form is at hand as `mask` and `polygons`."""

    def __init__(self, mask_or_polygons: Any, height: int, width: int) -> None:
        self.height, self.width = height, width
        if isinstance(mask_or_polygons, list):
            self.mask = polygons_to_bitmask(mask_or_polygons, height, width).astype(np.uint8)
        elif isinstance(mask_or_polygons, dict):
            if isinstance(mask_or_polygons["counts"], list):
                mask_or_polygons = mask_util.frPyObjects(mask_or_polygons, height, width)
            self.mask = mask_util.decode(mask_or_polygons)
        else:
            self.mask = np.asarray(mask_or_polygons).astype(np.uint8)
        if self.mask.shape != (height, width):
            raise ValueError(f"a mask of {self.mask.shape} pixels for an image of {(height, width)}")

    @property
    def polygons(self) -> list[np.ndarray]:
        """Outlines x0, y0, x1, y1, ... of at least three points; those of holes among them."""
        contours, _ = cv2.findContours(np.ascontiguousarray(self.mask), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        return [contour.reshape(-1).astype(np.float64) + 0.5 for contour in contours if len(contour) >= 3]

    def area(self) -> int:
        return int(self.mask.sum())


class VisImage:
    """A drawn picture, RGB uint8, `scale` times the size of what it is made of."""

    def __init__(self, img: np.ndarray, scale: float = 1.0) -> None:
        self.scale = scale
        self.img = cv2.resize(img, None, fx=scale, fy=scale) if scale != 1 else np.ascontiguousarray(img)

    def get_image(self) -> np.ndarray:
        """(H, W, 3) RGB uint8."""
        return self.img

    def save(self, filepath: str) -> None:
        """Write it in the format that the file's name says."""
        extension = "." + filepath.rpartition(".")[2].lower()
        with PathManager.open(filepath, "wb") as file:
            Image.fromarray(self.img).save(file, format=Image.registered_extensions()[extension])


class Visualizer:
    """Draws on one RGB image. Predictions start from the given image; finer methods (masks, boxes, texts) add to
    `output`. Pictures are `scale` times the image's size."""

    def __init__(
        self, img_rgb: np.ndarray, metadata: Any = None, scale: float = 1.0, instance_mode: ColorMode = ColorMode.IMAGE
    ) -> None:
        self.img = np.asarray(img_rgb).clip(0, 255).astype(np.uint8)
        self.metadata = MetadataCatalog.get("__nonexist__") if metadata is None else metadata
        self._instance_mode = instance_mode
        self._scale = scale
        self.output = VisImage(self.img.copy(), scale)

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("draw_", "overlay_")):
            raise ImportError(left_out_message(f"{__name__}.Visualizer.{name}"))
        raise AttributeError(name)

    def _show(self, picture: np.ndarray) -> VisImage:
        self.output = VisImage(picture, self._scale)
        return self.output

    def _background(self) -> np.ndarray:
        if self._instance_mode != ColorMode.IMAGE_BW:
            return self.img
        return np.repeat(self.img.astype(np.float32).mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)

    def draw_instance_predictions(self, predictions: Instances) -> VisImage:
        """Instances with pred_classes, scores, and pred_masks or pred_boxes, whatever their scores."""
        fields = dict(predictions.get_fields())
        if "pred_boxes" in fields:
            fields["pred_boxes"] = Boxes(_corners(fields["pred_boxes"]))
        found = Instances(predictions.image_size, **fields)
        color_by = "class" if self._instance_mode == ColorMode.SEGMENTATION else "instance"
        options: dict[str, Any] = {"min_score": float("-inf"), "color_by": color_by}
        return self._show(draw_instances(self._background(), found, from_metadata(self.metadata), **options))

    def draw_sem_seg(
        self, sem_seg: torch.Tensor | np.ndarray, area_threshold: int | None = None, alpha: float = 0.8
    ) -> VisImage:
        """(H, W) of classes. Numbers that are no class (the ignored label), and classes of fewer pixels than
        `area_threshold`, stay uncolored."""
        classes = np.asarray(torch.as_tensor(sem_seg).cpu()).astype(np.int64)
        num_classes = len(self.metadata.get("stuff_classes") or []) or classes.max() + 1
        classes[(classes >= num_classes) | (classes == self.metadata.get("ignore_label"))] = UNLABELED
        numbers, areas = np.unique(classes, return_counts=True)
        classes[np.isin(classes, numbers[areas < (area_threshold or 0)])] = UNLABELED
        table = from_metadata(self.metadata)
        return self._show(draw_semantic(self.img, classes, table, alpha=alpha))

    def draw_panoptic_seg(
        self,
        panoptic_seg: torch.Tensor | np.ndarray,
        segments_info: Sequence[dict[str, Any]] | None,
        area_threshold: int | None = None,
        alpha: float = 0.7,
    ) -> VisImage:
        """Segment ids (H, W) and what is known of each segment; None: ids are class x label_divisor + number, -1 void.
        Segments of fewer pixels than `area_threshold` stay uncolored."""
        ids, table = np.asarray(torch.as_tensor(panoptic_seg).cpu()).astype(np.int64), from_metadata(self.metadata)
        if segments_info is None:
            divisor, ids = self.metadata.label_divisor, ids + 1
            things = () if table is None else table.things
            categories = {label: (label - 1) // divisor for label in np.unique(ids[ids > 0]).tolist()}
            segments_info = [{"id": i, "category_id": k, "isthing": k in things} for i, k in categories.items()]
        numbers, areas = np.unique(ids, return_counts=True)
        small = set(numbers[areas < (area_threshold or 0)].tolist())
        shown = [segment for segment in segments_info if segment["id"] not in small]
        return self._show(draw_panoptic(self._background(), (ids, shown), table, alpha=alpha))

    draw_panoptic_seg_predictions = draw_panoptic_seg

    def draw_dataset_dict(self, dic: dict[str, Any]) -> VisImage:
        """The truth of a record: its annotations, else its panoptic segments, else its label image."""
        if dic.get("annotations"):
            return self._draw_annotations(dic["annotations"])
        if "pan_seg" in dic or "pan_seg_file_name" in dic:
            ids = dic["pan_seg"] if "pan_seg" in dic else panoptic_ids(read_image(dic["pan_seg_file_name"], "RGB"))
            return self.draw_panoptic_seg(ids, dic["segments_info"], area_threshold=0, alpha=0.5)
        if "sem_seg" in dic or "sem_seg_file_name" in dic:
            labels = dic["sem_seg"] if "sem_seg" in dic else read_image(dic["sem_seg_file_name"], "L")[:, :, 0]
            return self.draw_sem_seg(labels, area_threshold=0, alpha=0.5)
        return self.output

    def _draw_annotations(self, annotations: list[dict[str, Any]]) -> VisImage:
        categories = [a["category_id"] for a in annotations]
        crowds, names = [bool(a.get("iscrowd", 0)) for a in annotations], self.metadata.get("thing_classes")
        colors = self.metadata.get("thing_colors") if self._instance_mode == ColorMode.SEGMENTATION else None
        return self.overlay_instances(
            boxes=[BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations],
            masks=[a["segmentation"] for a in annotations] if "segmentation" in annotations[0] else None,
            labels=_create_text_labels(categories, None, names, crowds),
            assigned_colors=colors and [np.divide(colors[k], 255) for k in categories],
        )

    def overlay_instances(
        self,
        *,
        boxes: Any = None,
        labels: Sequence[str] | None = None,
        masks: Any = None,
        keypoints: Any = None,
        assigned_colors: Sequence[Any] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """N objects by boxes (x0, y0, x1, y1) and masks (arrays, RLE or polygons), larger ones below, with labels."""
        if keypoints is not None:
            raise ImportError(left_out_message("The drawing of keypoints"))
        corners = None if boxes is None else _corners(boxes).numpy()
        parts = None if masks is None else self._masks(masks)
        given = {len(x) for x in (corners, parts, labels, assigned_colors) if x is not None}
        assert len(given) <= 1, f"boxes, masks, labels and colors of {sorted(given)} objects"
        count = given.pop() if given and (corners is not None or parts is not None) else 0
        colors = assigned_colors or [random_color(rgb=True, maximum=1) for _ in range(count)]
        sizes = [part.area() for part in parts or ()]
        if corners is not None:
            sizes = np.prod(corners[:, 2:] - corners[:, :2], axis=1).tolist()
        for place in sorted(range(count), key=lambda i: -sizes[i]):
            text, color = labels[place] if labels else None, colors[place]
            if parts is not None:
                inside = text if corners is None else None
                self.draw_binary_mask(parts[place].mask, color, text=inside, alpha=alpha, area_threshold=0)
            if corners is not None:
                self.draw_box(corners[place], edge_color=color)
                if text:
                    self.draw_text(text, corners[place][:2], color=color, horizontal_alignment="left")
        return self.output

    def _masks(self, masks: Any) -> list[GenericMask]:
        masks = masks.polygons if isinstance(masks, PolygonMasks) else getattr(masks, "tensor", masks)
        masks = masks.cpu().numpy() if isinstance(masks, torch.Tensor) else masks
        return [part if isinstance(part, GenericMask) else GenericMask(part, *self.img.shape[:2]) for part in masks]

    def draw_binary_mask(
        self,
        binary_mask: np.ndarray,
        color: Any = None,
        *,
        edge_color: Any = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: int = 10,
    ) -> VisImage:
        """Mix `color` into the pixels of a mask (H, W) but for parts of fewer pixels than `area_threshold`."""
        mask = np.asarray(binary_mask).astype(np.uint8)
        _, parts, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        mask = mask * (facts[:, cv2.CC_STAT_AREA] >= area_threshold)[parts]
        if edge_color is not None:
            for polygon in GenericMask(mask, *mask.shape).polygons:
                marks.outline(self.output.img, polygon.reshape(-1, 2) * self._scale, edge_color)
        return self.draw_soft_mask(mask, color, text=text, alpha=alpha)

    def draw_soft_mask(
        self, soft_mask: np.ndarray, color: Any = None, *, text: str | None = None, alpha: float = 0.5
    ) -> VisImage:
        """Mix `color` into the picture by `alpha` times a mask (H, W) of values in [0, 1]; `text` stands amid it."""
        color, weights = random_color(rgb=True, maximum=1) if color is None else color, np.asarray(soft_mask)
        marks.mix(self.output.img, alpha * weights, color)
        if text and weights.any():
            y, x = np.median(np.argwhere(weights > 0.5 * weights.max()), axis=0)
            self.draw_text(text, (x, y), color=color)
        return self.output

    def draw_box(
        self, box_coord: Sequence[float], alpha: float = 0.5, edge_color: Any = "g", **_style: Any
    ) -> VisImage:
        """Outline a box (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = (float(part) * self._scale for part in box_coord)
        marks.outline(self.output.img, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), edge_color, alpha)
        return self.output

    def draw_polygon(self, segment: np.ndarray, color: Any, edge_color: Any = None, alpha: float = 0.5) -> VisImage:
        """Fill a polygon (points, 2)."""
        self.draw_soft_mask(polygons_to_bitmask([np.ravel(segment)], *self.img.shape[:2]), color, alpha=alpha)
        marks.outline(self.output.img, np.asarray(segment) * self._scale, edge_color or color)
        return self.output

    def draw_text(
        self,
        text: str,
        position: Sequence[float],
        *,
        font_size: float | None = None,
        color: Any = "g",
        horizontal_alignment: str = "center",
        **_style: Any,
    ) -> VisImage:
        """Write upright; `position` (x, y) is the middle, left or right end of its upper edge."""
        place = [part * self._scale for part in position]
        marks.write(self.output.img, text, place, color, font_size, horizontal_alignment)
        return self.output

    def get_output(self) -> VisImage:
        return self.output


def _corners(boxes: Any) -> torch.Tensor:
    """Boxes, a tensor or an array (N, 4), or (N, 5) rotated -> (N, 4) float32 on the CPU."""
    boxes = torch.as_tensor(np.asarray(boxes) if isinstance(boxes, list) else getattr(boxes, "tensor", boxes))
    boxes = boxes.detach().float().cpu()
    return BoxMode.convert(boxes, BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS) if boxes.shape[-1] == 5 else boxes.view(-1, 4)
