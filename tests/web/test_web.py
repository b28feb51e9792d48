"""The web page's server, over HTTP without a browser, with a stand-in predictor behind it."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import importlib
import json
import os
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.web_server import StandInPredictor, WaitingPredictor, clip, picture, served, upload

pytest.importorskip("gradio", reason="gradio is not installed (the extra `web`)")
MAX_BYTES = 100_000
PATIENCE = 120  # s that a busy machine may take


@pytest.fixture(scope="module")
def web():
    """The module of the page."""
    return importlib.import_module("mask2former_ext.web.app")


@pytest.fixture(scope="module")
def address(web):
    answerer = web.Answerer({"stand-in": StandInPredictor()}, web.Limits(max_bytes=MAX_BYTES))
    with served(web.build_app(answerer, max_waiting=40)) as address:
        yield address


def request(address: str, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict, bytes]:
    """(status, headers, content); the path goes out as it is."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE)
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


def question(address: str, sent: object, task: object = "panoptic") -> dict[str, object]:
    """A question as the page puts it."""
    config = json.loads(request(address, "GET", "/config")[2])
    number = next(d["id"] for d in config["dependencies"] if len(d["inputs"]) == 4)
    return {"data": [sent, "stand-in", task, 0.3], "fn_index": number, "session_hash": uuid.uuid4().hex}


def put(address: str, sent: object, task: str = "panoptic") -> tuple[int, str]:
    """Put a question into the queue as the page would: (status, session)."""
    sent_question = question(address, sent, task)
    return post(address, "/gradio_api/queue/join", sent_question)[0], sent_question["session_hash"]


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


def test_more_than_may_wait_are_refused_and_the_rest_answered(web):
    predictor = WaitingPredictor()
    app = web.build_app(web.Answerer({"stand-in": predictor}, web.Limits()), max_waiting=1)
    with served(app) as address, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, address, upload(picture()))
        predictor.was_called.wait()
        statuses = [put(address, None)[0] for _ in range(5)]
        predictor.go_on.set()
        assert first.result()["success"] and 503 in statuses


def stop(address: str, ticket: object) -> int:
    """The status of a stop as the page sends it when Cancel is pressed."""
    config = json.loads(request(address, "GET", "/config")[2])
    number = next(d["id"] for d in config["dependencies"] if d["targets"][0][1] == "stop")
    body = {"data": [], "event_data": {"ticket": ticket}, "fn_index": number, "session_hash": uuid.uuid4().hex}
    status = post(address, "/gradio_api/queue/join", body)[0]
    if status == 200:
        request(address, "GET", f"/gradio_api/queue/data?session_hash={body['session_hash']}")  # until it is done
    return status


def test_a_stop_ends_the_work_on_a_video(web):
    predictor = WaitingPredictor()
    app = web.build_app(web.Answerer({"stand-in": predictor}, web.Limits()), max_waiting=40)
    with served(app) as address, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, address, {**upload(clip(), "way.mp4"), "ticket": "mine"})
        predictor.was_called.wait()
        assert stop(address, "mine") == 200
        predictor.go_on.set()
        assert asked.result()["output"]["data"] == [{"stopped": True, "ticket": "mine"}]
    assert len(predictor.requests) == 1  # of ten frames


def test_a_stop_that_names_a_file_is_refused(address):
    assert stop(address, {"path": "/etc/passwd"}) == 400


@pytest.mark.parametrize("ticket", [None, 3, [], {}, "x" * 10_000])
def test_a_stop_of_no_ticket_stops_nothing(address, ticket):
    assert stop(address, ticket) == 200
    assert len(ask(address, {**upload(picture()), "ticket": ticket})["output"]["data"][0]["segments"]) == 2


