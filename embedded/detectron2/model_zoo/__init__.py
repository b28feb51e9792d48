"""Detectron2's model zoo: the configurations of its R-CNNs, made from a table, and the addresses of their weights."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from detectron2._left_out import INSTALL_LINE
from detectron2.config import CfgNode, get_cfg

_WEIGHTS = "https://dl.fbaipublicfiles.com/detectron2"


@cache
def _table() -> dict[str, Any]:
    return yaml.safe_load(resources.files(__name__).joinpath("models.yaml").read_text("utf-8"))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="model_zoo_")  # goes with the process
    for name, tree in _table()["bases"].items():
        Path(folder.name, f"Base-RCNN-{name}.yaml").write_text(yaml.safe_dump(tree))
    return folder


def _entry(config_path: str) -> tuple[str, dict[str, Any]]:
    """(name, entry of the table). RuntimeError for a name that is not there."""
    name = config_path.removesuffix(".yaml").removesuffix(".py")
    if name not in _table()["models"]:
        raise RuntimeError(
            f"{config_path} is not in the embedded model zoo, which has Faster R-CNN, Mask R-CNN and Panoptic FPN."
            f" Install the real Detectron2 in its place: {INSTALL_LINE}"
        )
    return name, _table()["models"][name]


def get_checkpoint_url(config_path: str) -> str:
    """Address of the weights of a configuration such as "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"."""
    name, entry = _entry(config_path)
    if "weights" not in entry:
        raise RuntimeError(f"no weights of {name} are published")
    return f"{_WEIGHTS}/{name}/{entry['weights']}.pkl"


def get_config_file(config_path: str) -> str:
    """Path of the yaml, which lasts as long as this process."""
    name, entry = _entry(config_path)
    path = Path(_folder().name, f"{name}.yaml")
    path.parent.mkdir(exist_ok=True)
    own = {key: value for key, value in entry.items() if key not in ("base", "weights")}
    path.write_text(yaml.safe_dump({"_BASE_": f"../Base-RCNN-{entry['base']}.yaml", **own}))
    return str(path)


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """The configuration; with `trained`, MODEL.WEIGHTS is the address of its trained weights."""
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg
