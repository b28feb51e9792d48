"""Where the tests find things, and which Detectron2 they run on."""

from __future__ import annotations

import os
from pathlib import Path

import detectron2

ROOT = Path(__file__).resolve().parents[1]
# The folder of recorded models (`fixtures`) and real images (`data`), which the repository does not hold.
SHARED = Path(os.environ.get("MASK2FORMER_EXT_SHARED", ROOT.parent / "shared"))
EMBEDDED = getattr(detectron2, "__embedded__", False)
