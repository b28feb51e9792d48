"""A model of your own in one file: FCN-8s (arXiv 1411.4038), a class for each pixel from three scales of a backbone."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former_ext.models.image_model import num_classes_of
from mask2former_ext.models.pixel_classifier import PixelClassifier


def add_config(cfg: CfgNode) -> None:
    """Called after the package has added its own keys."""
    cfg.MODEL.FCN = CfgNode()
    cfg.MODEL.FCN.FEATURES = ["res3", "res4", "res5"]  # of the backbone, fine to coarse


class SkipHead(nn.Module):
    """Scores of each scale, added from coarse to fine."""

    def __init__(self, input_shape: dict[str, ShapeSpec], features: list[str], num_classes: int):
        super().__init__()
        self.stride = input_shape[features[0]].stride  # pixels of the image from one score to the next
        self.scores = nn.ModuleDict({name: nn.Conv2d(input_shape[name].channels, num_classes, 1) for name in features})

    def forward(self, maps: dict[str, Tensor], valid_fraction: Tensor | None = None) -> list[Tensor]:
        """Maps (B, C, ., .) by name -> [logits (B, K, h, w)], one of each layer that has a loss: here only the last."""
        *finer, total = [score(maps[name]) for name, score in self.scores.items()]
        for score in reversed(finer):
            total = score + F.interpolate(total, size=score.shape[-2:], mode="bilinear", align_corners=False)
        return [total]


@META_ARCH_REGISTRY.register()
class FCN(PixelClassifier):
    """Targets, loss, scores at the size of the image: all of a PixelClassifier; only its head differs."""

    @classmethod
    def head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> SkipHead:
        return SkipHead(input_shape, cfg.MODEL.FCN.FEATURES, num_classes_of(cfg))
