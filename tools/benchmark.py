"""Time a model of this package and, side by side in the same run, others' of the same weights.

python tools/benchmark.py [--model mask2former] [--job inference train] [--repeat 5] [--device cpu] [--json FILE]

Mask2Former, MaskFormer and OneFormer run beside Hugging Face transformers' (see benchmark_transformers.py), Mask R-CNN
beside torchvision's and Detectron2's (benchmark_rcnn.py); which says what each job is. Times are medians of runs
that alternate between the rivals; peak memory is that of a process of its own, above what it held once the model was
loaded.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from benchmark_inputs import Contest, Job
from benchmark_rcnn import MaskRCNNContest
from benchmark_transformers import CONTESTS as TRANSFORMERS_CONTESTS

CONTESTS: dict[str, Contest] = {**TRANSFORMERS_CONTESTS, "mask_rcnn": MaskRCNNContest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CONTESTS, default="mask2former")
    parser.add_argument("--job", nargs="+", help="default: all of the model's; inference, train, of Mask R-CNN more")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--memory-of", nargs=3, metavar=("WHO", "JOB", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    contest = CONTESTS[args.model]
    if args.memory_of:
        who, job, folder = args.memory_of
        print(json.dumps(_peak_memory(contest.jobs(who, folder, args.device)[job], args.device)))
        return
    unknown = set(args.job or ()) - set(contest.job_names)
    if unknown:
        parser.error(f"--job: {args.model} has no {', '.join(sorted(unknown))}; it has {', '.join(contest.job_names)}")
    figures: dict = {"model": args.model, "machine": _machine(args.device), "repeat": args.repeat}
    with tempfile.TemporaryDirectory() as folder:
        contest.save_weights(folder)
        jobs = {who: contest.jobs(who, folder, args.device) for who in contest.rivals()}
        for name in args.job or contest.job_names:
            figures[name] = _side_by_side({who: own[name] for who, own in jobs.items() if name in own}, args)
            if name == "inference":
                figures[name]["our_stages_s"] = _stages(contest, folder, args)
            for who in [who for who, own in jobs.items() if name in own]:
                figures[name][f"{who}_peak_mb"] = _memory_of(who, name, folder, args)
    print(json.dumps(figures, indent=1))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


def _side_by_side(jobs: dict[str, Job], args: argparse.Namespace) -> dict:
    """Seconds of each rival's job, and how much longer than ours it takes."""
    times: dict[str, list[float]] = {who: [] for who in jobs}
    for _ in range(args.repeat + 1):
        for who, run in jobs.items():
            times[who].append(_seconds(run, args.device))
    medians = {who: statistics.median(t[1:]) for who, t in times.items()}  # the first warms up
    ratios = {f"{who}_over_ours": round(t / medians["ours"], 3) for who, t in medians.items() if who != "ours"}
    return {**{f"{who}_s": round(t, 4) for who, t in medians.items()}, **ratios}


def _memory_of(who: str, job: str, folder: str, args: argparse.Namespace) -> int:
    """MB, measured in a process of its own."""
    command = [sys.executable, __file__, "--model", args.model, "--device", args.device]
    command += ["--memory-of", who, job, folder]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _stages(contest: Contest, folder: str, args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each part of our inference."""
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

    inference, parts = contest.stages(folder, args.device)
    for part in parts:
        time_calls(*part)
    with torch.inference_mode():
        for _ in range(args.repeat + 1):
            inference()
    return {name: round(statistics.median(t[1:]), 4) for name, t in times.items()}


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
        _run_twice(run)
        return (torch.cuda.max_memory_allocated() - before) // 2**20
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what loading freed goes back to the system (glibc), and is not held any more
    before = _resident_kb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here, not from the loading of the weights
    _run_twice(run)
    return (_resident_kb("VmHWM") - before) // 2**10


def _run_twice(run: Job) -> None:
    """What the first run returns is let go before the second."""
    run()
    run()


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
