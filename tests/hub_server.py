"""A local server in the form of the Hugging Face hub: files of repositories, with their checksums in the headers."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mask2former_ext.safe_reading.weight_files import sha256_of

COMMIT = 40 * "a"


class Handler(http.server.BaseHTTPRequestHandler):
    """/OWNER/NAME/resolve/REVISION/FILE gives that file of the folder OWNER/NAME under `root`."""

    root: Path
    asked: list[str]  # each path that was read
    cut: bool  # end each answer in its middle
    lie: bool  # give another checksum than the file's

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        content = self._answer()
        if content is not None:
            self.wfile.write(content[: len(content) // 2] if self.cut else content)

    def _answer(self) -> bytes | None:
        owner, name, _, _, file = (self.path.strip("/").split("/", 4) + 5 * [""])[:5]
        path = self.root / owner / name / file
        if not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.send_header("ETag", f'"{64 * "0" if self.lie else sha256_of(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        return path.read_bytes()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, type[Handler]]]:
    """(address, handler) while the block runs."""
    handler = type("Handler", (Handler,), {"root": root, "asked": [], "cut": False, "lie": False})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
