"""A published model by its name: downloaded once from a local server in the hub's form, checked, used."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former_ext import Predictor, cli, load_config, load_model
from mask2former_ext.inference import model_source
from mask2former_ext.interop import hub
from mask2former_ext.interop.published import DEFAULT_MODEL, find_published
from tests.hub_server import serve

NAME = DEFAULT_MODEL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small random model as the hub would hold it, and beside it its yaml and a photograph."""
    transformers = pytest.importorskip("transformers", reason="it writes the files that the hub holds")
    place = tmp_path_factory.mktemp("hub")
    swin = {"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 3, 4], "window_size": 4}
    backbone = transformers.SwinConfig(**swin, out_features=["stage1", "stage2", "stage3", "stage4"])
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
    more = {"dim_feedforward": 32, "encoder_feedforward_dim": 32, "num_attention_heads": 4, "num_queries": 5}
    config = transformers.Mask2FormerConfig(backbone_config=backbone, num_labels=4, **sizes, **more)
    path = place / find_published(NAME).place
    transformers.Mask2FormerForUniversalSegmentation(config).save_pretrained(path)
    (place / "tiny.yaml").write_text(load_config(str(path), ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]).dump())
    Image.fromarray(np.full((40, 60, 3), 90, dtype=np.uint8)).save(place / "photo.jpg")
    return place


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    """The hub's stand-in; the catalog's row is that of the small model, and nothing is on this machine yet."""
    record = replace(find_published(NAME), config=str(folder / "tiny.yaml"), changes=())
    monkeypatch.setattr(model_source, "find_published", lambda name: record if name == NAME else find_published(name))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "2")
    with serve(folder) as (address, handler):
        monkeypatch.setenv("HF_ENDPOINT", address)
        handler.record = record
        yield handler


@pytest.fixture
def kept(tmp_path):
    """What lies where downloads are kept."""
    return lambda: sorted(path.name for path in (tmp_path / "cache" / "hub" / "published").rglob("*"))


def predict(folder, output, *more: str) -> int:
    return cli.main(["predict", str(folder / "photo.jpg"), "--output", str(output), *more])


def test_load_model_by_name_has_the_weights_of_the_hub(folder, server):
    model, there = load_model(NAME), load_model(folder / server.record.place)
    assert not model.training
    assert all(torch.equal(value, there.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_published_model_is_downloaded_once(server, kept):
    load_model(NAME)
    count = len(server.asked)
    assert kept() == ["config.json", NAME, "model.safetensors", "sha256.json"]
    load_model(NAME)
    assert len(server.asked) == count


@pytest.mark.usefixtures("server")
def test_predict_draws_and_says_what_it_sees(folder, tmp_path, capsys):
    assert predict(folder, tmp_path / "out", "--yes") == 0
    shown = capsys.readouterr().out
    assert f"{folder / 'photo.jpg'}: semantic " in shown and "1 of 1 inputs segmented" in shown
    assert Image.open(tmp_path / "out" / "photo_semantic.png").size[0] >= 60


def test_predict_asks_with_size_and_license_and_takes_no_for_an_answer(folder, server, tmp_path, capsys, kept):
    assert predict(folder, tmp_path / "out") == 2
    told = capsys.readouterr()
    assert "190 MB from https://huggingface.co/facebook/" in told.out and "license CC BY-NC 4.0" in told.out
    assert told.err.endswith(f"{NAME} is not on this machine, and was not downloaded\n")
    assert (kept(), server.asked) == ([], [])


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 2)])
@pytest.mark.usefixtures("server")
def test_predict_at_a_terminal_waits_for_yes(folder, tmp_path, monkeypatch, answer, code):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    questions = []
    monkeypatch.setattr("builtins.input", lambda question: questions.append(question) or answer)
    assert predict(folder, tmp_path / "out") == code
    assert questions == ["Download it? [y/N] "]


@pytest.mark.parametrize("key", [EOFError, KeyboardInterrupt])
def test_whoever_leaves_the_question_gets_no_download(folder, server, tmp_path, monkeypatch, key):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", Mock(side_effect=key))
    assert (predict(folder, tmp_path / "out"), server.asked) == (2, [])


def test_weights_on_this_machine_need_no_download(folder, server, tmp_path):
    assert predict(folder, tmp_path / "out", "--weights", str(folder / server.record.place)) == 0
    assert server.asked == []


