"""Built wheels, installed in an environment of their own and used far from the checkout: every command.

PyTorch and the other libraries are those of the running environment; mask2former_ext and detectron2 are the wheels.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from pathlib import Path

import pytest
from PIL import Image

from mask2former_ext.distributed import free_port
from mask2former_ext.needed import WAYS_TO_DETECTRON2
from tests.places import ROOT

pytestmark = pytest.mark.long
SOURCE_FOLDERS = ("mask2former_ext", "configs", "embedded")
SOURCE_FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
TRAIN = (
    *("train", "--config", "mask2former/tiny", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "3"),
    *("OUTPUT_DIR", "run", "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"),
)


def pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A folder with the wheels of both distributions, built from a copy of the checkout."""
    pytest.importorskip("setuptools", "77", reason="no setuptools that builds the wheels")
    folder, source = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in SOURCE_FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in SOURCE_FILES:
        shutil.copy(ROOT / name, source)
    for place in (source, source / "embedded"):
        pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, place)
    return folder


def environment() -> dict[str, str]:
    """That of this process, in which no variable leads to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


class Place:
    """A folder with an environment, in which the package is installed and commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "env" / "bin"
        venv.create(folder / "env", symlinks=True)
        packages = self.ask("import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
        (Path(packages) / "running.pth").write_text(sysconfig.get_path("purelib"))

    def install(self, wheel: Path) -> None:
        python = self.bin / "python"
        pip("--python", python, "install", "--no-deps", "--no-index", "--ignore-installed", wheel)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment())

    def ask(self, code: str) -> subprocess.CompletedProcess[str]:
        return self.run(self.bin / "python", "-c", code)

    def command(self, *arguments: str) -> str:
        """What `mask2former-ext ARGUMENTS` prints."""
        done = self.run(self.bin / "mask2former-ext", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def place(wheels, tmp_path_factory) -> Place:
    """Both wheels, the data set shapes, and a model that has learned for three steps."""
    place = Place(tmp_path_factory.mktemp("outside"))
    for wheel in wheels.glob("*.whl"):
        place.install(wheel)
    made = place.run(place.bin / "python", "-m", "mask2former_ext.commands.make_shapes", "--train", "16", "--val", "4")
    assert made.returncode == 0, made.stderr
    place.command(*TRAIN)
    return place


def test_both_packages_are_those_of_the_wheels(place):
    found = place.ask("import mask2former_ext, detectron2; print(mask2former_ext.__file__, detectron2.__file__)").stdout
    assert all(str(file).startswith(str(place.folder / "env")) for file in found.split())


def test_without_detectron2_the_import_is_one_line(wheels, tmp_path):
    place = Place(tmp_path)
    place.install(next(wheels.glob("mask2former_ext-*.whl")))
    done = place.ask("import mask2former_ext")
    assert (done.returncode, done.stderr) == (0, f"{WAYS_TO_DETECTRON2}\n")


def test_env_names_the_embedded_detectron2(place):
    assert re.search(r"Detectron2 +embedded", place.command("env"))


def test_train_leaves_a_run(place):
    assert {"config.yaml", "model_final.pth", "last_checkpoint", "metrics.json"} <= {*os.listdir(place.folder / "run")}


def test_eval_of_the_run_scores_it(place):
    assert re.search(r"panoptic_seg +PQ +[\d.]+", place.command("eval", "--config", "run/config.yaml"))


def test_predict_with_the_run_draws_and_lists(place):
    pictures = "datasets/shapes/val/images"
    place.command("predict", pictures, "--config", "run/config.yaml", "--save", "overlay", "json", "--output", "out")
    with Image.open(place.folder / "out" / "000001_panoptic.png") as picture:
        assert picture.mode == "RGB"
    assert set(json.loads((place.folder / "out" / "000001.json").read_text())) > {"panoptic", "instance", "semantic"}


def test_a_predictor_of_the_run_takes_a_path(place):
    picture = "datasets/shapes/val/images/000001.png"
    done = place.ask(f"from mask2former_ext import Predictor; print(*Predictor.from_run('run')({picture!r}))")
    assert {*done.stdout.split()} == {"sem_seg", "instances", "panoptic_seg"}


def test_video_with_the_run_gives_a_video(place):
    av = pytest.importorskip("av")
    with av.open(str(place.folder / "clip.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), "gray"))))
        output.mux(stream.encode(None))
    place.command("video", "clip.mp4", "--config", "run/config.yaml", "--task", "panoptic", "--output", "out")
    assert (place.folder / "out" / "clip_panoptic.mp4").stat().st_size > 0


def test_models_lists_the_published_ones(place):
    assert "mask2former-swin-tiny-coco-panoptic" in place.command("models")


def test_convert_writes_safetensors_of_the_run(place):
    assert "run/a.safetensors: " in place.command("convert", "run/model_final.pth", "run/a.safetensors")


def page_of(address: str, server: subprocess.Popen) -> bytes:
    """What the server answers once it listens."""
    while server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address) as answer:
            return answer.read()
        time.sleep(0.2)
    pytest.fail("the server ended")


def test_web_serves_the_page_of_the_run(place):
    pytest.importorskip("gradio", reason="gradio is not installed (the extra `web`)")
    port = str(free_port())
    command = [place.bin / "mask2former-ext", "web", "--config", "run/config.yaml", "--port", port]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=place.folder, env=environment())
    try:
        assert b"mask2former_ext" in page_of(f"http://127.0.0.1:{port}/", server)
    finally:
        server.terminate()
        server.wait()
