"""The catalog of published checkpoints that this package loads: `published_models.yaml`, read into records once."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mask2former_ext.safe_reading.yaml_files import read_yaml

_CATALOG = Path(__file__).with_name("published_models.yaml")
_NAMES_SHOWN = 3
DEFAULT_MODEL = "mask2former-swin-tiny-coco-panoptic"  # where a person names none


@dataclass(frozen=True)
class PublishedModel:
    """One checkpoint; nothing of it is on this machine until `interop.hub.fetch` brings it."""

    name: str
    architecture: str  # our MODEL.META_ARCHITECTURE
    backbone: str
    data: str  # what it was trained on, and for which task
    scores: Mapping[str, float]  # published for the validation set, in percent; empty: none are
    source: str  # address of the page that says scores and license
    license: str
    place: str  # "OWNER/NAME", a repository of the Hugging Face hub, or the https address of a file
    megabytes: int  # of the weights
    config: str  # our configuration
    changes: tuple[Any, ...]  # KEY, VALUE, ... over that
    tested: bool  # False: names and shapes of its tensors fit, the file itself was never loaded here

    @property
    def is_on_hub(self) -> bool:
        return not self.place.startswith("https://")

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"https://huggingface.co/{self.place}" if self.is_on_hub else self.place


@functools.cache
def published_models() -> tuple[PublishedModel, ...]:
    """All records, in the order of the catalog."""
    content = read_yaml(str(_CATALOG))
    projects, backbones = content["PROJECTS"], content["BACKBONES"]
    return tuple(
        _record(name, row, projects[row["project"]], backbones.get(row["backbone"], []))
        for name, row in content["MODELS"].items()
    )


def _record(name: str, row: Mapping[str, Any], project: Mapping[str, str], of_backbone: list[Any]) -> PublishedModel:
    return PublishedModel(
        name=name,
        architecture=row["architecture"],
        backbone=row["backbone"],
        data=row["data"],
        scores=row.get("scores", {}),
        source=project["source"],
        license=project["license"],
        place=row["hub"] if "hub" in row else project["files"] + row["file"],
        megabytes=row["megabytes"],
        config=row["config"],
        changes=(*of_backbone, *row.get("changes", ())),
        tested=row["tested"],
    )


def find_published(name: str) -> PublishedModel:
    """The checkpoint of this name, or of this repository of the hub. Raises ValueError, with the nearest names."""
    known = {model.name: model for model in published_models()}
    known |= {model.place: model for model in published_models() if model.is_on_hub}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=_NAMES_SHOWN, cutoff=0.0)
        raise ValueError(
            f"{name!r} is neither a file or folder here nor a published model; the nearest names are "
            f"{', '.join(near)}; `mask2former-ext models` lists all"
        )
    return known[name]