@pytest.mark.usefixtures("server")
def test_a_hub_out_of_reach_is_told_in_one_line_with_the_way_round(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert predict(folder, tmp_path / "out", "--yes") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "could not be reached" in line and line.endswith(f"--model {NAME} --weights FOLDER")


def test_a_download_that_breaks_leaves_nothing_behind(server, kept, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts
    server.cut = True
    with pytest.raises(OSError, match="could not be reached or read"):
        load_model(NAME)
    assert kept() == []


def test_a_file_of_another_checksum_is_named_and_leaves_nothing_behind(server, kept):
    server.lie = True
    with pytest.raises(ValueError, match=f"model.safetensors of .* must have {64 * '0'}"):
        load_model(NAME)
    assert kept() == []


@pytest.mark.usefixtures("server")
def test_a_kept_file_that_has_changed_is_named(tmp_path):
    load_model(NAME)
    (tmp_path / "cache" / "hub" / "published" / NAME / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="model.safetensors is no longer what was downloaded"):
        load_model(NAME)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_damaged_record_of_checksums_is_named(tmp_path, content):
    load_model(NAME)
    (tmp_path / "cache" / "hub" / "published" / NAME / "sha256.json").write_text(content)
    with pytest.raises(ValueError, match=r"sha256\.json is no longer what was downloaded: delete"):
        load_model(NAME)


def test_a_cache_that_cannot_be_written_is_told_before_the_download(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"folder of downloads \(TORCH_HOME\) '.*' cannot be written"):
        load_model(NAME)
    assert server.asked == []


def test_a_missing_photo_is_told_before_a_model_is_asked_for(server, tmp_path, capsys):
    assert cli.main(["predict", str(tmp_path / "none.jpg"), "--output", str(tmp_path / "out"), "--yes"]) == 2
    assert "none.jpg: no image or video there" in capsys.readouterr().err
    assert server.asked == []


def test_a_repository_of_another_architecture_is_refused(server, kept):
    record = replace(server.record, architecture="OneFormer")
    with pytest.raises(ValueError, match=f"holds a Mask2Former, but {NAME} is a OneFormer"):
        hub.fetch(record, lambda _: True)
    assert kept() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model_type": "detr"}', ": holds a model of type 'detr'"),
        (b"\xff", "/config.json: 'utf-8' codec can't decode"),
    ],
)
def test_a_config_that_is_none_is_told_by_its_address(server, kept, tmp_path, content, message):
    path = tmp_path / "root" / server.record.place / "config.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    server.root = tmp_path / "root"
    with pytest.raises(ValueError, match=f"^{server.record.address}{message}"):
        hub.fetch(server.record, lambda _: True)
    assert kept() == []


def test_a_folder_of_another_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "detr"}')
    with pytest.raises(ValueError, match="holds a model of type 'detr'; mask2former, maskformer, oneformer can be"):
        load_model(tmp_path)


def test_predictor_takes_a_folder(folder):
    predictor = Predictor(folder / find_published(NAME).place)
    assert predictor(np.zeros((32, 32, 3), dtype=np.uint8))["sem_seg"].shape == (4, 32, 32)


def test_an_unknown_model_is_told_with_the_nearest_names(folder, tmp_path, capsys):
    assert predict(folder, tmp_path / "out", "--model", "mask2former-swin-tony-coco-panoptic") == 2
    assert "the nearest names are mask2former-swin-tiny-coco-panoptic" in capsys.readouterr().err


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("is_right", [True, False])
def test_a_zoo_file_is_checked_by_the_checksum_in_its_name(kept, monkeypatch, is_right):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda _, path, **__: Path(path).write_bytes(b"weights"))
    start = hashlib.md5(b"weights", usedforsecurity=False).hexdigest()[:6] if is_right else "000000"
    record = replace(find_published(NAME), place=f"https://zoo/model_final_{start}.pkl")
    if is_right:
        assert Path(hub.fetch(record, lambda _: True)).read_bytes() == b"weights"
    else:
        with pytest.raises(ValueError, match=r"model_final_000000\.pkl of https://zoo/.* must have 000000"):
            hub.fetch(record, lambda _: True)
        assert kept() == []
