"""Start one function in all training processes: by spawning them here, or inside those that torchrun has started."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

DEFAULT_TIMEOUT = timedelta(minutes=30)


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run `main_func(*args)` in `num_machines * num_gpus_per_machine` processes; call it once on every machine.

    One process is this one. More are spawned (`main_func` and `args` have to pickle) and meet at `dist_url`; "auto" or
    None takes a free port, on one machine only. They talk through nccl where there are GPUs, else through gloo.
    Under torchrun nothing is spawned: its variables say who this process is.
    """
    world_size = num_machines * num_gpus_per_machine
    if "LOCAL_WORLD_SIZE" in os.environ and "RANK" in os.environ:
        started = int(os.environ["WORLD_SIZE"])
        if world_size not in (1, started):
            raise ValueError(f"torchrun has started {started} processes, but the arguments ask for {world_size}")
        places = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        if started == 1 or dist.is_initialized():
            main_func(*args)
        else:
            _run(*places, main_func, args, {"init_method": "env://", "timeout": timeout})
    elif world_size <= 1:
        main_func(*args)
    else:
        if torch.cuda.is_available() and num_gpus_per_machine > torch.cuda.device_count():
            raise ValueError(
                f"{num_gpus_per_machine} processes per machine, which has {torch.cuda.device_count()} GPUs"
            )
        group = {"init_method": _address(dist_url, num_machines), "world_size": world_size, "timeout": timeout}
        first_rank = machine_rank * num_gpus_per_machine
        arguments = (num_gpus_per_machine, main_func, args, group, first_rank)
        mp.start_processes(_run, nprocs=num_gpus_per_machine, args=arguments)


def _address(dist_url: str | None, num_machines: int) -> str:
    from mask2former_ext.distributed import free_port

    if dist_url not in (None, "auto"):
        return dist_url
    if num_machines > 1:
        raise ValueError(f"dist_url: {dist_url!r} works on one machine only, got {num_machines} machines")
    return f"tcp://127.0.0.1:{free_port()}"


def _run(
    local_rank: int,
    local_size: int,
    main_func: Callable[..., Any],
    args: tuple[Any, ...],
    group: dict[str, Any],
    first_rank: int | None = None,
) -> None:
    from mask2former_ext.distributed import join_process_group, leave_process_group

    rank = {} if first_rank is None else {"rank": first_rank + local_rank}
    join_process_group(local_size, local_rank, **group, **rank)
    main_func(*args)
    leave_process_group()  # not after a failure: the others may be waiting in a collective
