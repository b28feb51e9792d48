"""A model that reads its task answers each one under its own sentence: in evaluation, and in the predictor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import nn

import mask2former_ext
from mask2former_ext.config.checks import check_training
from mask2former_ext.contract import Contract, Request
from mask2former_ext.data import prepare_data, register_all
from mask2former_ext.data.image_io import read_panoptic
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from mask2former_ext.data.targets.masks import panoptic_ids, panoptic_masks, panoptic_to_semantic
from mask2former_ext.engine import Trainer
from mask2former_ext.models.mask_classifier import InferenceOptions

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "mask2former" / "shapes_panoptic.yaml"
NUM_CLASSES = 9


@META_ARCH_REGISTRY.register()
class Obedient(Contract):
    """Answers what is switched on by the truth of the image if that is the requested task, else by nothing."""

    reads_task = True

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.inference = InferenceOptions.from_config(cfg)
        self.requested: list[str] = []

    def answer(self, batched_inputs: list[dict], request: Request) -> list[dict]:
        tasks = request.tasks or ()
        self.requested += [task for _ in batched_inputs for task in tasks]
        options = [(task, self.inference.requested(Request((task,)))) for task in tasks]
        return [
            {key: value for task, only in options for key, value in self.result({**x, "task": task}, only).items()}
            for x in batched_inputs
        ]

    def result(self, x: dict, options: InferenceOptions) -> dict:
        ids, segments = np.zeros((x["height"], x["width"]), np.int32), []
        if "pan_seg_file_name" in x:
            ids, segments = panoptic_ids(read_panoptic(x["pan_seg_file_name"])), x["segments_info"]
        result = {}
        if options.semantic:
            labels = torch.from_numpy(panoptic_to_semantic(ids, self.known(segments, x, "semantic"), 0)).long()
            result["sem_seg"] = nn.functional.one_hot(labels, NUM_CLASSES).permute(2, 0, 1).float()
        if options.instance:
            things = [s for s in self.known(segments, x, "instance") if s["isthing"]]
            masks, classes = (torch.from_numpy(part) for part in panoptic_masks(ids, things))
            fields = {"pred_masks": masks, "pred_classes": classes, "scores": torch.ones(len(classes))}
            result["instances"] = Instances(ids.shape, **fields, pred_boxes=Boxes(torch.zeros(len(classes), 4)))
        if options.panoptic:
            known = self.known(segments, x, "panoptic")
            result["panoptic_seg"] = (torch.from_numpy(ids * np.isin(ids, [s["id"] for s in known])), known)
        return result

    def known(self, segments: list[dict], x: dict, task: str) -> list[dict]:
        return segments if x["task"] == task else []


def config(*overrides) -> CfgNode:
    settings = ["MODEL.META_ARCHITECTURE", "Obedient", "INPUT.TARGETS", "unified", "MODEL.DEVICE", "cpu"]
    return mask2former_ext.load_config(str(CONFIG), [*settings, *overrides])


@pytest.fixture
def data(tmp_path: Path) -> Iterator[list]:
    """Settings that name the root of the synthetic data set."""
    make_shapes(str(tmp_path / "shapes"), Recipe(train=1, val=3, height=48, width=48))
    yield ["DATASETS.ROOT", str(tmp_path), "OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0]
    register_all()


def test_one_evaluation_scores_each_task_under_its_own_sentence(data: list) -> None:
    cfg = config(*data)
    prepare_data(cfg)
    results = Trainer.test(cfg, Obedient(cfg))
    figures = results["panoptic_seg"]["PQ"], results["segm"]["AP"], results["sem_seg"]["mIoU"]
    assert figures == pytest.approx((100, 100, 100))


def test_the_figures_of_all_tasks_stand_in_one_table(data: list, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config(*data)
    prepare_data(cfg)
    with caplog.at_level("INFO"):
        Trainer.test(cfg, Obedient(cfg))
    (table,) = [message for message in caplog.messages if message.startswith("results\n")]
    assert [line.split()[1] for line in table.splitlines()[1:]] == ["PQ", "AP", "AP", "mIoU"]


def test_a_task_that_the_data_has_no_truth_for_is_not_asked(data: list, tmp_path: Path, caplog) -> None:
    folder = tmp_path / "shapes" / "val"
    names = [f"class {k}" for k in range(NUM_CLASSES)]
    labels = {"NAME": "val_labels", "IMAGES": str(folder / "images"), "SEMANTIC_MASKS": str(folder / "semantic")}
    cfg = config(*data, "DATASETS.CUSTOM", [{**labels, "CLASSES": names}], "DATASETS.TEST", ["val_labels"])
    prepare_data(cfg)
    model = Obedient(cfg)
    with caplog.at_level("INFO"):
        assert list(Trainer.test(cfg, model)) == ["sem_seg"]
    assert set(model.requested) == {"semantic"}
    assert "data set val_labels has no truth for instance, panoptic: not scored" in caplog.text


def test_a_task_that_is_switched_off_is_not_asked(data: list) -> None:
    cfg = config(*data, "MODEL.MASK_CLASSIFIER.INSTANCE_ON", False)
    prepare_data(cfg)
    model = Obedient(cfg)
    assert list(Trainer.test(cfg, model)) == ["panoptic_seg", "sem_seg"]
    assert set(model.requested) == {"semantic", "panoptic"}


def test_an_evaluation_leaves_the_model_as_it_was(data: list) -> None:
    cfg = config(*data)
    prepare_data(cfg)
    model = Obedient(cfg).eval()
    before = model.inference
    Trainer.test(cfg, model)
    assert model.inference == before and not model.training


def test_the_predictor_asks_for_what_is_switched_on(data: list) -> None:
    predictor = mask2former_ext.Predictor(config(*data, "MODEL.MASK_CLASSIFIER.SEMANTIC_ON", False))
    result = predictor(np.zeros((48, 48, 3), np.uint8))
    assert set(result) == {"instances", "panoptic_seg"} and predictor.model.requested == ["instance", "panoptic"]


def test_instances_asked_for_alone_are_things_as_they_are_beside_panoptic() -> None:
    options = InferenceOptions.from_config(config())
    instance = options.requested(Request(("instance",)))
    assert instance.things_only and not instance.panoptic


def test_a_model_that_is_told_its_task_is_trained_on_unified_targets() -> None:
    check_training(config(), num_processes=1)
    with pytest.raises(ValueError, match="INPUT.TARGETS is 'panoptic', but Obedient learns from 'unified'"):
        check_training(config("INPUT.TARGETS", "panoptic"), num_processes=1)
