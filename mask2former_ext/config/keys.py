"""Every configuration key that this package adds to Detectron2's, and the one way to load a file.

`add_config(cfg)` adds the keys; `load_config(path, overrides)` reads our yaml, an upstream yaml or an upstream dump.
A key tells the truth: nine decoder layers are written 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode as CN
from detectron2.config import get_cfg

from mask2former_ext.config.own_files import add_own_keys
from mask2former_ext.config.shipped import config_path, shipped_config
from mask2former_ext.interop import huggingface
from mask2former_ext.interop.config_keys import as_tree, get_key, merge, parse_overrides
from mask2former_ext.interop.upstream_config import check_no_upstream_values, is_upstream, our_names, translate
from mask2former_ext.safe_reading.yaml_files import read_yaml


def load_config(path: str, overrides: Sequence[Any] = ()) -> CN:
    """The configuration in `path` (our yaml, an upstream yaml with its bases, or an upstream full dump), in our keys.

    `path` may also be the folder of a Hugging Face model (see `interop.huggingface`), or the name of a configuration
    that comes with the package, as "mask2former/coco_panoptic_r50"; so may a `_BASE_`. A file of that name goes first.
    `overrides` is a list KEY, VALUE, KEY, VALUE, ... in the language of the file or in ours. Nothing in the file is
    executed. Keys of files that `--import` names are known too (`config.own_files`). Raises FileNotFoundError, with the
    nearest names, for a file that is not there, and ValueError, naming the file, for an unknown key (with the nearest
    known one), a value of the wrong type and unsafe yaml.
    """
    cfg = get_cfg()
    add_config(cfg)
    add_own_keys(cfg)
    path = config_path(str(path))
    tree = huggingface.read_config(path) if huggingface.is_folder(path) else read_yaml(path, shipped_config)
    if is_upstream(tree, cfg):
        return translate(tree, overrides, cfg, path)
    cfg = merge(cfg, tree, path, our_names(get_key(tree, "MODEL.META_ARCHITECTURE")))
    names = our_names(cfg.MODEL.META_ARCHITECTURE)
    cfg = merge(cfg, as_tree(parse_overrides(overrides)), f"overrides of {path}", names)
    check_no_upstream_values(cfg, path)
    return cfg


def add_config(cfg: CN) -> None:
    """Add the keys of all models and the shared INPUT, DATASETS, DATALOADER and SOLVER keys to `cfg`, in place.

    The models and backbones are registered, unless they are already.
    """
    from mask2former_ext.models.backbones import add_backbone_config
    from mask2former_ext.models.mask2former import add_mask2former_config
    from mask2former_ext.models.mask_classifier import add_mask_classifier_config
    from mask2former_ext.models.maskformer import add_maskformer_config
    from mask2former_ext.models.oneformer import add_oneformer_config
    from mask2former_ext.models.pixel_classifier import add_per_pixel_config

    add_backbone_config(cfg)
    add_mask_classifier_config(cfg)
    add_maskformer_config(cfg)
    add_per_pixel_config(cfg)
    add_mask2former_config(cfg)
    add_oneformer_config(cfg)
    _add_class_config(cfg)
    _add_resnet_config(cfg)
    _add_input_config(cfg)
    _add_dataset_config(cfg)
    _add_solver_config(cfg)


def _add_class_config(cfg: CN) -> None:
    # The names, ids and colors of the classes that the model knows, in the form of `classes.ClassTable.to_dict`; empty:
    # not known. `prepare_data` writes it, so that a run's config.yaml names the classes where its data are not.
    cfg.MODEL.CLASSES = CN(new_allowed=True)


def _add_resnet_config(cfg: CN) -> None:
    # BACKBONE.NAME "build_resnet_deeplab_backbone" (Detectron2's DeepLab project) alone reads these.
    cfg.MODEL.RESNETS.STEM_TYPE = "deeplab"  # three 3x3 convolutions; "basic": one of 7x7
    cfg.MODEL.RESNETS.RES4_DILATION = 1  # of its 3x3 convolutions
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 2, 4]  # dilation of each block of res5, times RES5_DILATION


def _add_input_config(cfg: CN) -> None:
    # What the mapper makes of an image's annotations for training: "panoptic", "instance", "semantic", or one of these
    # drawn for each image: "unified" (OneFormer, arXiv 2211.06220, section 3.1).
    cfg.INPUT.TARGETS = "panoptic"
    # How often "unified" draws each: numbers >= 0 of sum 1. What an image has no truth for is left to the others.
    cfg.INPUT.TASK_PROBABILITIES = CN({"SEMANTIC": 1 / 3, "INSTANCE": 1 / 3, "PANOPTIC": 1 / 3})
    # "resize_crop": shortest edge to one of MIN_SIZE_TRAIN, optional crop, flip, padding to PAD_SIZE.
    # "large_scale_jitter": scale IMAGE_SIZE by a factor in [MIN_SCALE, MAX_SCALE], then crop and pad to IMAGE_SIZE.
    # "crop_resize": as resize_crop, but crop before the resizing (Detectron2's own mapper).
    # "detr": as crop_resize, but crop half of the images only, at sizes of their own (if CROP.ENABLED).
    cfg.INPUT.AUGMENTATION = "resize_crop"
    cfg.INPUT.COLOR_AUG_SSD = False  # change brightness, contrast, saturation and hue at random, as SSD does
    # A crop of resize_crop is drawn again (10 times at most) while one class covers more than this share. 1.0: never.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    # Side in pixels of the square to which resize_crop pads an image that is smaller (bottom and right); 0: none.
    cfg.INPUT.PAD_SIZE = 0
    cfg.INPUT.IMAGE_SIZE = 1024  # px; side of the square that large_scale_jitter gives
    cfg.INPUT.MIN_SCALE = 0.1  # the least factor of large_scale_jitter
    cfg.INPUT.MAX_SCALE = 2.0  # the greatest factor of large_scale_jitter


def _add_dataset_config(cfg: CN) -> None:
    # The user's own data in COCO form, each entry a dict with NAME, IMAGES and the truths it has:
    # INSTANCES (json), PANOPTIC_JSON with PANOPTIC_MASKS (folder), SEMANTIC_MASKS (folder). See datasets/README.md.
    cfg.DATASETS.CUSTOM = []
    # Where the published data sets lie; "" means the variable DETECTRON2_DATASETS, else "datasets".
    cfg.DATASETS.ROOT = ""
    # A broken image met during training is named and left out this many times; one more stops the run.
    cfg.DATALOADER.MAX_BROKEN_IMAGES = 10


def _add_solver_config(cfg: CN) -> None:
    cfg.SOLVER.OPTIMIZER = "ADAMW"  # or "SGD"
    # Learning-rate factor of the parameters under `backbone`.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 1.0
    # The same of what OneFormer's queries start from: the task's MLP and the transformer over the pixels.
    cfg.SOLVER.INITIAL_QUERIES_MULTIPLIER = 1.0
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0  # of embeddings
    # WarmupPolyLR: lr = BASE_LR * (1 - t / MAX_ITER) ** POLY_LR_POWER at step t.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0  # the rate does not fall below this share of BASE_LR
    # Steps in a row that were skipped since a loss or gradient is not finite, after which training stops with an error.
    cfg.SOLVER.MAX_NONFINITE_STEPS = 10
