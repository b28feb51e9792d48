"""catalog://: names of published models instead of their addresses."""

from __future__ import annotations

from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager

_PREFIX = "https://dl.fbaipublicfiles.com/detectron/"
_IMAGENET = {
    "MSRA/R-50": "ImageNetPretrained/MSRA/R-50.pkl",
    "MSRA/R-101": "ImageNetPretrained/MSRA/R-101.pkl",
    "FAIR/R-50-GN": "ImageNetPretrained/47261647/R-50-GN.pkl",
    "FAIR/R-101-GN": "ImageNetPretrained/47592356/R-101-GN.pkl",
    "FAIR/X-101-32x8d": "ImageNetPretrained/20171220/X-101-32x8d.pkl",
    "FAIR/X-101-64x4d": "ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
    "FAIR/X-152-32x8d-IN5k": "ImageNetPretrained/25093814/X-152-32x8d-IN5k.pkl",
}


class ModelCatalogHandler(PathHandler):
    """catalog://ImageNetPretrained/<name> is a backbone trained on ImageNet."""

    PREFIX = "catalog://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _url(self, path: str) -> str:
        family, _, name = path.removeprefix(self.PREFIX).partition("/")
        if family != "ImageNetPretrained" or name not in _IMAGENET:
            raise ValueError(f"{path}: not in the catalog, which has ImageNetPretrained/ with {sorted(_IMAGENET)}")
        return _PREFIX + _IMAGENET[name]

    def _get_local_path(self, path: str, **kwargs: Any) -> str:
        return PathManager.get_local_path(self._url(path), **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs: Any) -> IO:
        return PathManager.open(self._url(path), mode, **kwargs)


PathManager.register_handler(ModelCatalogHandler())
