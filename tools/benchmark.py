"""Time this package's Mask2Former and, side by side in the same run, Hugging Face transformers' with the same weights.

python tools/benchmark.py [--job inference train] [--repeat 5] [--device cpu] [--json FILE]

Inference: one 480 x 640 image to semantic, instance and panoptic results, post-processing included. Training: forward,
losses, backward and optimizer step of one 512 x 512 image with 12 objects. Times are medians of runs that alternate
between the two; peak memory is that of a process of its own, above what it held once the model was loaded.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.structures import Instances
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor, ResNetConfig

import mask2former_ext as m

NUM_CLASSES = 133
INFERENCE_SIZE, TRAIN_SIZE, NUM_OBJECTS = (480, 640), (512, 512), 12
DATASET = "coco_2017_val_panoptic"
Job = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", nargs="+", choices=["inference", "train"], default=["inference", "train"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--memory-of", nargs=3, metavar=("WHO", "JOB", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        who, job, folder = args.memory_of
        print(json.dumps(_peak_memory(_jobs(who, folder, args.device)[job], args.device)))
        return
    figures: dict = {"machine": _machine(args.device), "repeat": args.repeat}
    with tempfile.TemporaryDirectory() as folder:
        _save_peer(folder)
        for job in args.job:
            figures[job] = _side_by_side(job, folder, args)
    print(json.dumps(figures, indent=1))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


def _side_by_side(job: str, folder: str, args: argparse.Namespace) -> dict:
    jobs = {who: _jobs(who, folder, args.device)[job] for who in ("ours", "transformers")}
    times: dict[str, list[float]] = {who: [] for who in jobs}
    for _ in range(args.repeat + 1):
        for who, run in jobs.items():
            times[who].append(_seconds(run, args.device))
    result: dict = {f"{who}_s": round(statistics.median(t[1:]), 4) for who, t in times.items()}  # the first warms up
    result["transformers_over_ours"] = round(result["transformers_s"] / result["ours_s"], 3)
    if job == "inference":
        result["our_stages_s"] = _stages(folder, args)
    for who in jobs:
        command = [sys.executable, __file__, "--device", args.device, "--memory-of", who, job, folder]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result[f"{who}_peak_mb"] = json.loads(output.splitlines()[-1])
    return result


def _save_peer(folder: str) -> None:
    torch.manual_seed(0)
    backbone = ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config = Mask2FormerConfig(backbone_config=backbone, num_labels=NUM_CLASSES)
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)


def _jobs(who: str, folder: str, device: str) -> dict[str, Job]:
    return _our_jobs(folder, device) if who == "ours" else _peer_jobs(folder, device)


def _our_model(folder: str, device: str) -> torch.nn.Module:
    tasks = [f"MODEL.MASK_CLASSIFIER.{task}_ON" for task in ("SEMANTIC", "INSTANCE", "PANOPTIC")]
    overrides = [x for task in tasks for x in (task, "True")]
    thresholds = ["MODEL.MASK_CLASSIFIER.MIN_CLASS_PROB", "0.5", "MODEL.MASK_CLASSIFIER.MIN_VISIBLE_FRACTION", "0.8"]
    data = ["DATASETS.TRAIN", f"('{DATASET}',)", "MODEL.DEVICE", device]
    return m.load_model(m.load_config(folder, [*overrides, *thresholds, *data]))


def _our_jobs(folder: str, device: str) -> dict[str, Job]:
    model = _our_model(folder, device)
    image, (height, width) = _image(INFERENCE_SIZE), INFERENCE_SIZE
    train_image, masks, labels = _truth(device)
    instances = Instances(TRAIN_SIZE, gt_classes=labels, gt_masks=masks)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, fused=True)

    def inference() -> object:
        with torch.inference_mode():
            return model.eval()([{"image": image, "height": height, "width": width}])

    def train() -> None:
        losses = model.train()([{"image": train_image, "instances": instances}])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return {"inference": inference, "train": train}


def _peer_jobs(folder: str, device: str) -> dict[str, Job]:
    model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).to(device)
    processor = Mask2FormerImageProcessor(do_resize=False, size_divisor=32, num_labels=NUM_CLASSES)
    image = _image(INFERENCE_SIZE)
    train_image, masks, labels = _truth(device)
    train_pixels = processor(train_image, return_tensors="pt")["pixel_values"].to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, fused=True)

    def inference() -> object:
        with torch.inference_mode():
            pixels = processor(image, return_tensors="pt")["pixel_values"].to(device)
            outputs = model.eval()(pixel_values=pixels)
            return (
                processor.post_process_semantic_segmentation(outputs, [INFERENCE_SIZE]),
                processor.post_process_instance_segmentation(outputs, target_sizes=[INFERENCE_SIZE]),
                processor.post_process_panoptic_segmentation(outputs, target_sizes=[INFERENCE_SIZE]),
            )

    def train() -> None:
        loss = model.train()(pixel_values=train_pixels, mask_labels=[masks.float()], class_labels=[labels]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {"inference": inference, "train": train}


def _stages(folder: str, args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each part of our inference."""
    model = _our_model(folder, args.device).eval()
    height, width = INFERENCE_SIZE
    inputs = [{"image": _image(INFERENCE_SIZE), "height": height, "width": width}]
    head = model.sem_seg_head
    times: dict[str, list[float]] = {}

    def timed(name: str, run: Job) -> object:
        _wait(args.device)
        start = time.perf_counter()
        value = run()
        _wait(args.device)
        times.setdefault(name, []).append(time.perf_counter() - start)
        return value

    with torch.inference_mode():
        for _ in range(args.repeat + 1):
            images, _ = timed("preprocess", lambda: model.preprocess(inputs))
            features = timed("backbone", lambda tensor=images.tensor: model.backbone(tensor))
            mask_features, memory, _ = timed("pixel decoder", lambda x=features: head.pixel_decoder(x))
            outputs = timed("transformer decoder", lambda a=memory, b=mask_features: head.predictor(a, b))
            timed("post-processing", lambda x=outputs, y=images: model.postprocess(x, 0, y, inputs[0]))
    return {name: round(statistics.median(t[1:]), 4) for name, t in times.items()}


def _image(size: tuple[int, int]) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _truth(device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An image, NUM_OBJECTS rectangles of 90 px and their classes."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(NUM_OBJECTS, *TRAIN_SIZE, dtype=torch.bool)
    for mask in masks:
        top, left = torch.randint(0, 400, (2,), generator=generator).tolist()
        mask[top : top + 90, left : left + 90] = True
    labels = torch.randint(0, NUM_CLASSES, (NUM_OBJECTS,), generator=generator)
    return _image(TRAIN_SIZE), masks.to(device), labels.to(device)


def _seconds(run: Job, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _peak_memory(run: Job, device: str) -> int:
    """MB at the peak of two runs above what the process held before them."""
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run(), run()
        return (torch.cuda.max_memory_allocated() - before) // 2**20
    before = _resident_kb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here, not from the loading of the weights
    run(), run()
    return (_resident_kb("VmHWM") - before) // 2**10


def _resident_kb(field: str) -> int:
    """VmRSS: held now; VmHWM: the peak (Linux, proc(5))."""
    (line,) = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field)]
    return int(line.split()[1])


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return f"{', '.join(names) or platform.processor()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


if __name__ == "__main__":
    main()
