"""Train or evaluate a model.

--config-file takes a file or the name of one that comes with the package, as mask2former/coco_panoptic_r50. KEY VALUE
pairs override it, in the language of the file that they follow. Several GPUs, several CPU processes (--num-gpus without
a GPU) and torchrun all train one joint batch of SOLVER.IMS_PER_BATCH images.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from detectron2.evaluation import verify_results
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from mask2former_ext.commands.mistakes import told
from mask2former_ext.engine import Trainer, argument_parser, checked_configuration, evaluate, launch, setup


def main(argv: Sequence[str] | None = None, prog: str = "train_net.py") -> int:
    """Returns the exit code: 0, or 2 where a mistake of the person ended the run."""
    parser = argument_parser()
    parser.prog, parser.description = prog, __doc__
    args = parser.parse_args(argv)
    args.prog = prog  # which the processes of a run name, too
    return told(prog, partial(_start, args))


def _start(args: argparse.Namespace) -> None:
    if args.num_gpus > 1 and "LOCAL_WORLD_SIZE" not in os.environ:  # which torchrun sets, for processes that it started
        checked_configuration(args, args.num_gpus * args.num_machines)  # once, before each process does
    try:
        launch(_run_in_process, args)
    except ProcessExitedException as error:
        if error.exit_code != 2:
            raise
        sys.exit(2)  # the process has told why


def _run_in_process(args: argparse.Namespace) -> None:
    """What each process of a run does."""
    code = told(args.prog, partial(run, args))
    if code:
        sys.exit(code)


def run(args: argparse.Namespace) -> None:
    cfg = setup(args)
    if args.eval_only:
        results = evaluate(cfg, resume=args.resume)
        if comm.is_main_process():
            verify_results(cfg, results)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
