"""What models say of themselves, how they are registered, and who reads it."""

from __future__ import annotations

import logging

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.registry import Registry
from torch import nn

from mask2former_ext import add_config
from mask2former_ext.config.checks import check_training
from mask2former_ext.contract import TASKS, Contract, contract_of, register
from mask2former_ext.engine import Trainer
from mask2former_ext.evaluation import build_evaluator


@META_ARCH_REGISTRY.register()
class Speechless(Contract):
    """A model that answers no task."""

    @classmethod
    def answered_tasks(cls, cfg: CfgNode) -> tuple[str, ...]:  # noqa: ARG003
        return ()


@META_ARCH_REGISTRY.register()
class Elsewhere(nn.Module):
    """A model that knows nothing of the contract."""

    answered_tasks = "not ours to call"


def config(architecture: str) -> CfgNode:
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.DATASETS.TRAIN = architecture, ("any",)
    return cfg


# Registration.


def test_register_keeps_a_foreign_object_of_the_same_name(caplog):
    registry, theirs, ours = Registry("PARTS"), type("Decoder", (), {"__module__": "theirs"}), type("Decoder", (), {})
    registry.register(theirs)
    with caplog.at_level(logging.WARNING):
        assert register(registry, ours) is ours
    assert registry.get("Decoder") is theirs
    assert caplog.messages == ["Decoder of theirs is registered already: that one is used, not ours"]


def test_register_twice_is_registering_once(caplog):
    registry, ours = Registry("PARTS"), type("Decoder", (), {})
    with caplog.at_level(logging.WARNING):
        register(registry, register(registry, ours))
    assert registry.get("Decoder") is ours and not caplog.messages


# What holds of whom.


@pytest.mark.parametrize("name", ["Elsewhere", "NobodyKnows"])
def test_contract_of_a_foreign_or_unknown_model_is_the_default(name):
    assert contract_of(config(name)) is Contract


def test_contract_of_our_model_is_its_class():
    assert contract_of(config("Speechless")) is Speechless


@pytest.mark.parametrize(
    ("architecture", "kinds"),
    [
        ("Mask2Former", TASKS),
        ("OneFormer", ("unified",)),
        ("PerPixelBaseline", ("semantic",)),
        ("MaskRCNN", ("instance",)),
        ("PanopticFeaturePyramid", ("panoptic",)),
        ("Elsewhere", TASKS),
    ],
)
def test_target_kinds_are_those_that_training_accepts(architecture, kinds):
    cfg, accepted = config(architecture), []
    for cfg.INPUT.TARGETS in (*TASKS, "unified"):
        try:
            check_training(cfg, num_processes=1)
            accepted.append(cfg.INPUT.TARGETS)
        except ValueError as error:
            assert f"{architecture} learns from '{kinds[0]}'" in str(error)
    assert tuple(accepted) == kinds == contract_of(cfg).target_kinds(cfg)


def test_choose_tasks_leaves_those_of_a_model_without_a_choice():
    ours, theirs = config("PerPixelBaseline"), config("Mask2Former")
    for cfg in (ours, theirs):
        contract_of(cfg).choose_tasks(cfg, ("instance", "panoptic"))
    assert contract_of(ours).answered_tasks(ours) == ("semantic",)
    assert contract_of(theirs).answered_tasks(theirs) == ("instance", "panoptic")


def test_default_threshold_is_the_configurations():
    cfg = config("PanopticFeaturePyramid")
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.5, 0.05
    cfg.MODEL.MASK_CLASSIFIER.MIN_CLASS_PROB, cfg.MODEL.MASK_CLASSIFIER.MIN_INSTANCE_SCORE = 0.8, 0.3
    fpn, query = (contract_of(config(name)) for name in ("PanopticFeaturePyramid", "Mask2Former"))
    assert [fpn.default_threshold(task, cfg) for task in TASKS] == [0.0, 0.05, 0.5]
    assert [query.default_threshold(task, cfg) for task in TASKS] == [0.0, 0.3, 0.8]


def test_texts_per_image_are_the_queries_less_those_of_learned_texts():
    cfg = config("OneFormer")
    cfg.MODEL.ONEFORMER.NUM_QUERIES, cfg.MODEL.ONEFORMER.TEXT_ENCODER.NUM_CONTEXT = 150, 16
    assert contract_of(cfg).texts_per_image(cfg) == 134 and Contract.texts_per_image(cfg) == 0


def test_learning_rate_factor_of_initial_queries_is_oneformers_alone():
    cfg = config("OneFormer")
    cfg.SOLVER.BACKBONE_MULTIPLIER, cfg.SOLVER.INITIAL_QUERIES_MULTIPLIER = 0.1, 0.5
    names = ["backbone.a.weight", "head.task_mlp.bias", "head.weight", "backbone.task_mlp.bias"]
    assert [contract_of(cfg).learning_rate_factor(name, cfg) for name in names] == [0.1, 0.5, 1.0, 0.1]
    assert [Contract.learning_rate_factor(name, cfg) for name in names] == [0.1, 1.0, 1.0, 0.1]


def test_class_heads_name_what_each_number_counts():
    heads = {
        name: contract_of(cfg).class_heads(cfg) for name, cfg in ((n, config(n)) for n in ("MaskRCNN", "MaskFormer"))
    }
    assert heads == {"MaskRCNN": {"ROI_HEADS": "things"}, "MaskFormer": {"MASK_CLASSIFIER": "all"}}


# A model that answers nothing.


def test_no_tasks_answered_means_no_evaluators():
    assert build_evaluator(config("Speechless"), "any").tasks == ()


def test_no_tasks_answered_means_no_evaluation_and_one_line(caplog):
    with caplog.at_level(logging.INFO):
        assert Trainer.test(config("Speechless"), nn.Identity()) == {}
    assert caplog.messages == ["Speechless answers no task: nothing is evaluated"]
