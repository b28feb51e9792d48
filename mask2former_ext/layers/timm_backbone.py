"""Any backbone of timm that has features at strides 4, 8, 16 and 32, and plain ViTs, which get them by a pyramid.

Shapes: B images; C channels of a level; H, W pixels of the image.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import Format, LayerNorm2d
from torch import Tensor, nn

from mask2former_ext.layers.input_channels import for_channels
from mask2former_ext.layers.partly_frozen import PartlyFrozen

logger = logging.getLogger(__name__)

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
_COARSEST = 32
# timm's modules whose models keep one resolution and take images of any size.
_PLAIN_VITS = ("vision_transformer", "deit", "eva")


class TimmFeatures(PartlyFrozen):
    """A timm model as a pyramid; `num_features` and `strides` hold, by output name, channels and stride.

    `name`: of timm's list. `pretrained`: fetch timm's weights. `out_features`: of res2, res3, res4, res5. `freeze_at`:
    1 freezes what comes before res2, 2 also what leads to res2, and so on, 0 nothing; of a plain ViT 1 freezes the
    embeddings, 2 to 5 also the first one to four quarters of the blocks. `pyramid_channels`: of every level of the
    pyramid that a plain ViT gets; other models keep their own channels. `in_channels`: of the image; where that is not
    3, timm's weights are copied to the `color_places` among them, and their mean to the others.

    Raises ValueError where timm does not know the model, or the model lacks a stride or takes only one image size.
    """

    body: Any  # what timm builds; its classes share no type that says so

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        out_features: Sequence[str] = tuple(STRIDES),
        freeze_at: int = 0,
        drop_path_rate: float | None = None,
        pyramid_channels: int = 256,
        in_channels: int = 3,
        color_places: Sequence[int] = (0, 1, 2),
    ) -> None:
        super().__init__()
        _check_names(name, out_features)
        last_stage = 2 + max(list(STRIDES).index(feature) for feature in out_features)
        if not 0 <= freeze_at <= last_stage:
            raise ValueError(f"freeze_at must be 0 to {last_stage}, got {freeze_at}")
        self.name = name
        self.strides = {feature: stride for feature, stride in STRIDES.items() if feature in out_features}
        self.in_channels, self._color_places = in_channels, tuple(color_places)
        options: dict[str, Any] = {"features_only": True, "pretrained": pretrained, "drop_path_rate": drop_path_rate}
        self.pyramid: SimpleFeaturePyramid | None = None
        if timm.models.is_model_in_modules(name, _PLAIN_VITS):
            self.body = self._create(out_indices=1, dynamic_img_size=True, **options)
            self.pyramid = self._build_pyramid(pyramid_channels)
            self.num_features = dict.fromkeys(self.strides, pyramid_channels)
            self._check_shapes()
            self._freeze_vit(freeze_at)
        else:
            self.body = self._create(**options)
            self._indices = self._find_levels()
            used = max(self._indices.values()) + 1
            if used < len(self.body.feature_info.reduction()):
                self.body = self._create(out_indices=tuple(range(used)), **options)
            channels = self.body.feature_info.channels()
            self.num_features = {feature: channels[index] for feature, index in self._indices.items()}
            self._check_shapes()
            self._freeze_stages(freeze_at)

    def _create(self, *, pretrained: bool, **options: Any) -> Any:
        """A model of timm; its weights on three channels become those on others as `for_channels` says."""
        if self.in_channels == 3 or not pretrained:
            return timm.create_model(self.name, pretrained=pretrained, in_chans=self.in_channels, **options)
        network = timm.create_model(self.name, pretrained=False, in_chans=self.in_channels, **options)
        state = timm.create_model(self.name, pretrained=True, **options).state_dict()
        for key, expected in network.state_dict().items():
            if state[key].shape != expected.shape:
                state[key] = for_channels(state[key], self.in_channels, self._color_places)
                logger.info("%s: %s of 3 channels is widened to %d", self.name, key, self.in_channels)
        network.load_state_dict(state)
        return network

    def _build_pyramid(self, channels: int) -> SimpleFeaturePyramid:
        patch_size = self.body.feature_info.reduction()[-1]
        if math.log2(patch_size) % 1:
            raise ValueError(f"{self.name} has patches of {patch_size} pixels; strides 4 to 32 need a power of two")
        return SimpleFeaturePyramid(self.body.feature_info.channels()[-1], patch_size, self.strides, channels)

    def _find_levels(self) -> dict[str, int]:
        """Position among the body's features of each output; of several with one stride the last."""
        position = {stride: index for index, stride in enumerate(self.body.feature_info.reduction())}
        missing = [stride for stride in self.strides.values() if stride not in position]
        if missing:
            raise ValueError(
                f"{self.name} has features at strides {sorted(position)}, not at {missing}, which out_features asks for"
            )
        return {feature: position[stride] for feature, stride in self.strides.items()}

    def _freeze_vit(self, freeze_at: int) -> None:
        if not freeze_at:
            return
        vit = self.body.model
        num_blocks = len(vit.blocks) * (freeze_at - 1) // len(STRIDES)
        self.freeze(module for child, module in vit.named_children() if child != "blocks")
        self.freeze(vit.blocks[:num_blocks])
        for embedding in vit.parameters(recurse=False):
            embedding.requires_grad_(False)

    def _freeze_stages(self, freeze_at: int) -> None:
        if not freeze_at:
            return
        features: Any = self.body.feature_info
        by_stride = dict(zip(features.reduction(), features.module_name(), strict=True))
        # Through the end of the stage named, for freeze_at 1 short of the stage of res2. Where timm gives the stages as
        # children, or as children of one child, their order is that of the computation.
        names = list(_in_order(self.body, by_stride.values()))
        stage = by_stride[2 ** max(freeze_at, 2)]
        last = stage if stage in names else stage.replace(".", "_")
        if last not in names:
            raise ValueError(
                f"stages of {self.name} cannot be told apart for freezing: set freeze_at 0, not {freeze_at}"
            )
        self.freeze(self.body.get_submodule(child) for child in names[: names.index(last) + (freeze_at > 1)])

    @torch.no_grad()
    def _check_shapes(self) -> None:
        """One small image through: ValueError unless the channels and strides are as promised."""
        height, width = 2 * _COARSEST, 3 * _COARSEST
        training = self.training
        try:
            outputs = self.eval()(torch.zeros(1, self.in_channels, height, width))
        except (AssertionError, RuntimeError) as error:
            raise ValueError(f"{self.name} does not take images of any size, such as {height} x {width}") from error
        finally:
            self.train(training)
        for feature, stride in self.strides.items():
            expected = (1, self.num_features[feature], height // stride, width // stride)
            if outputs[feature].shape != expected:
                raise ValueError(
                    f"{self.name}: {feature} should be {expected} for an image of {height} x {width}, "
                    f"got {tuple(outputs[feature].shape)}"
                )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, H, W) -> for each output (B, C, ceil(H / stride), ceil(W / stride))."""
        height, width = image.shape[-2:]
        features = self.body(F.pad(image, (0, -width % _COARSEST, 0, -height % _COARSEST)))
        if self.pyramid is not None:
            levels = self.pyramid(features[-1])
        else:
            levels = {feature: self._channels_first(features[index]) for feature, index in self._indices.items()}
        return {
            feature: levels[feature][:, :, : -(-height // stride), : -(-width // stride)]
            for feature, stride in self.strides.items()
        }

    def _channels_first(self, features: Tensor) -> Tensor:
        channels_last = getattr(self.body, "output_fmt", Format.NCHW) == Format.NHWC
        return features.permute(0, 3, 1, 2) if channels_last else features


class SimpleFeaturePyramid(nn.Module):
    """The levels of a pyramid, each on its own from the last map of a plain ViT (arXiv 2203.16527, section 3).

    A level is reached by transposed convolutions of stride 2, by nothing, or by max pooling, then goes through a 1 x 1
    and a 3 x 3 convolution, each followed by a layer norm over channels.
    """

    def __init__(self, in_channels: int, in_stride: int, strides: dict[str, int], out_channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleDict(
            {name: _pyramid_level(in_channels, in_stride, stride, out_channels) for name, stride in strides.items()}
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, h, w) -> by name (B, out_channels, h * in_stride / stride, w * in_stride / stride)."""
        return {name: level(features) for name, level in self.levels.items()}


