"""Checkpoints of training, and the weight files of Detectron2's model zoo."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from fvcore.common.checkpoint import Checkpointer
from torch import nn

# Buffers that follow from the config: models need not find them in a file, nor files in a model.
_MAY_BE_MISSING = ("pixel_mean", "pixel_std")
_MAY_BE_UNEXPECTED = "anchor_generator.cell_anchors"


class DetectionCheckpointer(Checkpointer):
    """fvcore's Checkpointer that also reads .pkl (numpy) and .pyth (pycls) files and can match names by their ends.

    Names are matched so where the file says it (zoo backbones do), is of Caffe2, or the path ends with
    `?matching_heuristics=True`. Files are read as data only.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **checkpointables: Any
    ) -> None:
        """`save_to_disk`: by default in the main process only. `checkpointables`: more objects with a state_dict."""
        save_to_disk = comm.is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.path_manager = PathManager
        self._matching_wanted = False

    def load(self, path: str | None, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load the file at `path` (nothing if empty) and return what it holds besides model and checkpointables."""
        path = path or ""
        parsed = urlsplit(path)
        query = parse_qs(parsed.query)
        unknown = set(query) - {"matching_heuristics"}
        if unknown:
            raise ValueError(f"{path}: unknown {sorted(unknown)} after '?'; known: matching_heuristics=True")
        self._matching_wanted = query.get("matching_heuristics") == ["True"]
        return super().load(path.removesuffix(f"?{parsed.query}"), *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        """A dict with "model", tensors or arrays by name, and whatever else the file holds."""
        from mask2former_ext.safe_reading.weight_files import load_pickle, load_torch

        if filename.endswith(".pkl"):
            with PathManager.open(filename, "rb") as file:
                content = load_pickle(file)
            if "model" not in content or "__author__" not in content:
                arrays = content.get("blobs", content)
                weights = {name: value for name, value in arrays.items() if not name.endswith("_momentum")}
                content = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
        else:
            content = load_torch(filename)
            if filename.endswith(".pyth") and "model_state" in content:
                content = {"model": content["model_state"], "__author__": "pycls", "matching_heuristics": True}
            elif "model" not in content:
                content = {"model": content}
        content.setdefault("matching_heuristics", False)
        content["matching_heuristics"] |= self._matching_wanted
        return content

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics", False):
            weights = {
                name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
                for name, value in checkpoint["model"].items()
            }
            checkpoint["model"] = align_and_update_state_dicts(
                self.model.state_dict(), weights, c2_conversion=checkpoint.get("__author__") == "Caffe2"
            )
        incompatible = super()._load_model(checkpoint)
        own_buffers = dict(self.model.named_buffers(recurse=False))
        for name in _MAY_BE_MISSING:
            if name in own_buffers and name in incompatible.missing_keys:
                incompatible.missing_keys.remove(name)
        incompatible.unexpected_keys[:] = [
            name for name in incompatible.unexpected_keys if _MAY_BE_UNEXPECTED not in name
        ]
        return incompatible
