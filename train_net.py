"""Train or evaluate a model.

python train_net.py --config-file FILE.yaml [--import FILE.py] [--eval-only] [--resume] [--num-gpus N] KEY VALUE ...
"""

from __future__ import annotations

import sys

from mask2former_ext.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
