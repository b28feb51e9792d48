"""Bring a published checkpoint to this machine: once, whole, with its checksums kept beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import HfFileMetadata, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from mask2former_ext.folders import open_folder
from mask2former_ext.interop import huggingface
from mask2former_ext.interop.published import PublishedModel
from mask2former_ext.safe_reading.weight_files import sha256_of

_CHECKSUMS = "sha256.json"  # {file name: checksum}; written last, so that a folder that has it is whole
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MD5_START = re.compile(r"model_final_([0-9a-f]{6})\.pkl")  # Detectron2's and Meta's zoos name files so
# What goes wrong on the way: those of the HTTP library that the hub's client stands on, which it does not name itself.
_NETWORK_ERRORS: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)  # type: ignore[assignment]


def fetch(model: PublishedModel, agree: Callable[[PublishedModel], bool]) -> str:
    """The path for MODEL.WEIGHTS: a Hugging Face folder or a file. The second time nothing is downloaded.

    agree: asked before a download; a checkpoint has a size and a license. A download is checked against the checksum
    that its place gives, and the kept file against that of the download.
    Raises ValueError where `agree` says no, a checksum differs, the place holds another architecture, or the folder of
    downloads cannot be written; OSError, in one line, where the place cannot be reached. A download that fails leaves
    nothing behind.
    """
    folder = _home() / model.name
    if not (folder / _CHECKSUMS).is_file():
        if not agree(model):
            raise ValueError(f"{model.name} is not on this machine, and was not downloaded")
        open_folder(_home(), "the folder of downloads (TORCH_HOME)")
        with tempfile.TemporaryDirectory(dir=_home(), prefix=f".{model.name}-") as part:
            whole = Path(part) / model.name
            whole.mkdir()
            try:
                _download(model, whole)
            except _NETWORK_ERRORS as error:
                raise OSError(_unreachable(model, error)) from error
            _keep_checksums(whole)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(whole, folder)
    files = _check_kept(folder)
    return str(folder if model.is_on_hub else folder / files[0])


def _home() -> Path:
    return Path(torch.hub.get_dir()) / "published"


def _download(model: PublishedModel, folder: Path) -> None:
    if not model.is_on_hub:
        _download_file(model, folder / Path(model.place).name)
        return
    endpoint = os.environ.get("HF_ENDPOINT")
    bring = partial(hf_hub_download, model.place, local_dir=folder, endpoint=endpoint)
    # Out of reach, this fails at once, while a download tries again for half a minute.
    get_hf_file_metadata(hf_hub_url(model.place, "config.json", endpoint=endpoint))
    bring("config.json")
    try:
        found = huggingface.architecture_of(str(folder))
    except ValueError as error:
        raise ValueError(str(error).replace(str(folder), model.address)) from error
    if found != model.architecture:
        raise ValueError(f"{model.address} holds a {found}, but {model.name} is a {model.architecture}")
    with contextlib.suppress(EntryNotFoundError):
        bring("preprocessor_config.json")
    name, metadata = _weights_on_hub(model, endpoint)
    file = Path(bring(name, revision=metadata.commit_hash))
    if metadata.etag is not None and _SHA256.fullmatch(metadata.etag):
        _compare(file, sha256_of(file), metadata.etag, model)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes on what it has downloaded


def _weights_on_hub(model: PublishedModel, endpoint: str | None) -> tuple[str, HfFileMetadata]:
    """The file's name and what the hub says of it: of a large file its sha256 as `etag`."""
    for name in (huggingface.SAFETENSORS, huggingface.PICKLE):
        with contextlib.suppress(EntryNotFoundError):
            return name, get_hf_file_metadata(hf_hub_url(model.place, name, endpoint=endpoint))
    raise ValueError(f"{model.address} holds neither {huggingface.SAFETENSORS} nor {huggingface.PICKLE}")


def _download_file(model: PublishedModel, file: Path) -> None:
    torch.hub.download_url_to_file(model.place, str(file), progress=True)
    start = _MD5_START.fullmatch(file.name)
    assert start is not None, f"{file.name} holds no checksum"
    _compare(file, hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()[:6], start[1], model)


def _compare(file: Path, found: str, expected: str, model: PublishedModel) -> None:
    if found != expected:
        raise ValueError(f"{file.name} of {model.address} has the checksum {found}, but must have {expected}")


def _keep_checksums(folder: Path) -> None:
    sums = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    (folder / _CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def _check_kept(folder: Path) -> list[str]:
    """The names of the folder's files, each of which is still what was downloaded."""
    file = folder / _CHECKSUMS
    try:
        sums = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        sums = None
    damaged = [] if isinstance(sums, dict) and sums else [file]
    damaged += [] if damaged else [folder / name for name in sums if not _is_as_kept(folder / name, sums[name])]
    if damaged:
        raise ValueError(f"{damaged[0]} is no longer what was downloaded: delete {folder}, and it is fetched anew")
    return list(sums)


def _is_as_kept(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _unreachable(model: PublishedModel, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"{model.address} could not be reached or read ({reason}); a copy of it on this machine works, too: "
        f"--model {model.name} --weights {'FOLDER' if model.is_on_hub else 'FILE'}"
    )
