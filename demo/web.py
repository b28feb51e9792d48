"""Serve the web page for trained models. `python demo/web.py --help` lists the options."""

from __future__ import annotations

import sys

from mask2former_ext.web.app import main

if __name__ == "__main__":
    sys.exit(main())
