"""The heads that read what RoIAlign cuts out of a pyramid (Mask R-CNN, arXiv 1703.06870, section 3, figure 4 right).

Shapes: R regions; C channels; S cells of a region's side in the maps; K classes without the background; M cells of a
mask's side.
"""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F


class BoxHead(nn.Sequential):
    """3 x 3 convolutions, then fully connected layers, ReLU after each: (R, C, S, S) -> (R, out_channels).

    Parameters are called conv1, conv2, ..., fc1, fc2, ...
    """

    def __init__(self, channels: int, size: int, *, conv_dims: list[int], fc_dims: list[int], norm: str):
        super().__init__()
        for number, dim in enumerate(conv_dims, start=1):
            self.add_module(f"conv{number}", _conv(channels, dim, norm))
            channels = dim
        self.add_module("flatten", nn.Flatten())
        self.out_channels = channels * size * size
        for number, dim in enumerate(fc_dims, start=1):
            layer = nn.Linear(self.out_channels, dim)
            weight_init.c2_xavier_fill(layer)
            self.add_module(f"fc{number}", layer)
            self.add_module(f"fc_relu{number}", nn.ReLU(inplace=True))
            self.out_channels = dim


class BoxPredictor(nn.Module):
    """Class logits and, for every class or for all together, four deltas of each region."""

    def __init__(self, channels: int, num_classes: int, *, class_agnostic: bool):
        super().__init__()
        self.cls_score = nn.Linear(channels, num_classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 if class_agnostic else 4 * num_classes)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        nn.init.zeros_(self.cls_score.bias)
        nn.init.zeros_(self.bbox_pred.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C) -> logits (R, K + 1), the background's last; deltas (R, K or 1, 4)."""
        return self.cls_score(x), self.bbox_pred(x).unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """3 x 3 convolutions, an enlargement by two, and a mask for each class (or one for all) in every region."""

    def __init__(
        self, channels: int, num_classes: int, *, conv_dim: int, num_convs: int, norm: str, class_agnostic: bool
    ):
        super().__init__()
        self.num_convs = num_convs
        for number in range(1, num_convs + 1):
            self.add_module(f"mask_fcn{number}", _conv(channels, conv_dim, norm))
            channels = conv_dim
        self.deconv = nn.ConvTranspose2d(channels, conv_dim, 2, stride=2)
        self.predictor = nn.Conv2d(conv_dim, 1 if class_agnostic else num_classes, 1)
        weight_init.c2_msra_fill(self.deconv)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.get_parameter("bias"))

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """(R, C, M / 2, M / 2), classes (R,) -> logits (R, M, M) of the mask of each region's class."""
        for number in range(1, self.num_convs + 1):
            x = self.get_submodule(f"mask_fcn{number}")(x)
        x = F.relu(self.deconv(x), inplace=True)
        # Of the predictor's 1 x 1 convolution only the row of the region's class is worked out.
        weight, bias = self.predictor.weight.flatten(1), self.predictor.get_parameter("bias")
        row = classes if len(weight) > 1 else torch.zeros_like(classes)
        logits = torch.baddbmm(bias[row][:, None, None], weight[row][:, None], x.flatten(2))
        return logits.view(-1, *x.shape[2:])


def of_class(x: Tensor, classes: Tensor) -> Tensor:
    """(R, K or 1, ...), (R,) -> (R, ...): of each region what belongs to its class, or to all classes."""
    return x[torch.arange(len(x), device=x.device), classes if x.shape[1] > 1 else torch.zeros_like(classes)]


def _conv(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    activation = nn.ReLU(inplace=True)
    norm_layer = get_norm(norm, out_channels)
    conv = Conv2d(in_channels, out_channels, 3, padding=1, bias=not norm, norm=norm_layer, activation=activation)
    weight_init.c2_msra_fill(conv)
    return conv
