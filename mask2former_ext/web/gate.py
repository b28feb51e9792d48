"""What the web page's server lets in: the page's own requests, up to a size, none of which names a file of the server.

The page sends a file as its name and its bytes (page/picker.js), so an upload is never an object that gradio takes for
a file of its own. gradio copies what such an object names, before anything here sees the question.
"""

from __future__ import annotations

import json
from typing import Any

from mask2former_ext.web.limits import RefusedError

# What the page itself asks for. The rest of what gradio would answer (uploads, files, its own programming interface) is
# not needed here, so nobody gets it.
ANSWERED = (
    *("/config", "/theme.css", "/favicon.ico", "/manifest.json", "/assets/", "/static/", "/svelte/"),
    *(f"/gradio_api/{name}" for name in ("queue/join", "queue/data", "heartbeat/", "reset", "cancel")),
)
SOURCES = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"
FILE_KEYS = ("path", "_type")  # of gradio's FileData and of its other typed objects
MAX_PARTS = 10_000  # values of a request's json; the page sends about ten
LONGEST_KEY = 40  # characters of a key that a message repeats


class Gate:
    """Lets in what the page asks for, and forbids the browser to load from anywhere else (ASGI).

    A request with a body gets in if it is the json that `check_body` takes, whatever its content type says.
    """

    def __init__(self, app: Any, max_request: int):
        self.app, self.max_request = app, max_request

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":  # the page opens none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["method"] not in ("GET", "HEAD"):
            body = await _received(receive, self.max_request)
            if body is None:
                return
            refusal = self._body_refusal(body)
            receive = _again(body, receive)
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", SOURCES)]
            await send(message)

        await self.app(scope, receive, send_with_policy)

    def _refusal(self, scope: Any) -> tuple[int, str] | None:
        """(HTTP status, message) of a request whose body is not read, None if there is nothing to refuse so far."""
        if scope["path"] != "/" and not scope["path"].startswith(ANSWERED):
            return 404, "The page has nothing at this address"
        if scope["method"] in ("GET", "HEAD"):
            return None
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or b"transfer-encoding" in headers:
            return 411, "A request must say its length, and come in one piece"
        return self._size_refusal(int(length))

    def _body_refusal(self, body: bytes) -> tuple[int, str] | None:
        refusal = self._size_refusal(len(body))
        if refusal is None:
            try:
                check_body(body)
            except RefusedError as error:
                refusal = 400, str(error)
        return refusal

    def _size_refusal(self, num_bytes: int) -> tuple[int, str] | None:
        if num_bytes <= self.max_request:
            return None
        return 413, f"The request has {num_bytes} bytes or more, but at most {self.max_request} are taken"


def check_body(body: bytes) -> None:
    """Raise RefusedError unless the body is json in which every parser reads the same, and no object names a file.

    That is UTF-8 without a byte order mark, no key twice in an object, and none of FILE_KEYS in any.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_PARTS:
        raise RefusedError(f"The request has more than {MAX_PARTS} values, but the page sends a few")
    try:
        json.loads(body.decode("utf-8"), object_pairs_hook=_check_keys)
    except RefusedError:
        raise
    except (ValueError, RecursionError) as error:
        raise RefusedError("The request is not json in UTF-8 as the page sends it") from error


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for key, _ in pairs:
        if key in FILE_KEYS:
            rule = "a file is sent as 'name' and 'data'"
            raise RefusedError(f"The request has an object with the key {key!r}, but {rule}")
        if key in seen:
            shown = repr(key[:LONGEST_KEY])
            raise RefusedError(f"The request has an object with the key {shown} twice, but once is enough")
        seen.add(key)


async def _received(receive: Any, max_request: int) -> bytes | None:
    """The body, or of one that is too long its beginning, longer than `max_request`; None if the asker has gone."""
    body = bytearray()
    while len(body) <= max_request:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


def _again(body: bytes, receive: Any) -> Any:
    """A `receive` that gives the body first, once."""
    kept = [body]

    async def receive_again() -> Any:
        return {"type": "http.request", "body": kept.pop(), "more_body": False} if kept else await receive()

    return receive_again


async def _refuse(send: Any, status: int, message: str) -> None:
    text = f"{message}.\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    headers.append((b"x-content-type-options", b"nosniff"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
