"""Segment images with a trained model: pictures, label files and json out.

python demo/demo.py --config-file F --input IMAGE_OR_FOLDER_OR_GLOB ... --output DIR --opts MODEL.WEIGHTS model.pth

In DIR: NAME_TASK.png (--save overlay), NAME_TASK_labels.png (--save labels), NAME.json (--save json).
Label files: semantic, the class of each pixel (255, or 65535 beyond 255 classes: unlabelled); panoptic, segment ids as
R + 256 G + 65536 B; instance, the number (from 1) of the instance in the json, 0 for none, higher scores on top.
"""

from __future__ import annotations

import argparse
import glob
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import mask2former_ext as m
from mask2former_ext import visualize
from mask2former_ext.architecture import answered_tasks
from mask2former_ext.data.datasets import thing_names
from mask2former_ext.data.image_io import BrokenImageError, read_image
from mask2former_ext.evaluation.average_precision import encode_mask

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEFAULT_INSTANCE_SCORE = 0.5


def semantic_results(image, scores, metadata, threshold: float | None) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Scores (K, H, W) -> overlay, label file, classes present with their pixels."""
    best, classes = (part.cpu().numpy() for part in scores.max(dim=0))
    if threshold is not None:
        classes = np.where(best < threshold, visualize.UNLABELLED, classes)
    depth = np.uint8 if len(scores) <= 255 else np.uint16
    labels = np.where(classes == visualize.UNLABELLED, np.iinfo(depth).max, classes).astype(depth)
    present = zip(*np.unique(classes[classes != visualize.UNLABELLED], return_counts=True), strict=True)
    content = [
        {"category_id": int(k), "name": visualize.class_name(metadata, int(k)), "area": int(n)} for k, n in present
    ]
    return visualize.draw_semantic(image, classes, metadata), labels, content


def instance_results(
    image, instances, metadata, threshold: float | None
) -> tuple[np.ndarray, np.ndarray | None, list[dict]]:
    """Instances -> overlay, label file (None if only boxes are known), things that score enough, best first."""
    threshold = DEFAULT_INSTANCE_SCORE if threshold is None else threshold
    instances = instances.to(torch.device("cpu"))
    kept = instances[instances.scores >= threshold]
    if metadata is not None:
        kept = kept[torch.isin(kept.pred_classes, torch.tensor(list(thing_names(metadata)), dtype=torch.int64))]
    kept = kept[kept.scores.argsort(descending=True, stable=True)]
    overlay, content = visualize.draw_instances(image, kept, metadata, min_score=threshold), []
    for k, score, box in zip(
        kept.pred_classes.tolist(), kept.scores.tolist(), kept.pred_boxes.tensor.tolist(), strict=True
    ):
        x0, y0, x1, y1 = box
        name = visualize.class_name(metadata, k, is_thing=True)
        content.append({"category_id": k, "name": name, "score": score, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    if not kept.has("pred_masks"):
        return overlay, None, content
    labels = np.zeros(image.shape[:2], dtype=np.uint16)
    for i in reversed(range(len(kept))):
        mask = np.asarray(kept.pred_masks[i]).astype(bool)
        labels[mask] = i + 1
        content[i]["segmentation"] = encode_mask(mask)
    return overlay, labels, content


def panoptic_results(image, panoptic_seg, metadata, threshold) -> tuple[np.ndarray, np.ndarray, list[dict]]:  # noqa: ARG001
    """Ids and segments -> overlay, label file, segments. The threshold is the model's, see `configure`."""
    ids, segments = panoptic_seg[0].cpu().numpy(), panoptic_seg[1]
    labels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
    names = [visualize.class_name(metadata, s["category_id"], s["isthing"]) for s in segments]
    content = [
        {**s, "name": name, "area": int((ids == s["id"]).sum())} for s, name in zip(segments, names, strict=True)
    ]
    return visualize.draw_panoptic(image, panoptic_seg, metadata), labels, content


