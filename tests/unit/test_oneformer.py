"""What OneFormer adds to Mask2Former: the task, the queries that start from it, the texts and their loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.multiprocessing as mp
from detectron2.modeling import build_model

import mask2former_ext
from mask2former_ext.contract import Request
from mask2former_ext.distributed import leave_process_group
from mask2former_ext.interop.weights import WeightFile, fitted_to, load_weights
from mask2former_ext.models.oneformer import ContrastiveCriterion, TaskConditionedDecoder, contrastive_loss
from tests.models import MODELS, an_input, build

ROW = "oneformer_resnet"
EYE = torch.eye(2)[:, None]  # B = 2 images, Q = 1 query, C = 2 channels: the images have nothing in common


@pytest.fixture
def model():
    return build(ROW).eval()


# --------------------------------------------------------------------------------------------------------------- task


@pytest.mark.slow
def test_another_task_gives_other_scores(model):
    x = an_input(64, 64)
    with torch.no_grad():
        semantic, panoptic = (model([{**x, "task": task}])[0]["sem_seg"] for task in ("semantic", "panoptic"))
    assert not torch.allclose(semantic, panoptic)


@pytest.mark.slow
def test_a_sentence_says_what_its_task_says(model):
    x = an_input(64, 64)
    with torch.no_grad():
        word, sentence = (model([{**x, "task": task}])[0]["sem_seg"] for task in ("semantic", "The task is SEMANTIC"))
    assert torch.equal(word, sentence)


@pytest.mark.slow
def test_images_of_a_batch_have_tasks_of_their_own(model):
    x, tasks = an_input(64, 64), ("instance", "semantic")
    with torch.no_grad():
        together = model([{**x, "task": task} for task in tasks])
        alone = [model([{**x, "task": task}])[0] for task in tasks]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one["sem_seg"], other["sem_seg"], atol=1e-4, rtol=0)


def test_every_output_is_given_whatever_the_task(model):
    with torch.no_grad():
        result = model([{**an_input(64, 64), "task": "instance"}])[0]
    assert result.keys() == {"sem_seg", "panoptic_seg", "instances"}


@pytest.mark.slow
def test_tasks_answered_together_are_those_asked_one_by_one(model):
    inputs = [an_input(64, 64), an_input(40, 70)]
    with torch.no_grad():
        together = model.answer(inputs, Request(tasks=("semantic", "instance")))
        semantic, instance = (model([{**x, "task": task} for x in inputs]) for task in ("semantic", "instance"))
    for answer, of_semantic, of_instance in zip(together, semantic, instance, strict=True):
        assert answer.keys() == {"sem_seg", "instances"}
        torch.testing.assert_close(answer["sem_seg"], of_semantic["sem_seg"])
        torch.testing.assert_close(answer["instances"].scores, of_instance["instances"].scores)


def test_an_unknown_task_is_named_with_its_image(model):
    with pytest.raises(ValueError, match=r"photo.jpg: task 'depth' must name one of semantic, instance, panoptic"):
        model([{**an_input(64, 64), "task": "depth", "file_name": "photo.jpg"}])


def test_an_input_without_a_task_is_refused(model):
    x = an_input(64, 64)
    del x["task"]
    with pytest.raises(ValueError, match="must hold 'task', one of semantic, instance, panoptic"):
        model([x])


# ------------------------------------------------------------------------------------------------------------- queries


def test_the_last_query_is_the_task(model):
    decoder, task = model.sem_seg_head.predictor, torch.randn(2, 32)
    queries = decoder.initial_queries(torch.randn(2, 32, 4, 4), None, task)
    assert queries.shape == (2, 12, 32)
    torch.testing.assert_close(queries[:, -1], decoder.decoder_norm(task))


def spread_of_start(images: int, **change) -> tuple[float, float]:
    """Of untrained queries under one task: variance over the queries of an image and over images, as shares of all."""
    torch.manual_seed(0)
    options = {"hidden_dim": 32, "mask_dim": 32, "num_heads": 4, "num_layers": 1, "feedforward_dim": 64}
    flags = {"pre_norm": False, "enforce_input_proj": False, "deep_supervision": True, **change}
    decoder = TaskConditionedDecoder(
        32, num_classes=3, num_queries=20, query_layers=2, query_dropout=0.0, **options, **flags
    )
    task = torch.randn(1, 32).expand(images, -1)
    queries = decoder.initial_queries(torch.randn(images, 32, 16, 16), None, task)[:, :-1]
    return tuple((queries.var(dim=dim).mean() / queries.var()).item() for dim in (1, 0))


def test_the_published_start_makes_all_queries_nearly_one():
    over_queries, _ = spread_of_start(images=4, distinct_queries=False)
    assert over_queries < 0.01


def test_distinct_queries_start_apart():
    over_queries, _ = spread_of_start(images=4, distinct_queries=True)
    assert over_queries > 0.3


def test_distinct_queries_start_alike_in_every_image():
    _, over_images = spread_of_start(images=4, distinct_queries=True)
    assert over_images < 1e-6


def test_the_configuration_asks_for_distinct_queries():
    cfg = MODELS[ROW]()
    cfg.MODEL.ONEFORMER.DISTINCT_QUERIES = True
    assert not build_model(cfg).sem_seg_head.predictor.class_input_proj.weight.any()


def test_queries_do_not_start_from_padding(model):
    decoder, task, features = model.sem_seg_head.predictor, torch.randn(1, 32), torch.randn(1, 32, 4, 8)
    left_half = torch.tensor([[1.0, 0.5]])
    before = decoder.initial_queries(features, left_half, task)
    features[..., 4:] = 100.0
    torch.testing.assert_close(decoder.initial_queries(features, left_half, task), before)


# --------------------------------------------------------------------------------------------------------------- loss


def test_contrastive_loss_of_two_images_by_hand():
    # like their own (1) and unlike the other (0): each cross entropy is log((3 + 1) / 3) where the scale is log 3
    loss = contrastive_loss(EYE, EYE, torch.tensor(math.log(3)))
    assert float(loss) == pytest.approx(2 * math.log(4 / 3))


def test_contrastive_loss_of_swapped_texts_by_hand():
    loss = contrastive_loss(EYE, EYE.flip(0), torch.tensor(math.log(3)))
    assert float(loss) == pytest.approx(2 * math.log(4))


def test_contrastive_loss_looks_at_directions_alone():
    scale = torch.tensor(2.0)
    torch.testing.assert_close(contrastive_loss(5 * EYE, EYE, scale), contrastive_loss(EYE, EYE, scale))


def test_the_scale_starts_from_the_temperature_and_ends_at_100():
    weights = {"class_weight": 1.0, "mask_weight": 1.0, "dice_weight": 1.0, "no_object_weight": 0.1}
    points = {"num_points": 4, "oversample_ratio": 3.0, "importance_sample_ratio": 0.75}
    criterion = ContrastiveCriterion(3, contrastive_weight=0.5, temperature=0.07, **weights, **points)
    assert criterion.scale().item() == pytest.approx(1 / 0.07)
    criterion.logit_scale.data.fill_(9.0)
    assert criterion.scale().item() == 100.0


def one_of_two_processes(rank: int, folder: str, queries: torch.Tensor, texts: torch.Tensor) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    own = [x[2 * rank : 2 * rank + 2].requires_grad_() for x in (queries.clone(), texts.clone())]
    loss = contrastive_loss(*own, torch.tensor(5.0))
    # averaged over the processes, as distributed training does
    torch.save([loss.detach(), *torch.autograd.grad(loss / 2, own)], f"{folder}/{rank}.pt")
    leave_process_group()


@pytest.mark.slow
def test_contrastive_loss_of_two_processes_is_that_of_their_joint_batch(tmp_path):
    queries, texts = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    mp.spawn(one_of_two_processes, (str(tmp_path), queries, texts), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    joint = [queries.requires_grad_(), texts.requires_grad_()]
    expected = contrastive_loss(*joint, torch.tensor(5.0))
    torch.testing.assert_close((first[0] + second[0]) / 2, expected.detach())
    for index, gradient in enumerate(torch.autograd.grad(expected, joint), start=1):
        torch.testing.assert_close(torch.cat((first[index], second[index])), gradient)


# --------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.slow
def test_a_wrong_number_of_texts_is_named_with_its_image():
    x = {**an_input(64, 64), "text": ["a photo with a wall"], "file_name": "photo.jpg"}
    with pytest.raises(ValueError, match=r"photo.jpg: 'text' holds 1 strings, but must hold 8"):
        build(ROW).train()([x])


def test_training_without_texts_says_what_is_missing():
    x = an_input(64, 64)
    del x["text"]
    with pytest.raises(ValueError, match="must hold 'text', a list of 8 strings"):
        build(ROW).train()([x])


def test_texts_of_a_batch_are_embedded_as_if_alone_in_their_order(model):
    texts = [["a photo with a dog", "a photo with a very big wall"] + ["a semantic photo"] * 6 for _ in range(2)]
    texts[1] = texts[1][::-1]
    together = model.embed_texts(texts)
    assert together.shape == (2, 12, 32)
    torch.testing.assert_close(together[0, :8], together[1, :8].flip(0))
    torch.testing.assert_close(together[1], model.embed_texts(texts[1:])[0])
    assert torch.equal(together[0, 8:], model.prompt_ctx.weight)


def without_text_part():
    cfg = MODELS[ROW]()
    cfg.MODEL.ONEFORMER.TEXT_ENCODER.ENABLED = False
    return cfg


@pytest.mark.slow
def test_a_model_without_its_text_part_answers_the_same_but_cannot_train(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    other, x = build_model(without_text_part()).eval(), an_input(64, 64)
    report = load_weights(other, str(tmp_path / "whole.pth"))
    assert (report.missing, report.unexpected) == ([], [])
    with torch.no_grad():
        assert torch.equal(model([x])[0]["sem_seg"], other([x])[0]["sem_seg"])
    with pytest.raises(ValueError, match="TEXT_ENCODER.ENABLED True"):
        other.train()([x])


def test_weights_without_the_text_part_lack_nothing_that_inference_needs(tmp_path):
    torch.save(build_model(without_text_part()).state_dict(), tmp_path / "slim.pth")
    report = load_weights(build(ROW), str(tmp_path / "slim.pth"))
    assert (report.missing, report.is_partial) == ([], False)
    assert {name.split(".")[0] for name in report.training_only} == {"text_encoder", "text_projector", "prompt_ctx"}


@pytest.mark.parametrize("held", [True, False])
def test_the_text_part_is_built_if_the_weights_hold_it(model, tmp_path, held):
    cfg = without_text_part()
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    weights = model if held else build_model(cfg)
    torch.save(weights.state_dict(), cfg.MODEL.WEIGHTS)
    assert (build_model(fitted_to(cfg, WeightFile(cfg.MODEL.WEIGHTS))).text_encoder is not None) == held


def test_load_model_reads_weights_once(model, tmp_path, monkeypatch):
    cfg, loads = without_text_part(), []
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save(model.state_dict(), cfg.MODEL.WEIGHTS)
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **options: (loads.append(path), load(path, **options))[1])
    assert mask2former_ext.load_model(cfg).text_encoder is not None
    assert loads == [cfg.MODEL.WEIGHTS]


def test_as_many_learned_texts_as_queries_are_refused():
    cfg = MODELS[ROW]()
    cfg.MODEL.ONEFORMER.TEXT_ENCODER.NUM_CONTEXT = 12
    with pytest.raises(ValueError, match="NUM_QUERIES is 12, but must exceed TEXT_ENCODER.NUM_CONTEXT 12"):
        build_model(cfg)