def _pyramid_level(in_channels: int, in_stride: int, stride: int, out_channels: int) -> nn.Sequential:
    steps: list[nn.Module] = []
    channels = in_channels
    for step in range(int(math.log2(in_stride / stride))):
        if step:
            steps += [LayerNorm2d(channels), nn.GELU()]
        # Channels are halved with each doubling of the map.
        steps.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels //= 2
    if stride > in_stride:
        steps.append(nn.MaxPool2d(kernel_size=stride // in_stride))
    steps += [nn.Conv2d(channels, out_channels, kernel_size=1, bias=False), LayerNorm2d(out_channels)]
    steps += [nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False), LayerNorm2d(out_channels)]
    return nn.Sequential(*steps)


def _in_order(body: nn.Module, stages: Iterable[str]) -> Iterator[str]:
    """Names of the children, and of a child's own children where one of `stages` is among these."""
    parents = {stage.rpartition(".")[0] for stage in stages}
    for name, child in body.named_children():
        if name in parents:
            yield from (f"{name}.{part}" for part, _ in child.named_children())
        else:
            yield name


def _check_names(name: str, out_features: Sequence[str]) -> None:
    # A name with a colon says where timm finds the model: "hf-hub:...", "local-dir:...".
    if ":" not in name and not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        raise ValueError(f"timm {timm.__version__} has no model {name!r}; near it: {', '.join(near) or 'none'}")
    unknown = [feature for feature in out_features if feature not in STRIDES]
    if unknown or not out_features:
        raise ValueError(f"out_features must be some of {list(STRIDES)}, got {list(out_features)}")
