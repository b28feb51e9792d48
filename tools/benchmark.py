"""Time a model of this package and, side by side in the same run, Hugging Face transformers' with the same weights.

python tools/benchmark.py [--model mask2former] [--job inference train] [--repeat 5] [--device cpu] [--json FILE]

Inference: one 480 x 640 image to semantic, instance and panoptic results, post-processing included. Training: forward,
losses at every decoder layer, backward and optimizer step of one 512 x 512 image with 12 objects. Times are medians of
runs that alternate between the two; peak memory is that of a process of its own, above what it held once the model was
loaded.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from detectron2.structures import Instances

import mask2former_ext as m
from mask2former_ext.layers.text_encoder import task_tokens, tokenize

NUM_CLASSES = 133
INFERENCE_SIZE, TRAIN_SIZE, NUM_OBJECTS = (480, 640), (512, 512), 12
DATASET = "coco_2017_val_panoptic"
# What OneFormer is told: 150 queries less 16 learned texts leave 134.
TASK, TEXTS = "panoptic", [f"a photo with a class{k}" for k in range(NUM_OBJECTS)] + ["a panoptic photo"] * 122
Job = Callable[[], object]


@dataclass(frozen=True)
class Peer:
    """A model of transformers, by the names of its classes there."""

    model: str
    config: str
    processor: str
    config_options: Mapping[str, Any] = field(default_factory=dict)
    train_options: Mapping[str, Any] = field(default_factory=dict)  # of the forward pass
    is_told_task: bool = False  # and, in training, texts


PEERS = {
    "mask2former": Peer("Mask2FormerForUniversalSegmentation", "Mask2FormerConfig", "Mask2FormerImageProcessor"),
    "maskformer": Peer(
        "MaskFormerForInstanceSegmentation",
        "MaskFormerConfig",
        "MaskFormerImageProcessor",
        train_options={"output_hidden_states": True},  # from which it makes the predictions of the earlier layers
    ),
    "oneformer": Peer(
        "OneFormerForUniversalSegmentation",
        "OneFormerConfig",
        "Mask2FormerImageProcessor",  # its own asks for a file of class names; what both take and give is the same
        config_options={"is_training": True},
        is_told_task=True,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=PEERS, default="mask2former")
    parser.add_argument("--job", nargs="+", choices=["inference", "train"], default=["inference", "train"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--memory-of", nargs=3, metavar=("WHO", "JOB", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        who, job, folder = args.memory_of
        print(json.dumps(_peak_memory(_jobs(who, args.model, folder, args.device)[job], args.device)))
        return
    figures: dict = {"model": args.model, "machine": _machine(args.device), "repeat": args.repeat}
    with tempfile.TemporaryDirectory() as folder:
        _save_peer(PEERS[args.model], folder)
        for job in args.job:
            figures[job] = _side_by_side(job, folder, args)
    print(json.dumps(figures, indent=1))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


def _side_by_side(job: str, folder: str, args: argparse.Namespace) -> dict:
    jobs = {who: _jobs(who, args.model, folder, args.device)[job] for who in ("ours", "transformers")}
    times: dict[str, list[float]] = {who: [] for who in jobs}
    for _ in range(args.repeat + 1):
        for who, run in jobs.items():
            times[who].append(_seconds(run, args.device))
    result: dict = {f"{who}_s": round(statistics.median(t[1:]), 4) for who, t in times.items()}  # the first warms up
    result["transformers_over_ours"] = round(result["transformers_s"] / result["ours_s"], 3)
    if job == "inference":
        result["our_stages_s"] = _stages(folder, args)
    for who in jobs:
        command = [sys.executable, __file__, "--model", args.model, "--device", args.device]
        command += ["--memory-of", who, job, folder]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        result[f"{who}_peak_mb"] = json.loads(output.splitlines()[-1])
    return result


def _save_peer(peer: Peer, folder: str) -> None:
    torch.manual_seed(0)
    backbone = transformers.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config_class, model_class = getattr(transformers, peer.config), getattr(transformers, peer.model)
    config = config_class(backbone_config=backbone, num_labels=NUM_CLASSES, **peer.config_options)
    model_class(config).save_pretrained(folder)


def _jobs(who: str, model: str, folder: str, device: str) -> dict[str, Job]:
    return _our_jobs(folder, device) if who == "ours" else _peer_jobs(PEERS[model], folder, device)


def _our_model(folder: str, device: str) -> torch.nn.Module:
    tasks = [f"MODEL.MASK_CLASSIFIER.{task}_ON" for task in ("SEMANTIC", "INSTANCE", "PANOPTIC")]
    overrides = [x for task in tasks for x in (task, "True")]
    thresholds = ["MODEL.MASK_CLASSIFIER.MIN_CLASS_PROB", "0.5", "MODEL.MASK_CLASSIFIER.MIN_VISIBLE_FRACTION", "0.8"]
    other = ["MODEL.MASK_CLASSIFIER.DEEP_SUPERVISION", "True"]
    other += ["DATASETS.TRAIN", f"('{DATASET}',)", "MODEL.DEVICE", device]
    return m.load_model(m.load_config(folder, [*overrides, *thresholds, *other]))


def _our_jobs(folder: str, device: str) -> dict[str, Job]:
    model = _our_model(folder, device)
    inputs = _our_inputs()
    train_image, masks, labels = _truth(device)
    instances = Instances(TRAIN_SIZE, gt_classes=labels, gt_masks=masks)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, fused=True)

    def inference() -> object:
        with torch.inference_mode():
            return model.eval()(inputs)

    def train() -> None:
        losses = model.train()([{"image": train_image, "instances": instances, "task": TASK, "text": TEXTS}])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return {"inference": inference, "train": train}


def _our_inputs() -> list[dict[str, Any]]:
    height, width = INFERENCE_SIZE
    return [{"image": _image(INFERENCE_SIZE), "height": height, "width": width, "task": TASK}]


def _peer_jobs(peer: Peer, folder: str, device: str) -> dict[str, Job]:
    model = getattr(transformers, peer.model).from_pretrained(folder).to(device)
    processor = getattr(transformers, peer.processor)(do_resize=False, size_divisor=32, num_labels=NUM_CLASSES)
    image = _image(INFERENCE_SIZE)
    train_image, masks, labels = _truth(device)
    train_pixels = processor(train_image, return_tensors="pt")["pixel_values"].to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-6, fused=True)
    told, train_options = {}, dict(peer.train_options)
    if peer.is_told_task:
        told = {"task_inputs": task_tokens(TASK, 77).float()[None].to(device)}
        train_options |= {**told, "text_inputs": tokenize(TEXTS, 77)[None].to(device)}

    def set_training(is_training: bool) -> None:
        for module in model.train(is_training).modules():
            if hasattr(module, "is_training"):  # OneFormer's, beside PyTorch's own
                module.is_training = is_training

    def inference() -> object:
        with torch.inference_mode():
            pixels = processor(image, return_tensors="pt")["pixel_values"].to(device)
            set_training(False)
            outputs = model(pixel_values=pixels, **told)
            return (
                processor.post_process_semantic_segmentation(outputs, [INFERENCE_SIZE]),
                processor.post_process_instance_segmentation(outputs, target_sizes=[INFERENCE_SIZE]),
                processor.post_process_panoptic_segmentation(outputs, target_sizes=[INFERENCE_SIZE]),
            )

    def train() -> None:
        model.config.use_auxiliary_loss = True
        truth = {"mask_labels": [masks.float()], "class_labels": [labels]}
        set_training(True)
        loss = model(pixel_values=train_pixels, **truth, **train_options).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {"inference": inference, "train": train}


def _stages(folder: str, args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each part of our inference."""
    model, inputs = _our_model(folder, args.device).eval(), _our_inputs()
    times: dict[str, list[float]] = {}

    def time_calls(name: str, owner: torch.nn.Module, method: str) -> None:
        call = getattr(owner, method)

        def timed(*inputs: object, **options: object) -> object:
            _wait(args.device)
            start = time.perf_counter()
            value = call(*inputs, **options)
            _wait(args.device)
            times.setdefault(name, []).append(time.perf_counter() - start)
            return value

        setattr(owner, method, timed)

    time_calls("preprocess", model, "batch")
    time_calls("backbone", model.backbone, "forward")
    time_calls("pixel decoder", model.sem_seg_head.pixel_decoder, "forward")
    time_calls("transformer decoder", model.sem_seg_head.predictor, "forward")
    time_calls("post-processing", model, "postprocess")
    with torch.inference_mode():
        for _ in range(args.repeat + 1):
            model(inputs)
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
