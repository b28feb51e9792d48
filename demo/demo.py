"""Segment images and videos with a trained model. `python demo/demo.py --help` lists the options."""

from __future__ import annotations

import sys

from mask2former_ext.commands.segment import main

if __name__ == "__main__":
    sys.exit(main())
