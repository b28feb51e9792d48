"""Start one function in all training processes: by spawning them here, or inside those that torchrun has started."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

DEFAULT_TIMEOUT = timedelta(minutes=30)

_TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


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
    if all(name in os.environ for name in _TORCHRUN_VARIABLES):
        _run_under_torchrun(main_func, num_gpus_per_machine * num_machines, args, timeout)
        return
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*args)
        return
    if torch.cuda.is_available() and num_gpus_per_machine > torch.cuda.device_count():
        raise ValueError(
            f"{num_gpus_per_machine} processes per machine were asked for; it has {torch.cuda.device_count()} GPUs"
        )
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise ValueError(f"dist_url: {dist_url!r} works on one machine only, got {num_machines} machines")
        dist_url = f"tcp://127.0.0.1:{_find_free_port()}"
    elif num_machines > 1 and dist_url.startswith("file://"):
        logging.getLogger(__name__).warning(f"dist_url {dist_url}: machines meet more reliably at a tcp:// address")
    mp.start_processes(
        _spawned_worker,
        nprocs=num_gpus_per_machine,
        args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
        daemon=False,
    )


def _spawned_worker(
    local_rank: int,
    main_func: Callable[..., Any],
    world_size: int,
    processes_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple[Any, ...],
    timeout: timedelta,
) -> None:
    rank = machine_rank * processes_per_machine + local_rank
    rendezvous = {"init_method": dist_url, "world_size": world_size, "rank": rank}
    _run_in_group(main_func, local_rank, processes_per_machine, args, timeout, rendezvous)


def _run_under_torchrun(
    main_func: Callable[..., Any], asked_processes: int, args: tuple[Any, ...], timeout: timedelta
) -> None:
    world_size = int(os.environ["WORLD_SIZE"])
    if asked_processes > 1 and asked_processes != world_size:
        raise ValueError(f"torchrun has started {world_size} processes, but the arguments ask for {asked_processes}")
    if world_size == 1 or dist.is_initialized():
        main_func(*args)
        return
    local_rank, local_world_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    _run_in_group(main_func, local_rank, local_world_size, args, timeout, {"init_method": "env://"})


def _run_in_group(
    main_func: Callable[..., Any],
    local_rank: int,
    processes_per_machine: int,
    args: tuple[Any, ...],
    timeout: timedelta,
    rendezvous: dict[str, Any],
) -> None:
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group(backend="nccl" if has_gpu else "gloo", timeout=timeout, **rendezvous)
    comm.create_local_process_group(processes_per_machine)
    comm.synchronize()
    main_func(*args)
    # Meet, then leave Python's lock to the threads of a gloo group, which need it to release their last result: a group
    # destroyed before that locks up (PyTorch 2.6) or aborts the process at its exit (2.15).
    comm.synchronize()
    time.sleep(0.5)
    # Not in a `finally`: after a failure the others may be waiting in a collective, and leaving would wait for them.
    dist.destroy_process_group()


def _find_free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
