"""The package, its dependencies and its extras. Imports no torch, compiles nothing: a plain wheel builds anywhere.

Every lower bound is a version that the test suite passed with; the upper bounds stop before the next major version.
Detectron2 is not listed: it has no release on the package index. `make test` and `make demo` choose one; by hand it is
`pip install ./embedded`, or the real one as CONTRIBUTING.md describes.
"""

from __future__ import annotations

from setuptools import find_packages, setup

REQUIRES = [
    "torch>=2.6,<3",
    "torchvision>=0.21,<1",
    "numpy>=1.26,<3",
    "Pillow>=9.4,<14",
    "scipy>=1.11,<2",
    "opencv-python-headless>=4.8,<6",
    "pycocotools>=2.0.8,<3",
    "fvcore>=0.1.5.post20221221,<0.2",
    "PyYAML>=6,<7",
    "typing_extensions>=4.10,<5",
    "timm>=1.0.11,<2",
    "supervision>=0.30,<1",
    "tqdm>=4.66,<5",
    "safetensors>=0.4.5,<1",
]

TRANSFORMERS = "transformers>=4.46,<6"
ONEFORMER = "open_clip_torch>=2.26.1,<4"  # CLIP's vocabulary, which training OneFormer needs
VIDEO = "av>=14,<19"  # PyAV, FFmpeg with it
WEB = "gradio>=6.31,<7"  # the page of demo/web.py
TEST = ["pytest>=8.2,<10", "torchmetrics>=1.4,<2", TRANSFORMERS, ONEFORMER, VIDEO]

EXTRAS = {
    "oneformer": [ONEFORMER],
    "video": [VIDEO],
    "web": [WEB],
    "browser": [WEB, "playwright>=1.65,<2"],  # for the tests that drive the page in a browser of the machine's
    "test": TEST,
    "benchmark": [TRANSFORMERS],
    "dev": [*TEST, "ruff>=0.6", "mypy>=1.11", "pre-commit>=3.5"],
}

setup(
    name="mask2former_ext",
    version="0.1.0",
    description="Mask-classification segmentation for Detectron2, on today's PyTorch, without a compiler",
    packages=find_packages(include=["mask2former_ext", "mask2former_ext.*"]),
    package_data={"mask2former_ext": ["data/categories/*.json", "interop/*.yaml"]},
    python_requires=">=3.10",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
)
