"""Going on when a GPU runs out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def _to_cpu(value: Any) -> Any:
    return value.to(device="cpu") if getattr(getattr(value, "device", None), "type", "") == "cuda" else value


def retry_if_cuda_oom(func: Callable) -> Callable:
    """`func`; out of CUDA memory it is tried again after freeing the cache, then with its arguments on the CPU.

    The last try gives its result on the CPU. Only direct arguments with a `device` move, not those in containers. The
    function must not keep state, since it may run up to three times.
    """

    @wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for free_cache in (False, True):
            if free_cache:
                torch.cuda.empty_cache()
            try:
                return func(*args, **kwargs)
            except torch.cuda.OutOfMemoryError:
                logging.getLogger(__name__).debug("out of CUDA memory in %s", func)
        logging.getLogger(__name__).info("out of CUDA memory: %s goes on on the CPU", func)
        return func(*map(_to_cpu, args), **{name: _to_cpu(value) for name, value in kwargs.items()})

    return wrapped
