"""What the tests of the web page share: a stand-in predictor, files to send, a server to send them to."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from detectron2.config import get_cfg
from PIL import Image

from mask2former_ext import add_config
from mask2former_ext.classes import ClassTable
from tests.halves import result_of_halves

SIZE = (40, 60)  # of `picture`


class StandInPredictor:
    """Left half dog 0.9, right half cat 0.4, in every task; notes the tasks and thresholds of its requests."""

    classes = ClassTable(("dog", "cat"), (True, True))

    def __init__(self, *tasks: str, is_covered: bool = False) -> None:
        """is_covered: of instances, the cat fills the picture and the dog covers its left half."""
        self.is_covered = is_covered
        self.tasks = tasks or ("semantic", "instance", "panoptic")
        self.cfg = get_cfg()
        add_config(self.cfg)
        self.cfg.MODEL.META_ARCHITECTURE, self.cfg.MODEL.MASK_CLASSIFIER.MIN_CLASS_PROB = "Mask2Former", 0.3
        self.requests: list[tuple[str, float]] = []

    def __call__(self, image: Any, *, task: str, threshold: float) -> Any:
        if isinstance(image, list):
            return [self(one, task=task, threshold=threshold) for one in image]
        self.requests.append((task, threshold))
        return result_of_halves(image.shape[:2], (task,), threshold, is_covered=self.is_covered)


class WaitingPredictor(StandInPredictor):
    """Answers when it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.was_called, self.go_on = threading.Event(), threading.Event()

    def __call__(self, image: Any, **question: Any) -> Any:
        self.was_called.set()
        self.go_on.wait()
        return super().__call__(image, **question)


def picture(file_format: str = "PNG", mode: str = "RGB", size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    """A file with a dark left and a light right half."""
    height, width = size
    pixels = np.full((height, width), 200, dtype=np.uint8)
    pixels[:, : width // 2] = 50
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, file_format, **options)
    return file.getvalue()


def clip(num_frames: int = 10, rate: int = 10, kind: str = "mp4") -> bytes:
    """A video of `num_frames` gray frames of 64 x 48 pixels."""
    av = pytest.importorskip("av", reason="PyAV is not installed (the extra `video`)")
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def upload(data: bytes, name: str = "a.png") -> dict[str, str]:
    """A file as the page sends it."""
    return {"name": name, "data": base64.b64encode(data).decode()}


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address at which the app answers on this machine."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=60)
        assert not thread.is_alive(), "the server does not end"
