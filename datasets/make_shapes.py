"""Make the data set "shapes" on disk. `python datasets/make_shapes.py --help` lists the options."""

from __future__ import annotations

import sys

from mask2former_ext.commands.make_shapes import main

if __name__ == "__main__":
    sys.exit(main())
