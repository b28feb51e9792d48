"""Segment images and videos with a trained model: pictures, videos, label files and json out. Needs no display.

photo.jpg folder/ 'more/*.png' clip.mp4 --config F --weights W --output DIR
photo.jpg --output DIR                                    the small model that `make demo` trained, or for
                                                          `mask2former-ext predict` a published one that knows COCO
photo.jpg --model NAME                                    of `mask2former-ext models`, or a Hugging Face folder
--webcam --config F --weights W --output DIR              until Ctrl-C

In DIR, of an image NAME: NAME_TASK.png (--save overlay), NAME_TASK_labels.png (--save labels), NAME.json (--save json);
of all images coco.json (--save coco). Of a video: NAME_TASK.mp4, NAME_TASK_labels/FRAME.png, NAME.jsonl (a line for
each frame) and NAME_tracks.json (tracks as YouTube-VIS has them). With --task all one overlay shows the tasks side by
side; without --task each task that the model answers gets its own.
Label files: semantic, the class of each pixel (255, or 65535 beyond 255 classes: unlabeled); panoptic, segment ids as
R + 256 G + 65536 B; instance, the number (from 1) of the instance in the json, 0 for none, higher scores on top.

Exit code: 0; 1 if an input could not be read or not to its end, the others were; 2 if nothing was started or saved.
"""

from __future__ import annotations

import argparse
import glob
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from PIL import Image
from tqdm import tqdm

