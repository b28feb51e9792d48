"""Train or evaluate a model.

python train_net.py --config-file FILE.yaml [--import FILE.py] [--eval-only] [--resume] [--num-gpus N] KEY VALUE ...

KEY VALUE pairs override the configuration, in the language of the file they follow. Several GPUs, several CPU processes
(--num-gpus without a GPU) and torchrun all train one joint batch of SOLVER.IMS_PER_BATCH images.
"""

from __future__ import annotations

import argparse

from detectron2.evaluation import verify_results
from detectron2.utils import comm

import mask2former_ext  # noqa: F401  registers models and backbones
from mask2former_ext.engine import Trainer, argument_parser, evaluate, launch, setup


def main(args: argparse.Namespace) -> None:
    cfg = setup(args)
    if args.eval_only:
        results = evaluate(cfg, resume=args.resume)
        if comm.is_main_process():
            verify_results(cfg, results)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


if __name__ == "__main__":
    launch(main, argument_parser().parse_args())
