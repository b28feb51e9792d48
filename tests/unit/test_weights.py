"""Reading weight files without executing them, and loading them with a report."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from safetensors.torch import save_file
from torch import Tensor, nn

import mask2former_ext.models.backbones  # noqa: F401  # registers Swin and timm's
from mask2former_ext.config import add_config
from mask2former_ext.interop.foreign_names import detectron2_resnet_name
from mask2former_ext.interop.weights import load_weights, read_weights

STATE = {"backbone.a.weight": torch.arange(6.0).reshape(2, 3), "sem_seg_head.b": torch.tensor([1, 2])}


class Malice:
    """Unpickled without care, this runs a command."""

    def __reduce__(self):
        return os.system, ("exit 1",)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def pickled(path, content, protocol: int = 4) -> str:
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol=protocol)
    return str(path)


# ----------------------------------------------------------------------------------------------------------- reading


def test_safetensors_are_read(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    assert same(read_weights(str(tmp_path / "a.safetensors")), STATE)


@pytest.mark.parametrize("container", ["model", "state_dict", None])
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_checkpoints_are_read_wherever_they_keep_their_tensors(tmp_path, container, zipped):
    path = str(tmp_path / "a.pth")
    content = {container: STATE, "iteration": 3} if container else STATE
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(read_weights(path), STATE)


def test_checkpoints_with_numpy_numbers_beside_the_tensors_are_read(tmp_path):
    torch.save({"model": STATE, "best": np.float64(0.5)}, tmp_path / "a.pth")
    assert same(read_weights(str(tmp_path / "a.pth")), STATE)


@pytest.mark.parametrize("protocol", [2, 4])
def test_zoo_pickles_of_numpy_arrays_are_read(tmp_path, protocol):
    arrays = {name: value.numpy() for name, value in STATE.items()}
    content = {"model": arrays, "__author__": "zoo", "matching_heuristics": True}
    assert same(read_weights(pickled(tmp_path / "a.pkl", content, protocol)), STATE)


def test_pickles_of_tensors_are_read(tmp_path):
    # What the published conversion script makes of Swin's files.
    assert same(read_weights(pickled(tmp_path / "a.pkl", {"model": STATE, "__author__": "third_party"})), STATE)


@pytest.mark.parametrize("name", ["a.pkl", "a.pth"])
def test_a_file_that_wants_to_run_something_is_refused_and_nothing_runs(tmp_path, name, monkeypatch):
    path = str(tmp_path / name)
    if name == "a.pkl":
        pickled(path, {"model": {"a": Malice()}})
    else:
        torch.save({"model": {"a": Malice()}}, path)
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("the file was executed"))
    with pytest.raises(ValueError, match=rf"{name}: not a weight file that can be read safely: .*system"):
        read_weights(path)


def test_codecs_other_than_latin1_are_refused(tmp_path):
    # Protocol 0: call _codecs.encode("x", "rot13").
    (tmp_path / "a.pkl").write_bytes(b"c_codecs\nencode\n(Vx\nVrot13\ntR.")
    with pytest.raises(ValueError, match="codec 'rot13'"):
        read_weights(str(tmp_path / "a.pkl"))


@pytest.mark.parametrize("name", ["a.pkl", "a.pth", "a.safetensors"])
def test_a_truncated_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match=name):
        read_weights(str(tmp_path / name))


def test_a_file_without_tensors_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no tensors; its entries are \['epoch'\]"):
        read_weights(pickled(tmp_path / "a.pkl", {"epoch": 3}))


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        read_weights("nowhere.pth")


# ----------------------------------------------------------------------------------------------------------- loading


class Model(nn.Module):
    def __init__(self, classes: int = 3):
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": nn.Linear(2, 2), "res2": nn.Linear(2, 2)})
        self.sem_seg_head = nn.ModuleDict({"predictor": nn.ModuleDict({"query_feat": nn.Embedding(4, 2)})})
        self.sem_seg_head["predictor"]["class_embed"] = nn.Linear(2, classes)
        self.sem_seg_head["pixel_decoder"] = nn.ModuleDict({"mask_features": nn.Linear(2, 2)})


def saved(tmp_path, state: dict[str, Tensor]) -> str:
    path = str(tmp_path / "weights.safetensors")
    save_file({name: value.clone() for name, value in state.items()}, path)
    return path


def test_a_whole_model_loads_whole(tmp_path):
    model, other = Model(), Model()
    report = load_weights(model, saved(tmp_path, other.state_dict()))
    assert same(model.state_dict(), other.state_dict())
    assert (len(report.matched), report.missing, report.unexpected, report.wrong_shape) == (9, [], [], [])


def test_a_head_of_another_class_count_stays_as_it_was_and_is_reported(tmp_path):
    model = Model(classes=5)
    before = model.sem_seg_head["predictor"]["class_embed"].bias.clone()
    report = load_weights(model, saved(tmp_path, Model(classes=3).state_dict()))
    assert ("sem_seg_head.predictor.class_embed.bias", (3,), (5,)) in report.wrong_shape
    assert torch.equal(model.sem_seg_head["predictor"]["class_embed"].bias, before)


def test_the_report_counts_and_names(tmp_path):
    state = Model(classes=5).state_dict()
    del state["sem_seg_head.predictor.query_feat.weight"]
    state["stranger"], state["pixel_mean"] = torch.zeros(1), torch.zeros(3)
    lines = str(load_weights(Model(classes=3), saved(tmp_path, state))).splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["matched", "6"], ["missing", "1"]]
    assert lines[3].split() == ["unexpected", "1", "stranger", "1:", "stranger"]
    assert "wrong shape      2  sem_seg_head.predictor.class_embed.bias [5] for [3]" in lines[4]
    assert lines[5].split() == ["not", "needed", "1"]


def test_a_model_whose_backbone_does_not_load_is_an_error(tmp_path):
    state = {name: value for name, value in Model().state_dict().items() if not name.startswith("backbone.stem")}
    with pytest.raises(ValueError, match="the backbone does not load: 2 of its 4 tensors"):
        load_weights(Model(), saved(tmp_path, state))


def test_a_file_of_another_model_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="0 of its 4 tensors"):
        load_weights(Model(), saved(tmp_path, {"encoder.weight": torch.zeros(2)}))


def test_names_of_before_the_release_are_understood(tmp_path):
    state = Model().state_dict()
    state["sem_seg_head.predictor.static_query.weight"] = state.pop("sem_seg_head.predictor.query_feat.weight")
    for part in ("weight", "bias"):
        state[f"sem_seg_head.mask_features.{part}"] = state.pop(f"sem_seg_head.pixel_decoder.mask_features.{part}")
    assert load_weights(Model(), saved(tmp_path, state)).missing == []


def test_a_backbone_alone_loads_into_the_backbone(tmp_path):
    model, other = Model(), Model()
    report = load_weights(model, saved(tmp_path, other.backbone.state_dict()))
    assert same(model.backbone.state_dict(), other.backbone.state_dict())
    assert len(report.matched) == 4 and not report.is_partial


def test_names_of_distributed_training_lose_their_prefix(tmp_path):
    state = {f"module.{name}": value for name, value in Model().state_dict().items()}
    assert load_weights(Model(), saved(tmp_path, state)).missing == []


def test_a_name_is_not_matched_by_its_ending(tmp_path):
    state = {f"student.{name}": value for name, value in Model().state_dict().items()}
    with pytest.raises(ValueError, match="the backbone does not load"):
        load_weights(Model(), saved(tmp_path, state))


def test_torchvisions_resnet_loads_into_detectron2s(tmp_path):
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    model = nn.Module()
    model.backbone = build_backbone(cfg)
    source = torchvision.models.resnet18(weights=None).state_dict()
    report = load_weights(model, saved(tmp_path, source))
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])
    assert torch.equal(model.state_dict()["backbone.res3.0.shortcut.weight"], source["layer2.0.downsample.0.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "resnet10t", "test_vit"])
def test_timms_own_files_load_into_its_feature_extractors(tmp_path, name):
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.TIMM.NAME = "TimmBackbone", name
    model = nn.Module()
    model.backbone = build_backbone(cfg)
    report = load_weights(model, saved(tmp_path, timm.create_model(name).state_dict()))
    assert [name for name in report.missing if "pyramid" not in name] == []
    assert (report.unexpected, report.wrong_shape) == ([], [])


def test_swins_own_file_loads_but_for_the_norms_that_it_lacks(tmp_path):
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.SWIN.EMBED_DIM, cfg.MODEL.SWIN.DEPTHS = "D2SwinTransformer", 12, [1, 1, 1, 1]
    model, other = nn.Module(), build_backbone(cfg)
    model.backbone = build_backbone(cfg)
    state = {name: value for name, value in other.state_dict().items() if not name.startswith("norm")}
    strangers = ("norm.weight", "head.bias", "layers.0.blocks.0.attn_mask")  # of the published classifier
    report = load_weights(model, saved(tmp_path, state | {name: torch.zeros(1) for name in strangers}))
    assert (report.unexpected, len(report.needless)) == ([], 3)
    assert report.missing == [f"backbone.norm{i}.{part}" for i in range(4) for part in ("bias", "weight")]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_mean", "stem.conv1.norm.running_mean"),
        ("layer1.0.conv2.weight", "res2.0.conv2.weight"),
        ("layer4.2.bn3.bias", "res5.2.conv3.norm.bias"),
        ("layer2.0.downsample.0.weight", "res3.0.shortcut.weight"),
        ("layer2.0.downsample.1.bias", "res3.0.shortcut.norm.bias"),
        ("res3.0.conv1.weight", "res3.0.conv1.weight"),
    ],
)
def test_names_of_torchvisions_resnet(theirs, ours):
    assert detectron2_resnet_name(theirs) == ours