from mask2former_ext.commands.mistakes import tell_mistake
from mask2former_ext.commands.trained_model import ask, configure, demo_model_notice, free_name
from mask2former_ext.config import add_import_option, import_own_files
from mask2former_ext.contract import TASKS, contract_of
from mask2former_ext.data.image_io import BrokenImageError, read_image
from mask2former_ext.folders import open_folder
from mask2former_ext.inference.drawing import Legend
from mask2former_ext.inference.prediction import summary
from mask2former_ext.inference.predictor import Predictor
from mask2former_ext.inference.saving import KINDS, ImageSaver, SaveOptions, VideoSaver
from mask2former_ext.inference.segmentation import check_classes
from mask2former_ext.inference.threads import read_predict_consume
from mask2former_ext.inference.video import (
    VIDEO_SUFFIXES,
    BrokenVideoError,
    Camera,
    VideoReader,
    fitted_size,
    resized,
    segment_frames,
)
from mask2former_ext.interop.published import DEFAULT_MODEL

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def parse_args(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_model_options(parser)
    add_import_option(parser)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images, videos, folders, globs in quotes")
    parser.add_argument("--input", nargs="+", default=[], metavar="PATH", help="the same as PATH without it")
    parser.add_argument(
        "--webcam", nargs="?", type=int, const=0, metavar="N", help="camera N (default 0), until Ctrl-C"
    )
    parser.add_argument("--output", default="out", metavar="DIR", help="for the results (default: %(default)s)")
    parser.add_argument(
        "--task", choices=[*TASKS, "all"], help="default: the tasks that the model answers; all: side by side"
    )
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        metavar="X",
        help="least score, 0 to 1, of an instance (default: 0.5), of a panoptic segment (default: the configuration's)"
        " and of a pixel's best class (default: 0)",
    )
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="leave out all other classes")
    parser.add_argument("--alpha", type=float, default=0.5, help="opacity of the masks, 0 to 1 (default: %(default)s)")
    parser.add_argument(
        "--color-by", choices=["class", "instance"], help="default: instances by instance, all else by class"
    )
    parser.add_argument(
        "--legend",
        choices=get_args(Legend),
        default="names",
        help="names of a semantic overlay of an image: in their regions, in a corner, or in a strip added below"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--enlarge", action="store_true", help="overlays of small images are made larger, which lets more names fit"
    )
    parser.add_argument("--save", nargs="+", choices=KINDS, default=["overlay"])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th frame of a video (default: each)")
    parser.add_argument("--max-size", type=int, metavar="PX", help="make images with a longer side smaller first")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the configuration's)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images that the model gets at once")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="configuration overrides"
    )
    args = parser.parse_args(argv)
    args.input = [*args.paths, *args.input]
    if args.published and args.config_file is None and args.model is None:
        args.model = DEFAULT_MODEL
    if args.weights is not None:
        args.opts = ["MODEL.WEIGHTS", args.weights, *args.opts]
    _check(parser, args)
    return args


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        *("--config-file", "--config"),
        metavar="F",
        help="our yaml, an upstream yaml or dump (default: see above)",
    )
    which.add_argument("--model", metavar="NAME", help="a published model by its name, or a Hugging Face folder")
    parser.add_argument("--yes", action="store_true", help="download a published model without asking")
    parser.add_argument("--published", action="store_true", help=argparse.SUPPRESS)  # the default is a published model
    parser.add_argument("--weights", metavar="FILE", help="the same as --opts MODEL.WEIGHTS FILE")


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for name in ("confidence_threshold", "alpha"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            parser.error(f"--{name.replace('_', '-')} is {value}, but must lie in [0, 1]")
    for name in ("every", "batch", "max_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} is {value}, but must be at least 1")
    if not args.input and args.webcam is None:
        parser.error("there is nothing to segment: name files, or --webcam")


def main(argv: Sequence[str] | None = None, prog: str = "demo.py") -> int:
    """Returns the exit code, see the head of this file."""
    args = parse_args(argv, prog)
    output, failures = Path(args.output), list[str]()
    try:
        open_folder(output, "--output")
        images, videos = find_inputs(args.input, failures)  # before a model is asked for, which may be a download
        cameras = [] if args.webcam is None else [args.webcam]
        total = len(images) + len(videos) + len(cameras)
        if total == 0:
            raise ValueError("there is nothing to segment")
        import_own_files(args.imports)
        agree = (lambda _: True) if args.yes else ask
        options = {"model": args.model, "agree": agree, "task": args.task, "device": args.device}
        cfg = configure(args.config_file, args.opts, **options)
        if args.config_file is None and args.model is None:
            tqdm.write(demo_model_notice())
        predictor = Predictor(cfg)
        job = Job(args, predictor, save_options(args, cfg, predictor.classes), output, failures)
        done = job.segment_images(images) + sum(job.segment_video(source) for source in [*videos, *cameras])
    except (ValueError, OSError, ImportError) as error:
        for failure in [*failures, error]:
            tell_mistake(prog, failure)
        return 2
    for failure in failures:
        tell_mistake(prog, failure)
    tqdm.write(f"{done} of {total} inputs segmented, results in {output}")
    return int(bool(failures))


def save_options(args: argparse.Namespace, cfg: Any, table: Any) -> SaveOptions:
    tasks = (args.task,) if args.task else contract_of(cfg).answered_tasks(cfg)
    if "coco" in args.save and not {"instance", "panoptic"}.intersection(tasks):
        if args.task != "all":
            raise ValueError("--save coco holds things: it needs the instance or the panoptic task")
    return SaveOptions(
        save=args.save,
        tasks=None if args.task in (None, "all") else (args.task,),
        side_by_side=args.task == "all",
        threshold=args.confidence_threshold,
        classes=None if args.classes is None else check_classes(args.classes, table),
        alpha=args.alpha,
        color_by=args.color_by,
        legend=args.legend,
        keep_size=not args.enlarge,
    )


def find_inputs(inputs: list[str], failures: list[str]) -> tuple[list[str], list[str]]:
    """(image files, video files), each in the order given and once; a failure for each input that leads to none."""
    paths = []
    for entry in inputs:
        if Path(entry).is_dir():
            known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
            files = sorted(str(path) for path in Path(entry).iterdir() if path.suffix.lower() in known)
        elif Path(entry).exists():
            files = [entry]
        else:
            files = sorted(glob.glob(entry, recursive=True))
        if not files:
            failures.append(f"{entry}: no image or video there")
        paths.extend(files)
    paths = list(dict.fromkeys(paths))
    videos = [path for path in paths if Path(path).suffix.lower() in VIDEO_SUFFIXES]
    return [path for path in paths if path not in videos], videos


@dataclass
class Job:
    """What all inputs share: options, model, what is saved where, what failed and which names are taken so far."""

    args: argparse.Namespace
    predictor: Any
    options: SaveOptions
    output: Path
    failures: list[str]
    names: set[str] = field(default_factory=set)

    def segment_images(self, paths: list[str]) -> int:
        """Segment and save the images that can be read; returns their number."""
        if not paths:
            return 0
        with ImageSaver(self.output, self.options, self.predictor.classes) as saver:

            def save(item: tuple[str, Any], result: dict) -> None:
                path, image = item
                name = free_name(Path(path).stem, self.names)
                for task, found in saver.save(self.predictor.shown(image), result, name, path).items():
                    tqdm.write(f"{path}: {task} {summary(found)}")

            predict = lambda group: self._predict([image for _, image in group])  # noqa: E731
            count = read_predict_consume(self._readable(paths), predict, save, batch=self.args.batch)[0]
        for note in saver.notes:
            tqdm.write(note)
        return count

    def _readable(self, paths: list[str]) -> Iterator[tuple[str, Any]]:
        """(path, image for the predictor) of those that can be read; of an animated one the first picture, noticed."""
        for path in tqdm(paths, unit="image"):
            try:
                image = read_image(path, self.predictor.channels)
            except BrokenImageError as error:
                self.failures.append(str(error))
                continue
            with Image.open(path) as file:
                num_pictures = getattr(file, "n_frames", 1)
                if num_pictures > 1:
                    tqdm.write(f"{path}: holds {num_pictures} pictures; the first one is segmented", file=sys.stderr)
            yield path, resized(image, fitted_size(image.shape[:2], self.args.max_size))

    def segment_video(self, source: str | int) -> int:
        """Segment and save a video file, or a camera by its number; returns 1 if it could be opened."""
        args = self.args
        options = {"every": args.every, "max_size": args.max_size}
        name = f"camera{source}" if isinstance(source, int) else Path(source).stem
        try:
            reader = Camera(source, **options) if isinstance(source, int) else VideoReader(source, **options)
        except BrokenVideoError as error:
            self.failures.append(str(error))
            return 0
        taken = free_name(name, self.names)
        with reader, VideoSaver(self.output, taken, reader, self.options, self.predictor.classes) as saver:
            frames = tqdm(reader, total=reader.num_frames, unit="frame", desc=name)
            start = time.perf_counter()
            try:
                count, seconds = segment_frames(frames, self._predict, saver.save, batch=args.batch)
            except KeyboardInterrupt:
                if not isinstance(source, int):
                    raise
                return 1  # that is how a camera is stopped
        whole = time.perf_counter() - start
        speed = f"{count / whole:.2f} frames/s (the model alone: {seconds:.1f} s)"
        tqdm.write(f"{source}: {count} frames in {whole:.1f} s, {speed}")
        for note in saver.notes:
            tqdm.write(f"{source}: {note}")
        self.failures.extend(f"{source}: {note}" for note in reader.notes)
        return 1

    def _predict(self, images: list[Any]) -> list[dict]:
        return self.predictor(images, threshold=self.args.confidence_threshold)
