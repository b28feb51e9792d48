"""The process's environment: seeds, versions."""

from __future__ import annotations

import logging
import os
import random

import numpy as np
import torch

TORCH_VERSION = tuple(int(number) for number in torch.__version__.split(".")[:2])


def seed_all_rng(seed: int | None = None) -> None:
    """Seed the generators of Python, NumPy and torch; with None, by 31 bits of the operating system, logged."""
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "big") >> 1
        logging.getLogger(__name__).info("seed drawn from the operating system: %s", seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)  # for processes started from here
