"""What a bug report needs to know of this machine, without its paths: `python -m mask2former_ext.env`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence

import torch

from mask2former_ext.needed import has_detectron2

_DISTRIBUTIONS = (
    "mask2former_ext torch torchvision numpy Pillow scipy opencv-python-headless pycocotools fvcore iopath yacs timm "
    "supervision av gradio tensorboard safetensors huggingface_hub transformers"
).split()


def detectron2_provider() -> str:
    """Which Detectron2 is in use, in a few words: "embedded 0.6+embedded", "real 0.6 at commit 02b5c4e" or "none"."""
    if not has_detectron2():
        return "none"
    import detectron2  # which is asked for first, so that the report can be written without one

    version = detectron2.__version__
    if getattr(detectron2, "__embedded__", False):
        return f"embedded {version}"
    commit = _installed_commit("detectron2")
    return f"real {version} at commit {commit[:7]}" if commit else f"real {version}, commit unknown"


def _installed_commit(distribution: str) -> str | None:
    """The commit that pip noted when it installed `distribution` from a repository, or None."""
    try:
        origin = importlib.metadata.distribution(distribution).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    return json.loads(origin).get("vcs_info", {}).get("commit_id") if origin else None


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    """Name of the CPU, and the cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:  # not Linux: the platform's own name must do
        models = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{models[0] if models else name}, {cores} cores, {torch.get_num_threads()} threads"


def _devices() -> list[tuple[str, str]]:
    rows = [("CPU", _cpu()), ("CUDA of PyTorch", torch.version.cuda or "none: a build for CPUs only")]
    if not torch.cuda.is_available():
        return [*rows, ("GPU", "none that PyTorch can use")]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        memory = f"{device.total_memory / 2**30:.0f} GiB, compute capability {device.major}.{device.minor}"
        rows.append((f"GPU {index}", f"{device.name}, {memory}"))
    return rows


def _deformable_attention_kernels() -> list[tuple[str, str]]:
    """For each kernel of multi-scale deformable attention, whether it is active and, if not, why."""
    gpu = "active on GPUs" if torch.cuda.is_available() else "not active: there is no GPU"
    return [
        ("embedding bag", "active on CPUs"),
        ("grid sample", f"{gpu}; the kernel of every device but CPUs"),
    ]


def report() -> str:
    """The whole report as aligned text, a section each for versions, devices and kernels."""
    versions = [("Python", platform.python_version()), ("system", platform.platform())]
    versions += [(name, _version(name)) for name in _DISTRIBUTIONS]
    versions.append(("Detectron2", detectron2_provider()))
    sections: list[tuple[str, Iterable[tuple[str, str]]]] = [
        ("Versions", versions),
        ("Devices", _devices()),
        ("Kernels of multi-scale deformable attention", _deformable_attention_kernels()),
    ]
    lines = []
    for title, rows in sections:
        lines += [title, *(f"  {name:<24} {value}" for name, value in rows), ""]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, prog: str = "mask2former_ext.env") -> int:
    """Writes the report. Returns the exit code, 0."""
    argparse.ArgumentParser(prog, description="What a bug report needs to know of this machine.").parse_args(argv)
    sys.stdout.write(report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
