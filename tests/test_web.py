"""The web page's server, asked over HTTP without a browser, with a made predictor behind it."""

from __future__ import annotations

import http.client
import importlib
import json
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from web_server import MadePredictor, picture, served, upload

pytest.importorskip("gradio", reason="gradio is not installed (the extra `web`)")
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def web(repository):
    """The module demo/web.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repository / "demo")
        yield importlib.import_module("web")


@pytest.fixture(scope="module")
def address(web):
    answerer = web.Answerer({"made": MadePredictor()}, web.Limits(max_bytes=MAX_BYTES))
    with served(web.build_app(answerer, max_waiting=40)) as address:
        yield address


def request(address: str, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict, bytes]:
    """(status, headers, content); the path goes out as it is."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def post(address: str, path: str, content: object) -> tuple[int, dict, bytes]:
    body = json.dumps(content).encode()
    return request(address, "POST", path, body, Content_Type="application/json", Content_Length=str(len(body)))


def put(address: str, sent: object, task: str = "panoptic") -> tuple[int, str]:
    """Put a question into the queue as the page would: (status, session)."""
    config = json.loads(request(address, "GET", "/config")[2])
    number = next(d["id"] for d in config["dependencies"] if len(d["inputs"]) == 4)
    session = uuid.uuid4().hex
    question = {"data": [sent, "made", task, 0.3], "fn_index": number, "session_hash": session}
    return post(address, "/gradio_api/queue/join", question)[0], session


def ask(address: str, sent: object, task: str = "panoptic") -> dict:
    """The queue's last word on one question."""
    status, session = put(address, sent, task)
    assert status == 200
    stream = request(address, "GET", f"/gradio_api/queue/data?session_hash={session}")[2].decode()
    messages = [json.loads(line.removeprefix("data:")) for line in stream.splitlines() if line.startswith("data:")]
    return next(message for message in messages if message["msg"] == "process_completed")


def test_a_question_over_the_queue_is_answered(address):
    (answer,) = ask(address, upload(picture()))["output"]["data"]
    assert [found["name"] for found in answer["segments"]] == ["dog", "cat"]


def test_twenty_at_once_are_all_answered(address):
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: ask(address, upload(picture())), range(20)))
    assert [len(answer["output"]["data"][0]["segments"]) for answer in answers] == [2] * 20


class WaitingPredictor(MadePredictor):
    """Answers when it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked, self.go_on = threading.Event(), threading.Event()

    def __call__(self, image, **question):
        self.was_asked.set()
        self.go_on.wait()
        return super().__call__(image, **question)


def test_more_than_may_wait_are_refused_and_the_rest_answered(web):
    predictor = WaitingPredictor()
    app = web.build_app(web.Answerer({"made": predictor}, web.Limits()), max_waiting=1)
    with served(app) as address, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, address, upload(picture()))
        predictor.was_asked.wait()
        statuses = [put(address, None)[0] for _ in range(5)]
        predictor.go_on.set()
        assert first.result()["success"] and 503 in statuses


def test_an_answer_leaves_nothing_on_disk(address, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    ask(address, upload(picture()))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_bad_file_is_answered_with_a_message_and_no_traceback(address):
    said = ask(address, upload(b"no picture", "b.png"))
    assert said["output"]["data"] == [{"error": True, "message": "b.png is no picture or video that can be read."}]


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:9/x"])
def test_a_path_in_the_place_of_a_file_is_refused(address, path):
    tricks = [{"path": path}, {"path": path, "meta": {"_type": "gradio.FileData"}}, {"name": "a.png", "data": path}]
    for said in (ask(address, trick) for trick in tricks):
        text = json.dumps(said)
        assert "root:" not in text and "Traceback" not in text
        assert not said["success"] or said["output"]["data"][0]["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/proxy=https://example.org/",
        "/assets/../../../../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/svelte/../../../../../../../../../etc/passwd",
        "/gradio_api/queue/../file=/etc/passwd",
        "//etc/passwd",
        "/monitoring",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_file_of_the_machine_is_given_out(address, path):
    status, _, content = request(address, "GET", path)
    assert 400 <= status < 500
    assert b"root:" not in content and b"Traceback" not in content


@pytest.mark.parametrize(
    "path", ["/gradio_api/upload", "/upload", "/gradio_api/component_server", "/gradio_api/run/predict"]
)
def test_nothing_can_be_stored_or_called_beside_the_page(address, path):
    assert post(address, path, {})[0] == 404


def test_a_request_larger_than_any_file_is_refused_unread(address):
    length = str(MAX_BYTES * 3)
    assert request(address, "POST", "/gradio_api/queue/join", None, Content_Length=length)[0] == 413


def test_a_request_of_unknown_length_is_refused(address):
    assert request(address, "POST", "/gradio_api/queue/join", None, Transfer_Encoding="chunked")[0] == 411


def test_the_browser_is_told_to_load_from_nowhere_else(address):
    policy = request(address, "GET", "/")[1]["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy


def test_the_page_names_no_other_host_to_load_from(address):
    page = request(address, "GET", "/")[2].decode() + request(address, "GET", "/theme.css")[2].decode()
    assert "googleapis" not in page and '<script src="http' not in page and "url(http" not in page
