"""A small Detectron2: the part of its documented API that segmentation projects touch, under its import names.

`detectron2.__embedded__` is True here and absent from the real package. What is left out raises an ImportError that
says how to install the real one.
"""

from __future__ import annotations

import sys

from detectron2._left_out import LeftOutModules

__version__ = "0.6+embedded"
__embedded__ = True

if not any(isinstance(finder, LeftOutModules) for finder in sys.meta_path):
    sys.meta_path.insert(0, LeftOutModules())