# Task -> the model's key for it, and what makes overlay, label file and json content of that.
RESULTS = {
    "semantic": ("sem_seg", semantic_results),
    "instance": ("instances", instance_results),
    "panoptic": ("panoptic_seg", panoptic_results),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="our yaml, an upstream yaml or an upstream dump")
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help="images, folders, globs in quotes")
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.add_argument("--task", choices=[*RESULTS, "all"], help="default: the tasks that the model answers")
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        metavar="X",
        help="instance: least score (default 0.5); panoptic: least class probability of a segment, or score of a thing"
        " (default: the configuration's); semantic: a pixel whose best score is lower is unlabelled (default: none)",
    )
    parser.add_argument("--save", nargs="+", choices=["overlay", "labels", "json"], default=["overlay"])
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="configuration overrides"
    )
    args = parser.parse_args(argv)
    if args.confidence_threshold is not None and not 0 <= args.confidence_threshold <= 1:
        parser.error(f"--confidence-threshold is {args.confidence_threshold}, but must lie in [0, 1]")
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 if an input could not be read, 2 if nothing could be started."""
    args = parse_args(argv)
    output = Path(args.output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        predictor = m.Predictor(configure(args))
    except (ValueError, OSError) as error:
        print(f"demo.py: error: {error}", file=sys.stderr)
        return 2
    paths, failures = find_images(args.input)
    stems: set[str] = set()
    for path in tqdm(paths, unit="image"):
        try:
            image = read_image(path, "RGB")
        except BrokenImageError as error:
            failures.append(str(error))
            continue
        name = free_name(Path(path).stem, stems)
        save(image, predictor(image), predictor.metadata, output, name, path, args)
    for failure in failures:
        print(f"demo.py: error: {failure}", file=sys.stderr)
    print(f"{len(stems)} of {len(paths)} images segmented, results in {output}")
    return int(bool(failures))


def configure(args: argparse.Namespace):
    """The configuration with the asked tasks and threshold in it."""
    cfg = m.load_config(args.config_file, args.opts)
    if not cfg.MODEL.WEIGHTS:
        raise ValueError("MODEL.WEIGHTS is empty; a trained model is named by --opts MODEL.WEIGHTS FILE")
    tasks = cfg.MODEL.MASK_CLASSIFIER
    if args.task is not None:
        for task in RESULTS:
            tasks[f"{task.upper()}_ON"] = args.task in (task, "all")
    answered = answered_tasks(cfg)
    if args.task not in (None, "all", *answered):
        raise ValueError(f"--task {args.task}: {cfg.MODEL.META_ARCHITECTURE} answers {', '.join(answered)} alone")
    if args.confidence_threshold is not None:
        tasks.MIN_CLASS_PROB = args.confidence_threshold
        cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = args.confidence_threshold
    return cfg


def find_images(inputs: list[str]) -> tuple[list[str], list[str]]:
    """(image files in the order given, each once; a message for each input that leads to none)."""
    paths, failures = [], []
    for entry in inputs:
        if Path(entry).is_dir():
            found = sorted(str(path) for path in Path(entry).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        elif Path(entry).exists():
            found = [entry]
        else:
            found = sorted(glob.glob(entry, recursive=True))
        if not found:
            failures.append(f"{entry}: no image there")
        paths.extend(found)
    return list(dict.fromkeys(paths)), failures


def free_name(stem: str, taken: set[str]) -> str:
    """`stem`, or with a number where an image of another folder or format has it already."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name


def save(image, result: dict, metadata, output: Path, name: str, path: str, args: argparse.Namespace) -> None:
    """Write what --save asks for of one image."""
    content = {"file_name": path, "height": image.shape[0], "width": image.shape[1]}
    for task, (key, results) in RESULTS.items():
        if key not in result or args.task not in (None, "all", task):
            continue
        overlay, labels, content[task] = results(image, result[key], metadata, args.confidence_threshold)
        if "overlay" in args.save:
            Image.fromarray(overlay).save(output / f"{name}_{task}.png")
        if "labels" in args.save and labels is not None:
            Image.fromarray(labels).save(output / f"{name}_{task}_labels.png")
    if "json" in args.save:
        (output / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
