"""Color distortion of SSD (arXiv 1512.02325)."""

from __future__ import annotations

import random

import cv2
import numpy as np
from fvcore.transforms.transform import Transform


class ColorAugSSDTransform(Transform):
    """Random brightness, contrast, saturation and hue of a uint8 image; each with probability one half.

    Contrast comes, at random, before or after saturation and hue.
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: float = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ) -> None:
        """`img_format`: "RGB" or "BGR". `brightness_delta` is of 255, `hue_delta` of 180 (OpenCV's half degrees)."""
        super().__init__()
        if img_format not in ("BGR", "RGB"):
            raise ValueError(f"ColorAugSSDTransform: image format {img_format!r}; it is 'BGR' or 'RGB'")
        self.is_rgb = img_format == "RGB"
        self.brightness_delta = brightness_delta
        self.contrast_low, self.contrast_high = contrast_low, contrast_high
        self.saturation_low, self.saturation_high = saturation_low, saturation_high
        self.hue_delta = hue_delta

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def apply_image(self, img: np.ndarray, interp: object = None) -> np.ndarray:  # noqa: ARG002
        """(H, W, 3) uint8 -> the same, in the same channel order."""
        img = img[:, :, ::-1] if self.is_rgb else img
        img = self.brightness(img)
        contrast_first = random.random() < 0.5
        if contrast_first:
            img = self.contrast(img)
        img = self.hue(self.saturation(img))
        if not contrast_first:
            img = self.contrast(img)
        return np.ascontiguousarray(img[:, :, ::-1] if self.is_rgb else img)

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """img * alpha + beta, cut to 0..255."""
        return np.clip(img.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)

    def brightness(self, img: np.ndarray) -> np.ndarray:
        if random.random() < 0.5:
            return img
        return self.convert(img, beta=random.uniform(-self.brightness_delta, self.brightness_delta))

    def contrast(self, img: np.ndarray) -> np.ndarray:
        if random.random() < 0.5:
            return img
        return self.convert(img, alpha=random.uniform(self.contrast_low, self.contrast_high))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        if random.random() < 0.5:
            return img
        hsv = cv2.cvtColor(np.ascontiguousarray(img), cv2.COLOR_BGR2HSV)
        hsv[:, :, 1] = self.convert(hsv[:, :, 1], alpha=random.uniform(self.saturation_low, self.saturation_high))
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

    def hue(self, img: np.ndarray) -> np.ndarray:
        if random.random() < 0.5:
            return img
        hsv = cv2.cvtColor(np.ascontiguousarray(img), cv2.COLOR_BGR2HSV)
        turned = hsv[:, :, 0].astype(np.int16) + random.randint(-self.hue_delta, self.hue_delta)
        hsv[:, :, 0] = (turned % 180).astype(np.uint8)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
