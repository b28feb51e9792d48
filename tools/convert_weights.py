"""Turn weight files into safetensors. `python tools/convert_weights.py --help` lists the options."""

from __future__ import annotations

import sys

from mask2former_ext.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
