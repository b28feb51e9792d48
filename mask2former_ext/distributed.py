"""All that processes sum, agree on or wait for."""

from __future__ import annotations

import socket
import time
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def check_finite(outputs: dict[str, list[Tensor]], *, part: str, names: list[str], together: bool) -> None:
    """FloatingPointError naming `part`, images and outputs unless all are finite; `outputs` hold a tensor per image.

    With `together` in all processes: one that went on alone would wait for the others for ever.
    """
    pairs = [(name, output) for output in outputs for name in names]
    finite = torch.stack([x.isfinite().all() for tensors in outputs.values() for x in tensors]).tolist()
    if all(comm.all_gather(all(finite)) if together else finite):
        return
    broken = [f"{name}: {output}" for (name, output), good in zip(pairs, finite, strict=True) if not good]
    raise FloatingPointError(f"outputs of the {part} are not finite: {'; '.join(broken) or 'in another process'}")


def per_process(total: Tensor, at_least: float | None = None) -> Tensor:
    """Sum over processes / number of processes: divided by it, losses averaged over processes are the joint batch's."""
    world_size = comm.get_world_size()
    if world_size > 1:
        total = total.clone()
        torch.distributed.all_reduce(total)
    if at_least is not None:
        total = total.clamp(min=at_least)
    return total / world_size


def of_all_processes(x: Tensor) -> Tensor:
    """(B, ...) of each -> (processes x B, ...), through which gradients flow back to where the rows came from."""
    return torch.cat(all_gather(x.contiguous())) if comm.get_world_size() > 1 else x


def in_all_processes(good: bool, device_type: str) -> bool:
    """True if `good` is True in every process."""
    if comm.get_world_size() == 1:
        return good
    flag = torch.tensor(int(good), device=device_type)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
    return bool(flag)


def join_process_group(local_size: int, local_rank: int, **options: Any) -> None:
    """Enter the group of all processes (`options`: of torch.distributed.init_process_group), and this machine's.

    They talk through nccl where there are GPUs, of which process `local_rank` takes its own, else through gloo.
    """
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if has_gpu else "gloo", **options)
    comm.create_local_process_group(local_size)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def leave_process_group() -> None:
    """Destroy the group once every process has come here.

    The threads of a gloo group need Python's lock to release their last result. A group destroyed before that locks up
    (PyTorch 2.6) or aborts its process at the exit (2.15: "terminate called without an active exception"), so they are
    given the lock for half a second.
    """
    comm.synchronize()
    time.sleep(0.5)
    dist.destroy_process_group()
