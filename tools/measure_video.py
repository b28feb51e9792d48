"""Measure what a video costs beside the model, and whether identities are kept, on a synthetic video of known truth.

    python tools/measure_video.py --frames 2000 --output /tmp/measured

Shapes move, cross, hide each other, bounce, vanish, come back or are replaced; a perfect segmenter answers. Prints
IDF1, memory over the frames and CPU time per frame of what lies beside the model: reading, results, tracking,
drawing and coding. `--model-ms` makes the segmenter wait, as a model on another device would.

Shapes: H, W pixels of a frame. The same seed gives the same video, frame by frame, whatever its length.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as rle_codec
from scipy.optimize import linear_sum_assignment

from mask2former_ext.inference.saving import SaveOptions, VideoSaver
from mask2former_ext.inference.video import Frame, VideoReader, import_av, segment_frames

SKY, GROUND = 0, 1
FIRST_THING = 2  # disk, square, triangle
NUM_CLASSES = 5
LONGEST_ABSENCE = 20  # frames; a shape that is away for good is replaced by a new one


@dataclass
class Shape:
    identity: int
    kind: int
    radius: float
    place: np.ndarray
    velocity: np.ndarray
    color: tuple[int, ...]  # red, green, blue
    away: int = 0  # frames until it comes back

    def paint(self, canvas: np.ndarray, value: int | tuple[int, ...]) -> None:
        x, y, r = (round(float(v)) for v in (*self.place, self.radius))
        if self.kind == FIRST_THING:
            cv2.circle(canvas, (x, y), r, value, -1)
        elif self.kind == FIRST_THING + 1:
            cv2.rectangle(canvas, (x - r, y - r), (x + r, y + r), value, -1)
        else:
            cv2.fillPoly(canvas, [np.array([[x, y - r], [x - r, y + r], [x + r, y + r]])], value)


def synthetic_frames(
    length: int, size: tuple[int, int] = (480, 640), num_shapes: int = 8, seed: int = 0
) -> Iterator[tuple[np.ndarray, dict, dict[int, int]]]:
    """Per frame: RGB image (H, W, 3), what a perfect model answers (panoptic), segment id -> identity of each thing."""
    random = np.random.default_rng(seed)
    shapes = [_new_shape(i + 1, random, size) for i in range(num_shapes)]
    identities = num_shapes
    for _ in range(length):
        for place, shape in enumerate(shapes):
            _move(shape, size)
            if shape.away > 0:
                shape.away -= 1
            elif random.random() < 0.002:
                shape.away = int(random.integers(5, LONGEST_ABSENCE))
            elif random.random() < 0.001:
                identities += 1
                shapes[place] = _new_shape(identities, random, size)
        yield _frame(shapes, size)


def _new_shape(identity: int, random: np.random.Generator, size: tuple[int, int]) -> Shape:
    height, width = size
    scale = min(size)
    return Shape(
        identity,
        FIRST_THING + int(random.integers(3)),
        float(random.uniform(0.06, 0.14) * scale),
        np.array([random.uniform(0.15, 0.85) * width, random.uniform(0.15, 0.85) * height]),
        random.uniform(0.002, 0.01) * scale * _direction(random),
        tuple(int(v) for v in random.integers(40, 255, 3)),
    )


def _direction(random: np.random.Generator) -> np.ndarray:
    angle = random.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _move(shape: Shape, size: tuple[int, int]) -> None:
    """Straight on, reflected where its middle meets the frame."""
    shape.place = shape.place + shape.velocity
    for axis, side in enumerate((size[1], size[0])):
        if not 0 <= shape.place[axis] <= side:
            shape.velocity[axis] *= -1
            shape.place[axis] = np.clip(shape.place[axis], 0, side)


def _frame(shapes: list[Shape], size: tuple[int, int]) -> tuple[np.ndarray, dict, dict[int, int]]:
    image, ids = np.full((*size, 3), (120, 170, 230), dtype=np.uint8), np.ones(size, dtype=np.int32)
    image[size[0] // 2 :], ids[size[0] // 2 :] = (110, 150, 90), 2
    segments: list[dict] = [{"id": k + 1, "category_id": k, "isthing": False} for k in (SKY, GROUND)]
    identity_of = {}
    for place, shape in enumerate(shapes):
        if shape.away == 0:
            shape.paint(image, shape.color)
            shape.paint(ids, place + 3)
            identity_of[place + 3] = shape.identity
            segments.append({"id": place + 3, "category_id": shape.kind, "isthing": True, "score": 0.9})
    seen = set(np.unique(ids).tolist())
    segments = [s for s in segments if s["id"] in seen]
    answer = {"panoptic_seg": (torch.from_numpy(ids), segments)}
    return image, answer, {i: identity for i, identity in identity_of.items() if i in seen}


def idf1(pairs: list[tuple[int, int]]) -> float:
    """IDF1 (arXiv 1609.01775) of (true identity, track id) of each thing in each frame, where each thing was found.

    The best one-to-one assignment of tracks to identities by the frames in which they meet; twice these frames over
    the sum of the frames of both.
    """
    truths, tracks = (sorted(set(side)) for side in zip(*pairs, strict=True))
    met = np.zeros((len(truths), len(tracks)))
    for truth, track in pairs:
        met[truths.index(truth), tracks.index(track)] += 1
    return 2 * met[linear_sum_assignment(met, maximize=True)].sum() / (2 * len(pairs))


def write_video(path: Path, length: int, **options: Any) -> None:
    """The synthetic video as a file."""
    av = import_av()
    with av.open(str(path), "w") as output:
        stream: Any = None
        for image, _, _ in synthetic_frames(length, **options):
            if stream is None:
                stream = output.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
                stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))


def tracked_pairs(tracks: Path, length: int, **options: Any) -> list[tuple[int, int]]:
    """(true identity, track id) of each thing in each frame, as YouTube-VIS json tells them."""
    annotations = json.loads(tracks.read_text())["annotations"]
    pairs = []
    for frame, (_, answer, identity_of) in enumerate(synthetic_frames(length, **options)):
        ids = answer["panoptic_seg"][0].numpy()
        for track in annotations:
            if track["segmentations"][frame] is not None:
                mask = rle_codec.decode(track["segmentations"][frame]).astype(bool)
                pairs.append((identity_of[int(np.bincount(ids[mask]).argmax())], track["id"]))
    return pairs


def segmented(source: Path, output: Path, length: int, model_seconds: float = 0.0, **options: Any) -> dict[str, float]:
    """Run the synthetic video with a perfect segmenter through all of it; returns what was measured."""
    answers = synthetic_frames(length, **options)
    memory: list[float] = []
    spent = [0.0]

    def predict(images: list) -> list[dict]:
        start = time.thread_time()
        results = [next(answers)[1] for _ in images]
        spent[0] += time.thread_time() - start  # making the truth is no part of what a video costs
        time.sleep(model_seconds * len(images))
        return results

    start, processor = time.perf_counter(), time.process_time()
    files = SaveOptions(("overlay", "coco"))
    with VideoReader(source) as reader, VideoSaver(output, "synthetic", reader, files, None) as saver:

        def consume(frame: Frame, result: dict) -> None:
            saver.save(frame, result)
            memory.append(resident_mib())

        count, model = segment_frames(reader, predict, consume)
    whole, processor = time.perf_counter() - start, time.process_time() - processor - spent[0]
    return {
        "frames": count,
        "seconds": whole,
        "share of the model": model / whole,
        "CPU ms per frame": 1000 * processor / count,
        "MiB at a quarter": memory[count // 4],
        "MiB at the end": memory[-1],
    }


def resident_mib() -> float:
    """Memory of this process, on Linux."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs=2, default=[480, 640], metavar=("H", "W"))
    parser.add_argument("--shapes", type=int, default=18, help="beside two kinds of stuff (default: %(default)s)")
    parser.add_argument("--model-ms", type=float, default=0.0, help="what the segmenter takes for a frame")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    options = {"size": tuple(args.size), "num_shapes": args.shapes, "seed": args.seed}
    source = args.output / "source.mp4"
    write_video(source, args.frames, **options)
    measured = segmented(source, args.output, args.frames, args.model_ms / 1000, **options)
    measured["IDF1"] = idf1(tracked_pairs(args.output / "synthetic_tracks.json", args.frames, **options))
    for name, value in measured.items():
        print(f"{name:24} {value:.3f}")


if __name__ == "__main__":
    main()
