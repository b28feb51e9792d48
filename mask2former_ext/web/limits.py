"""What the web page accepts, and the error for the rest."""

from __future__ import annotations

from dataclasses import dataclass


class RefusedError(ValueError):
    """A request that is refused; the text is for the person who sent it."""


@dataclass(frozen=True)
class Limits:
    """What one request may hold."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000  # of a picture or frame as it comes
    max_size: int = 1280  # px, longer side; a larger picture is shrunk to it
    max_seconds: float = 10.0  # of a video
    max_frames: int = 100  # that a model gets of a video; of more only each second, third, ...

    @property
    def max_request(self) -> int:
        """Bytes of a request with the largest file in base64 and all that lies around it."""
        return self.max_bytes * 4 // 3 + 100_000
