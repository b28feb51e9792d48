"""A folder for results is made and tried before the work whose results it shall hold."""

from __future__ import annotations

import os
from pathlib import Path


def open_folder(path: str | Path, name: str) -> Path:
    """Make the folder, and those above it, where it is missing, and write a file into it for a moment.

    `name` is what a user calls it ("OUTPUT_DIR"). Raises ValueError if it cannot be made or written to.
    """
    folder = Path(path)
    probe = folder / f".write_test_{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"{name} {str(path)!r} cannot be written: {error.strerror or error}") from error
    return folder
