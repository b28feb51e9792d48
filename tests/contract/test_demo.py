"""The command line of demo/demo.py, with a stand-in predictor in the place of a trained model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from PIL import Image

from mask2former_ext.commands import trained_model
from tests.stand_in_demo import SIZE, StandInPredictor, run


def test_a_folder_gives_an_overlay_for_each_image_and_task(demo, folder, tmp_path):
    assert run(demo, [folder], tmp_path / "out") == 0
    expected = {f"{name}_{task}.png" for name in "ab" for task in ("semantic", "instance", "panoptic")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected


def test_images_and_globs_count_once(demo, folder, tmp_path):
    run(demo, [folder / "a.png", folder / "*.png"], tmp_path / "out", "--task", "panoptic")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_panoptic.png"]


def test_images_of_one_name_do_not_overwrite_each_other(demo, folder, tmp_path):
    other = tmp_path / "a.png"
    other.write_bytes((folder / "a.png").read_bytes())
    run(demo, [folder / "a.png", other], tmp_path / "out", "--task", "semantic")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a_semantic.png", "a_2_semantic.png"}


def test_a_broken_image_is_told_in_a_line_and_the_rest_goes_on(demo, folder, tmp_path, capsys):
    (folder / "a.png").write_bytes(b"no image")
    assert run(demo, [folder, tmp_path / "absent.jpg"], tmp_path / "out", "--task", "panoptic") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert [("absent.jpg" in line, "a.png" in line) for line in errors] == [(True, False), (False, True)]
    assert (tmp_path / "out" / "b_panoptic.png").exists()


def test_label_files_hold_what_was_predicted(demo, folder, tmp_path):
    run(demo, [folder / "a.png"], tmp_path, "--save", "labels", "--confidence-threshold", "0.3")
    panoptic, semantic, instance = (
        np.asarray(Image.open(tmp_path / f"a_{task}_labels.png"))[0, [0, -1]].tolist()
        for task in ("panoptic", "semantic", "instance")
    )
    assert (panoptic, semantic, instance) == ([[1, 0, 0], [2, 0, 0]], [0, 1], [1, 2])


def test_the_threshold_has_an_effect_in_every_task(demo, folder, tmp_path):
    run(demo, [folder / "a.png"], tmp_path, "--save", "labels", "--confidence-threshold", "0.5")
    right = {
        task: np.asarray(Image.open(tmp_path / f"a_{task}_labels.png"))[0, -1].tolist()
        for task in ("semantic", "instance", "panoptic")
    }
    assert right == {"semantic": 255, "instance": 0, "panoptic": [0, 0, 0]}


def test_json_lists_what_was_found(demo, folder, tmp_path):
    run(demo, [folder / "a.png"], tmp_path, "--save", "json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["height"], content["width"]) == SIZE
    assert [(s["category_id"], s["area"]) for s in content["panoptic"]] == [(0, 1200), (1, 1200)]
    assert [s["area"] for s in content["semantic"]] == [1200, 1200]
    assert [(i["bbox"], round(i["score"], 2)) for i in content["instance"]] == [([0, 0, 30, 40], 0.9)]


def test_an_output_that_cannot_be_made_is_told_in_a_line(demo, folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(demo, [folder], tmp_path / "file" / "below") == 2
    assert capsys.readouterr().err.startswith(f"demo.py: error: --output '{tmp_path / 'file' / 'below'}' cannot be")


def test_what_failed_before_the_end_is_told_at_the_end(demo, folder, tmp_path, capsys):
    (folder / "a.png").write_bytes(b"no image")
    (tmp_path / "out" / "b_panoptic.png").mkdir(parents=True)  # so that this picture cannot be saved
    assert run(demo, [folder], tmp_path / "out", "--task", "panoptic") == 2
    first, last = (line for line in capsys.readouterr().err.splitlines() if line.startswith("demo.py: error: "))
    assert "a.png" in first and "b_panoptic.png" in last


class StandInDetector(StandInPredictor):
    """A box of a dog 0.9 and one of a cat 0.4, without masks."""

    def __call__(self, images: list[np.ndarray], *, threshold: float | None) -> list[dict]:  # noqa: ARG002
        fields = {"scores": torch.tensor([0.9, 0.4]), "pred_classes": torch.tensor([0, 1])}
        boxes = Boxes(torch.tensor([[0.0, 0, 30, 40], [30, 0, 60, 40]]))
        return [{"instances": Instances(image.shape[:2], pred_boxes=boxes, **fields)} for image in images]


def test_boxes_alone_are_drawn_and_listed_but_make_no_label_file(demo, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "Predictor", StandInDetector)
    assert run(demo, [folder / "a.png"], tmp_path / "out", "--save", "overlay", "labels", "json") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a_instance.png", "a.json"}
    (found,) = json.loads((tmp_path / "out" / "a.json").read_text())["instance"]
    assert found["bbox"] == [0, 0, 30, 40] and found["name"] == "class 0" and "segmentation" not in found


class AnswersAll(StandInPredictor):
    """Whatever the keys of mask classifiers say."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg.clone())
        self.cfg.update({"SEMANTIC_ON": True, "INSTANCE_ON": True, "PANOPTIC_ON": True})


@pytest.fixture
def panoptic_fpn(demo, monkeypatch):
    """The demo's configuration is of a model that says itself what it answers."""
    cfg = trained_model.load_config()
    cfg.MODEL.META_ARCHITECTURE = "PanopticFeaturePyramid"
    monkeypatch.setattr(trained_model, "load_config", lambda *_: cfg)
    monkeypatch.setattr(demo, "Predictor", AnswersAll)
    return cfg


@pytest.mark.usefixtures("panoptic_fpn")
def test_of_a_model_that_answers_all_at_once_only_the_asked_task_is_saved(demo, folder, tmp_path):
    assert run(demo, [folder / "a.png"], tmp_path / "out", "--task", "panoptic") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a_panoptic.png"}


def test_a_task_that_the_model_does_not_answer_is_refused(demo, folder, tmp_path, panoptic_fpn, capsys):
    panoptic_fpn.MODEL.META_ARCHITECTURE = "MaskRCNN"
    assert run(demo, [folder], tmp_path / "out", "--task", "semantic") == 2
    assert "--task semantic: MaskRCNN answers instance alone" in capsys.readouterr().err


def test_a_threshold_outside_0_to_1_is_refused(demo, folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(demo, [folder], tmp_path, "--confidence-threshold", "50")
    assert "--confidence-threshold is 50.0, but must lie in [0, 1]" in capsys.readouterr().err


def test_a_model_without_weights_is_refused(demo, folder, tmp_path, monkeypatch, capsys):
    cfg = CfgNode({"MODEL": {"WEIGHTS": ""}})
    monkeypatch.setattr(trained_model, "load_config", lambda *_: cfg)
    assert run(demo, [folder], tmp_path / "out") == 2
    assert "MODEL.WEIGHTS is empty" in capsys.readouterr().err
