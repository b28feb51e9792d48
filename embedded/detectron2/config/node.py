"""CfgNode: fvcore's, with yaml that is always read safely."""

from __future__ import annotations

import io
import logging
from functools import cache
from importlib import resources
from typing import Any

import yaml
from detectron2._left_out import left_out_message
from detectron2.utils.file_io import PathManager
from fvcore.common.config import CfgNode as _CfgNode


class _DefaultsLoader(yaml.SafeLoader):
    """For our own file of defaults, where !tuple marks what Python holds as a tuple."""


_DefaultsLoader.add_constructor("!tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))


class CfgNode(_CfgNode):
    """Configuration tree with attribute access; see yacs, and fvcore for `_BASE_` (one file, or a list of files)."""

    @classmethod
    def _open_cfg(cls, filename: str) -> io.StringIO:
        """The file as plain yaml: what fvcore reads next holds no tags any more."""
        if filename.endswith(".py"):
            raise ImportError(left_out_message(f"The lazy configuration {filename}"))
        with PathManager.open(filename, "r") as file:
            text = file.read()
        if "!!python/" in text:
            from mask2former_ext.safe_reading.yaml_files import PublishedLoader

            text = yaml.safe_dump(yaml.load(text, Loader=PublishedLoader), sort_keys=False)
        return io.StringIO(text)

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """The file over its bases. `allow_unsafe` exists for the sake of callers: no file is ever read unsafely."""
        if allow_unsafe:
            logging.getLogger(__name__).debug("%s is read safely although allow_unsafe=True", filename)
        return super().load_yaml_with_base(filename, allow_unsafe=False)

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Merge a yaml file of the newest VERSION, which one is that does not say."""
        if not PathManager.isfile(cfg_filename):
            raise FileNotFoundError(f"config file {cfg_filename!r} does not exist")
        loaded = type(self)(self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe))
        version, latest = loaded.get("VERSION", self.VERSION), default_config().VERSION
        if version > latest:
            raise ValueError(f"{cfg_filename}: VERSION is {version}; the newest known is {latest}")
        if version < latest:
            raise ImportError(left_out_message(f"The reading of VERSION {version} ({cfg_filename})"))
        self.merge_from_other_cfg(loaded)


def _read_keys(package: str, name: str) -> dict[str, Any]:
    return yaml.load(resources.files(package).joinpath(name).read_text(encoding="utf-8"), Loader=_DefaultsLoader)


@cache
def default_config() -> CfgNode:
    """All keys with their defaults; shared, so clone it."""
    return CfgNode(_read_keys("detectron2.config", "defaults.yaml"))


def add_keys(cfg: CfgNode, package: str) -> None:
    """Add the keys of a project, which lie in the `keys.yaml` of its package."""

    def put(node: CfgNode, tree: dict[str, Any]) -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                put(node.setdefault(key, CfgNode()), value)
            else:
                node[key] = value

    put(cfg, _read_keys(package, "keys.yaml"))


def get_cfg() -> CfgNode:
    """A fresh config with all of Detectron2's keys at their defaults."""
    return default_config().clone()


_C = default_config()  # for those who know it as detectron2.config.defaults._C
