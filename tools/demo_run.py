"""What `make demo` does: make the shapes data, train a small Mask2Former on it, score it, draw what it sees.

Everything lies under --output (default output/demo). A second run with the same settings goes on where the last one
stopped; --fresh starts over.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image
from tqdm import tqdm

import mask2former_ext as m
from mask2former_ext.config import add_import_option
from mask2former_ext.data.image_io import read_image
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.engine import Trainer, argument_parser, evaluate, results_table, setup
from mask2former_ext.inference.drawing import draw_panoptic, enlarge, panoptic_truth

CONFIG = "configs/mask2former/shapes_panoptic.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="output/demo")
    parser.add_argument("--config-file", default=CONFIG)
    add_import_option(parser)
    parser.add_argument("--fresh", action="store_true", help="delete what an earlier run left and start over")
    parser.add_argument("--columns", type=int, default=4, help="images in the picture (default: %(default)s)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs that override the configuration")
    args = parser.parse_args()
    if args.fresh:
        shutil.rmtree(args.output, ignore_errors=True)
    start = time.perf_counter()
    data = os.path.join(args.output, "datasets")
    print(f"1/3 the synthetic data set 'shapes' in {data}/shapes", flush=True)
    make_shapes(os.path.join(data, "shapes"), Recipe(), lambda items: tqdm(items, desc="shapes", unit="img"))

    print("2/3 training, then scores on unseen images", flush=True)
    cfg = setup(_arguments(args, data))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    if trainer.start_iter < trainer.max_iter:
        trainer.train()
        results = trainer.last_results
    else:
        results = evaluate(cfg, resume=True)

    print("3/3 the picture", flush=True)
    path = os.path.join(args.output, "demo.png")
    _draw(cfg, os.path.join(cfg.OUTPUT_DIR, "model_final.pth"), path, args.columns)
    minutes = (time.perf_counter() - start) / 60
    with open(os.path.join(args.output, "results.json"), "w") as file:
        json.dump({"minutes": round(minutes, 2), **results}, file, indent=1)
    print(f"\n{results_table(results)}\n\n{minutes:.1f} minutes")
    print(f"Look at {path}: the rows are image, truth and what the model sees.")


def _arguments(args: argparse.Namespace, data: str) -> argparse.Namespace:
    options = ["OUTPUT_DIR", os.path.join(args.output, "model"), "DATASETS.ROOT", data, *args.opts]
    imports = [word for file in args.imports for word in ("--import", file)]
    return argument_parser().parse_args(["--config-file", args.config_file, *imports, *options])


def _draw(cfg: CfgNode, weights: str, path: str, columns: int) -> None:
    """A sheet of `columns` unseen images: image, truth and prediction below each other."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights
    predictor = m.Predictor(cfg)
    name = cfg.DATASETS.TEST[0]
    strips = []
    for record in DatasetCatalog.get(name)[:columns]:
        image = read_image(record["file_name"], "RGB")
        truth = draw_panoptic(image, panoptic_truth(record), predictor.classes, keep_size=False)
        seen = draw_panoptic(image, predictor(image)["panoptic_seg"], predictor.classes, keep_size=False)
        strips.append(np.concatenate([enlarge(image), truth, seen]))
    Image.fromarray(np.concatenate(strips, axis=1)).save(path)


if __name__ == "__main__":
    main()
