"""Start the processes of a run: one, several on GPUs, several on CPUs, or those that torchrun already started."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import torch
import torch.multiprocessing as mp
from detectron2.engine import launch as detectron2_launch

from mask2former_ext.distributed import free_port, join_process_group, leave_process_group


def launch(main: Callable, args: argparse.Namespace) -> None:
    """Call `main(args)` in `args.num_gpus` processes per machine (options of Detectron2's default_argument_parser).

    Under torchrun this process is one of those; without a GPU the processes talk by gloo on this machine.
    """
    if "LOCAL_WORLD_SIZE" in os.environ and "RANK" in os.environ:
        join_process_group(int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"]), init_method="env://")
        main(args)
        leave_process_group()
    elif args.num_gpus > 1 and not torch.cuda.is_available():
        if args.num_machines > 1:
            raise ValueError(f"--num-machines {args.num_machines} needs GPUs, or torchrun to start the processes")
        address = f"tcp://127.0.0.1:{free_port()}"
        mp.spawn(_cpu_worker, args=(main, args, address), nprocs=args.num_gpus, join=True)
    else:
        num_gpus = args.num_gpus if torch.cuda.is_available() else 1
        if num_gpus > torch.cuda.device_count() > 0:
            raise ValueError(f"--num-gpus {num_gpus}: this machine has {torch.cuda.device_count()}")
        detectron2_launch(
            main,
            num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )


def _cpu_worker(rank: int, main: Callable, args: argparse.Namespace, address: str) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // args.num_gpus))
    join_process_group(args.num_gpus, rank, init_method=address, world_size=args.num_gpus, rank=rank)
    main(args)
    leave_process_group()
