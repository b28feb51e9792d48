"""Deterministic transforms of images, coordinates and label maps, beside those of fvcore.

Images are (H, W) or (H, W, C); coordinates (N, 2) are (x, y) in pixels, (0, 0) the top left corner of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from fvcore.transforms import transform as fvcore_transforms
from fvcore.transforms.transform import CropTransform, HFlipTransform, NoOpTransform, Transform, TransformList
from PIL import Image

_TORCH_MODE: dict[int, str] = {
    Image.Resampling.NEAREST.value: "nearest",
    Image.Resampling.BILINEAR.value: "bilinear",
    Image.Resampling.BICUBIC.value: "bicubic",
}


def _through_pil(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """uint8 array -> PIL image -> `change` -> array; PIL knows no (H, W, 1), so that axis is taken off and put back."""
    single_channel = image.ndim == 3 and image.shape[2] == 1
    changed = np.asarray(change(Image.fromarray(image[:, :, 0] if single_channel else image)))
    return changed[:, :, None] if single_channel else changed


class ResizeTransform(fvcore_transforms.ScaleTransform):
    """Resize from (h, w) to (new_h, new_w); `interp` is a PIL resampling filter, bilinear by default.

    uint8 goes through PIL (which smooths when it shrinks), everything else through `torch` (which does not).
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int | None = None) -> None:
        super().__init__(h, w, new_h, new_w, Image.Resampling.BILINEAR.value if interp is None else interp)

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        assert img.shape[:2] == (self.h, self.w), f"made for {(self.h, self.w)}, got an image of {img.shape[:2]}"
        interp = self.interp if interp is None else interp
        if img.dtype == np.uint8:
            return _through_pil(img, lambda image: image.resize((self.new_w, self.new_h), interp))
        if interp not in _TORCH_MODE:
            raise ValueError(f"interp {interp!r}: {img.dtype} arrays can be resized by {list(_TORCH_MODE)} only")
        if np.issubdtype(img.dtype, np.floating):
            return super().apply_image(img, _TORCH_MODE[interp])
        if interp != Image.Resampling.NEAREST.value:
            raise ValueError(f"a {img.dtype} array can be resized by nearest only: interpolate uint8 or floats")
        return super().apply_image(img.astype(np.float64), "nearest").astype(img.dtype)  # exact up to 2**53

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST.value)

    def inverse(self) -> ResizeTransform:
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class RotationTransform(Transform):
    """Rotate an (h, w) image by `angle` degrees counter-clockwise.

    expand: make the output large enough for all of the rotated image and center that in it (`center` then changes
        nothing); otherwise the size stays and corners are cut off.
    center: (x, y) in pixels, the middle of the image by default.
    interp: an OpenCV interpolation flag, `cv2.INTER_LINEAR` by default.
    """

    def __init__(
        self,
        h: int,
        w: int,
        angle: float,
        expand: bool = True,
        center: tuple[float, float] | None = None,
        interp: int | None = None,
    ) -> None:
        super().__init__()
        self.h, self.w, self.angle, self.expand, self.interp = h, w, angle, expand, interp
        self.center = (w / 2, h / 2) if center is None else center
        self.bound_h, self.bound_w = h, w
        if expand:
            cos, sin = abs(np.cos(np.deg2rad(angle))), abs(np.sin(np.deg2rad(angle)))
            self.bound_h, self.bound_w = (int(np.rint(side)) for side in (h * cos + w * sin, h * sin + w * cos))
        self.rm_coords = self.create_rotation_matrix()
        # Coordinates count from the pixel's corner, OpenCV counts from its center: half a pixel less.
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """The (2, 3) matrix that takes (x, y, 1) to rotated coordinates, where the image starts at `offset`."""
        cos, sin = np.cos(np.deg2rad(self.angle)), np.sin(np.deg2rad(self.angle))
        rotation = np.array([[cos, sin], [-sin, cos]])
        source, target = np.add(self.center, offset), np.add(self.center, offset)
        if self.expand:
            source = np.array([self.w / 2, self.h / 2]) + offset
            target = np.array([self.bound_w / 2, self.bound_h / 2]) + offset
        return np.column_stack([rotation, target - rotation @ source])

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if img.size == 0 or self.angle % 360 == 0:
            return img
        assert img.shape[:2] == (self.h, self.w), f"made for {(self.h, self.w)}, got an image of {img.shape[:2]}"
        import cv2  # only where it is used: it is slow to load

        if interp is None:
            interp = cv2.INTER_LINEAR if self.interp is None else self.interp
        return cv2.warpAffine(img, self.rm_image, (self.bound_w, self.bound_h), flags=interp)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords = np.asarray(coords, dtype=float)
        if len(coords) == 0 or self.angle % 360 == 0:
            return coords
        return coords @ self.rm_coords[:, :2].T + self.rm_coords[:, 2]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=0)  # 0 is cv2.INTER_NEAREST

    def inverse(self) -> TransformList:
        """Rotate back, then crop the middle; not possible without `expand`, where corners are lost."""
        if not self.expand:
            raise NotImplementedError("a rotation that cuts off corners (expand=False) has no inverse")
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, True, None, self.interp)
        left, top = (back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2
        return TransformList([back, CropTransform(left, top, self.w, self.h)])


def _flip_rotated_boxes(transform: HFlipTransform, boxes: np.ndarray) -> np.ndarray:
    """(N, 5) boxes (x_center, y_center, width, height, degrees), changed in place as in all functions below."""
    boxes[:, 0] = transform.width - boxes[:, 0]
    boxes[:, 4] *= -1
    return boxes


def _resize_rotated_boxes(transform: ResizeTransform, boxes: np.ndarray) -> np.ndarray:
    """The box's two axes are scaled as vectors; where x and y scale differently they are no longer at right angles,
    and the box keeps the lengths and the direction of its height axis.
    """
    scale_x, scale_y = transform.new_w / transform.w, transform.new_h / transform.h
    angle = np.deg2rad(boxes[:, 4])
    cos, sin = np.cos(angle), np.sin(angle)
    boxes[:, 0] *= scale_x
    boxes[:, 1] *= scale_y
    boxes[:, 2] *= np.hypot(scale_x * cos, scale_y * sin)
    boxes[:, 3] *= np.hypot(scale_x * sin, scale_y * cos)
    boxes[:, 4] = np.rad2deg(np.arctan2(scale_x * sin, scale_y * cos))
    return boxes


HFlipTransform.register_type("rotated_box", _flip_rotated_boxes)
ResizeTransform.register_type("rotated_box", _resize_rotated_boxes)


class ExtentTransform(Transform):
    """Cut out `src_rect` (x0, y0, x1, y1), which may reach over the edges, and resize it to `output_size` (h, w).

    What lies outside of the image becomes `fill`. Images must be uint8.
    """

    def __init__(
        self,
        src_rect: tuple[float, float, float, float],
        output_size: tuple[int, int],
        interp: int = Image.Resampling.BILINEAR.value,
        fill: int = 0,
    ) -> None:
        super().__init__()
        self.src_rect, self.output_size, self.interp, self.fill = src_rect, output_size, interp, fill

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        size, method = self.output_size[::-1], Image.Transform.EXTENT
        resample = interp if interp else self.interp
        return _through_pil(img, lambda image: image.transform(size, method, self.src_rect, resample, fill=self.fill))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        start, end = np.array(self.src_rect, dtype=np.float32).reshape(2, 2)
        return (coords.astype(np.float32) - start) * (np.array(self.output_size[::-1], np.float32) / (end - start))

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.Resampling.NEAREST.value)


class ColorTransform(Transform):
    """Change colors by `op` (array -> array) and leave every coordinate and label as it is."""

    def __init__(self, op: Callable[[Any], Any]) -> None:
        super().__init__()
        self.op = op

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """The same with an `op` from PIL image to PIL image."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(self.op(Image.fromarray(img)))