def test_an_answer_leaves_nothing_on_disk(address, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    ask(address, upload(picture()))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_bad_file_is_answered_with_a_message_and_no_traceback(address):
    answer = ask(address, upload(b"no picture", "b.png"))
    (data,) = answer["output"]["data"]
    assert data.keys() == {"error", "message"} and data["error"]
    assert data["message"].startswith("b.png is no picture or video that can be read. Pictures can be JPEG, PNG, ")


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:9/x"])
def test_a_path_in_the_place_of_a_files_bytes_is_no_file(address, path):
    answer = ask(address, {"name": "a.png", "data": path})["output"]["data"][0]
    assert answer == {"error": True, "message": "This is not a file as the page sends it."}


def server_file(path: object) -> dict[str, object]:
    """What gradio takes for a file that lies on the server."""
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def watched(web, tmp_path, monkeypatch):
    """An address whose server has all temporary folders in `tmp_path`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    answerer = web.Answerer({"stand-in": StandInPredictor()}, web.Limits(max_bytes=MAX_BYTES))
    with served(web.build_app(answerer, max_waiting=40)) as address:
        yield address


def places(sent_question: dict, file: object) -> list[dict]:
    """The question with the file in the place of its file, its model, its task, in one of them, and beside them."""
    _, model, task, threshold = sent_question["data"]
    sent = [[file, model, task, threshold], [None, model, file, threshold], [None, file, task, threshold]]
    sent += [[[{"name": [file]}], model, task, threshold], [None, model, {"x": {"y": [file]}}, threshold]]
    return [*({**sent_question, "data": data} for data in sent), {**sent_question, "event_data": file}]


@pytest.mark.parametrize("keys", [("path", "meta"), ("path",), ("meta",)])
def test_a_file_of_the_server_is_refused_and_not_copied(watched, tmp_path, keys):
    canary = tmp_path / "canary.txt"
    canary.write_text("secret")
    file = {key: value for key, value in server_file(canary).items() if key in keys}
    for sent_question in places(question(watched, None), file):
        status, _, content = post(watched, "/gradio_api/queue/join", sent_question)
        assert status == 400 and b"but a file is sent as 'name' and 'data'" in content and content.count(b"\n") == 1
        assert request(watched, "GET", "/config")[0] == 200
    assert ask(watched, upload(picture()))["success"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [canary]


def test_a_file_in_gradios_own_folder_is_refused_too(watched, tmp_path):
    (tmp_path / "gradio").mkdir(exist_ok=True)
    (tmp_path / "gradio" / "a.png").write_bytes(picture())
    sent_question = question(watched, server_file(tmp_path / "gradio" / "a.png"))
    assert post(watched, "/gradio_api/queue/join", sent_question)[0] == 400


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_a_device_or_pipe_is_refused_and_the_page_goes_on(watched, tmp_path, kind):
    path = "/dev/zero" if kind == "device" else tmp_path / "pipe"
    if kind == "pipe":
        os.mkfifo(path)
    for sent_question in places(question(watched, None), server_file(path)):
        assert post(watched, "/gradio_api/queue/join", sent_question)[0] == 400
    assert ask(watched, upload(picture()))["success"]


def rewritten(text: str) -> dict[str, bytes]:
    """The same json written so that a careless look for the key `path` misses it."""
    return {
        "escaped": text.replace('"path"', '"p\\u0061th"').encode(),
        "twice": text.replace('"path"', '"path": 1, "path"').encode(),
        "hidden": text.replace('"meta"', '"path": null, "meta"').encode(),
        "a question twice": f'{text[:-1]}, "data": []}}'.encode(),
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32"),
        "UTF-8 with a mark": text.encode("utf-8-sig"),
        "compressed": gzip.compress(text.encode()),
        "form": b"--x\r\nContent-Disposition: form-data; name=data\r\n\r\n" + text.encode() + b"\r\n--x--\r\n",
    }


@pytest.mark.parametrize("kind", list(rewritten("{}")))
def test_a_file_of_the_server_is_refused_however_it_is_written(address, kind):
    body = rewritten(json.dumps(question(address, server_file("/dev/zero"))))[kind]
    headers = {"Content_Length": str(len(body))}
    for content_type in ("application/json", "text/plain", "application/json; charset=utf-16", "multipart/form-data"):
        for path in ("queue/join", "queue/join?data=1", "queue/join/", "queue/%6aoin", "cancel", "reset"):
            sent = request(address, "POST", f"/gradio_api/{path}", body, Content_Type=content_type, **headers)
            assert sent[0] == 400, (content_type, path)
    assert request(address, "PUT", "/gradio_api/queue/join", body, **headers)[0] == 400


@pytest.mark.parametrize("key", ["data", "fn_index", "name"])
def test_a_key_twice_in_one_object_is_refused(address, key):
    body = f'{{"data": [{{"name": 1, "{key}": 2}}], "fn_index": 0, "{key}": 1}}'.encode()
    status, _, content = request(address, "POST", "/gradio_api/queue/join", body, Content_Length=str(len(body)))
    assert status == 400 and f"has an object with the key '{key}' twice".encode() in content


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 9_000, b"[1" + b"0" * 5_000 + b"]", b"\xff", b"{}" * 2])
def test_a_body_that_is_no_json_is_refused(address, body):
    status, _, content = request(address, "POST", "/gradio_api/queue/join", body, Content_Length=str(len(body)))
    assert status == 400 and content == b"The request is not json in UTF-8 as the page sends it.\n"


def test_a_body_of_very_many_values_is_refused_unparsed(address):
    status, _, content = post(address, "/gradio_api/queue/join", {"data": [[]] * 20_000})
    assert status == 400 and b"has more than 10000 values" in content


def test_a_websocket_is_closed_at_once(web):
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(web.Gate(None, 1)({"type": "websocket", "path": "/gradio_api/queue/join"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_body_longer_than_it_says_is_not_read_to_its_end(web):
    chunk, read, sent = {"type": "http.request", "body": b"[" * 8, "more_body": True}, [], []

    async def receive() -> dict:
        read.append(chunk)
        return chunk

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/reset", "headers": [(b"content-length", b"2")]}
    asyncio.run(web.Gate(None, 20)(scope, receive, send))
    assert sent[0]["status"] == 413 and len(read) == 3


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
    "path",
    [
        "/upload",
        "/queue/join",
        "/run/predict",
        "/gradio_api/upload",
        "/gradio_api/component_server",
        "/gradio_api/run/predict",
        "/gradio_api/api/predict",
        "/gradio_api/call/answer",
        "/gradio_api/call/v2/answer",
        "/gradio_api/stream/x",
        "/gradio_api/process_recording",
        "/gradio_api/run-history/connect",
        "/gradio_api/vibe-code",
        "/gradio_api/mcp/",
    ],
)
def test_nothing_can_be_stored_or_called_beside_the_page(address, path):
    assert post(address, path, {})[0] == 404


def test_a_request_larger_than_any_file_is_refused_unread(address):
    length = str(MAX_BYTES * 3)
    assert request(address, "POST", "/gradio_api/queue/join", None, Content_Length=length)[0] == 413


def test_a_request_of_unknown_length_is_refused(address):
    assert request(address, "POST", "/gradio_api/queue/join", None, Transfer_Encoding="chunked")[0] == 411


def test_a_request_of_length_and_chunks_is_refused(address):
    headers = {"Content_Length": "2", "Transfer_Encoding": "chunked"}
    status = request(address, "POST", "/gradio_api/queue/join", b"2\r\n{}\r\n0\r\n\r\n", **headers)[0]
    assert status in (400, 411)  # which of the two depends on uvicorn's parser


def test_the_browser_is_told_to_load_from_nowhere_else(address):
    policy = request(address, "GET", "/")[1]["content-security-policy"]
    assert policy.startswith("default-src 'self'") and "http" not in policy


def test_the_page_names_no_other_host_to_load_from(address):
    page = request(address, "GET", "/")[2].decode() + request(address, "GET", "/theme.css")[2].decode()
    assert "googleapis" not in page and '<script src="http' not in page and "url(http" not in page


def test_a_model_of_further_channels_is_refused_by_check_pictures(web):
    cfg = StandInPredictor().cfg
    web.check_pictures(cfg, "a.yaml")
    cfg.INPUT.FORMAT = "RGBT"
    with pytest.raises(ValueError, match="a.yaml: INPUT.FORMAT is 'RGBT', but must be RGB or BGR or L"):
        web.check_pictures(cfg, "a.yaml")


def test_a_port_that_is_none_is_told_before_a_model_is_loaded(web, capsys):
    with pytest.raises(SystemExit, match="2"):
        web.parse_args(["--port", "70000"])
    assert capsys.readouterr().err.endswith("--port is 70000, but must lie in [0, 65535]\n")
