"""Communication between the training processes. Everything works, trivially, when there is only one process."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

_LOCAL_PROCESS_GROUP: dist.ProcessGroup | None = None


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    return dist.get_world_size() if _initialized() else 1


def get_rank() -> int:
    return dist.get_rank() if _initialized() else 0


def is_main_process() -> bool:
    return get_rank() == 0


@functools.cache
def create_local_process_group(num_workers_per_machine: int) -> None:
    """Form one group per machine out of consecutive ranks. Every process must call it once, right after init."""
    global _LOCAL_PROCESS_GROUP
    world_size = get_world_size()
    if world_size % num_workers_per_machine:
        raise ValueError(f"{world_size} processes cannot be split into machines of {num_workers_per_machine}")
    own_machine = get_rank() // num_workers_per_machine
    for machine in range(world_size // num_workers_per_machine):
        first = machine * num_workers_per_machine
        group = dist.new_group(list(range(first, first + num_workers_per_machine)))
        if machine == own_machine:
            assert isinstance(group, dist.ProcessGroup), "a process is a member of its own machine's group"
            _LOCAL_PROCESS_GROUP = group


def get_local_process_group() -> dist.ProcessGroup:
    """The group of this machine's processes; `create_local_process_group` must have been called."""
    assert _LOCAL_PROCESS_GROUP is not None, "no local process group: use engine.launch or create_local_process_group"
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """Rank within this machine."""
    return dist.get_rank(group=get_local_process_group()) if _initialized() else 0


def get_local_size() -> int:
    """Number of processes on this machine."""
    return dist.get_world_size(group=get_local_process_group()) if _initialized() else 1


def synchronize() -> None:
    """Wait until every process has come here."""
    if get_world_size() > 1:
        nccl = dist.get_backend() == dist.Backend.NCCL
        dist.barrier(device_ids=[torch.cuda.current_device()] if nccl else None)


@functools.cache
def _get_global_gloo_group() -> Any:
    """A group over all processes that can carry Python objects held in host memory."""
    return dist.new_group(backend="gloo") if dist.get_backend() == dist.Backend.NCCL else dist.group.WORLD


def all_gather(data: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Every process's `data` (anything that pickles), ordered by rank, in every process."""
    if get_world_size() == 1:
        return [data]
    group = group or _get_global_gloo_group()
    gathered = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: Any, dst: int = 0, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Every process's `data`, ordered by rank, in process `dst`; an empty list in the others."""
    if get_world_size() == 1:
        return [data]
    group = group or _get_global_gloo_group()
    gathered = [None] * dist.get_world_size(group) if dist.get_rank(group) == dst else None
    dist.gather_object(data, gathered, dst=dst, group=group)
    return gathered or []


def shared_random_seed() -> int:
    """A random number below 2**31 that is the same in all processes. All of them must call it."""
    return all_gather(int(np.random.randint(2**31)))[0]
