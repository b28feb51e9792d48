"""One contract for every model (DESIGN: a row each). A new model is a new row of MODELS in tests/models.py."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from mask2former_ext.contract import ANSWERS, contract_of
from tests.models import (
    BASELINE,
    MODELS,
    NUM_CLASSES,
    NUM_OF,
    NUM_THINGS,
    RESNET,
    an_input,
    build,
    input_of,
    losses_of,
    results_of,
    tiny,
    untrained_parameters,
)


def rows_that_answer(*tasks: str) -> list[str]:
    configs = {name: make() for name, make in MODELS.items()}
    return [name for name, cfg in configs.items() if set(tasks) <= set(contract_of(cfg).answered_tasks(cfg))]


# `make quick` takes a row of each family; the other rows, with their backbones and variants, are slow together.
QUICK = {"mask2former_resnet", "oneformer_resnet", "per_pixel_baseline", "mask_rcnn", "panoptic_fpn", "my_model"}


def each(names: Iterable[str]) -> pytest.MarkDecorator:
    rows = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in names]
    return pytest.mark.parametrize("name", rows)


every_model = each(MODELS)
every_semantic_model = each(rows_that_answer("semantic"))
every_instance_model = each(rows_that_answer("instance"))
every_panoptic_model = each(rows_that_answer("panoptic"))


def test_every_registered_model_has_a_row():
    ours = {name for name, model in META_ARCH_REGISTRY if model.__module__.startswith("mask2former_ext.")}
    assert sorted(ours - {make().MODEL.META_ARCHITECTURE for make in MODELS.values()}) == []


@every_model
def test_losses_are_finite_and_every_parameter_gets_a_gradient(name):
    model = build(name)
    losses = losses_of(model, [input_of(name, 64, 96), input_of(name, 64, 96, seed=1)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert untrained_parameters(model) == []


@every_model
def test_a_batch_without_any_object_still_trains_every_parameter(name):
    model = build(name)
    losses = losses_of(model, [input_of(name, 64, 64, num_objects=0), input_of(name, 64, 64, num_objects=0)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert untrained_parameters(model) == []


@every_model
def test_a_half_empty_batch_of_odd_and_mixed_sizes_trains(name):
    losses = losses_of(build(name), [input_of(name, 75, 51), input_of(name, 64, 101, num_objects=0)])
    assert all(torch.isfinite(loss) for loss in losses.values())


@every_model
def test_more_objects_than_queries_train(name):
    losses = losses_of(build(name), [input_of(name, 160, 160, num_objects=15)])
    assert all(torch.isfinite(loss) for loss in losses.values())


@every_model
def test_results_have_the_promised_keys(name):
    cfg = MODELS[name]()
    result = results_of(build(name), [input_of(name, 75, 51)])[0]
    assert result.keys() == {ANSWERS[task] for task in contract_of(cfg).answered_tasks(cfg)}


@every_semantic_model
def test_scores_are_those_of_all_classes_at_the_wanted_size(name):
    cfg = MODELS[name]()
    counted = contract_of(cfg).class_heads(cfg).values()
    num_classes = NUM_OF["labels" if "labels" in counted else "all"]
    result = results_of(build(name), [{**input_of(name, 75, 51), "height": 90, "width": 61}])[0]
    assert result["sem_seg"].shape == (num_classes, 90, 61)


@every_panoptic_model
def test_panoptic_ids_are_those_of_the_segments(name):
    ids, segments = results_of(build(name), [{**input_of(name, 75, 51), "height": 90, "width": 61}])[0]["panoptic_seg"]
    assert ids.shape == (90, 61) and ids.dtype == torch.int32
    assert set(ids.unique().tolist()) - {0} == {segment["id"] for segment in segments}


@every_instance_model
def test_instances_are_things_of_the_wanted_size(name):
    instances = results_of(build(name), [{**input_of(name, 75, 51), "height": 90, "width": 61}])[0]["instances"]
    assert instances.image_size == (90, 61) and len(instances) > 0
    assert instances.pred_boxes.tensor.shape == (len(instances), 4)
    assert (instances.pred_classes < NUM_THINGS).all()
    if name != "faster_rcnn":  # which has boxes alone
        assert instances.pred_masks.shape[1:] == (90, 61)


@every_model
def test_an_image_alone_gives_the_result_it_has_in_a_batch(name):
    model = build(name)
    batch = [input_of(name, 64, 96), input_of(name, 128, 64, seed=1), input_of(name, 50, 90, seed=2)]
    together = results_of(model, batch)
    for x, result in zip(batch, together, strict=True):
        alone = results_of(model, [x])[0]
        assert result.keys() == alone.keys()
        if "sem_seg" in alone:
            torch.testing.assert_close(result["sem_seg"], alone["sem_seg"], atol=1e-4, rtol=0)
        if "instances" in alone:
            torch.testing.assert_close(result["instances"].scores, alone["instances"].scores, atol=1e-4, rtol=0)


@every_model
def test_saved_and_loaded_weights_give_the_same_result(name, tmp_path):
    model, x = build(name), input_of(name, 64, 64)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(1)
    other = build_model(MODELS[name]())
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    before, after = results_of(model, [x])[0], results_of(other, [x])[0]
    assert before.keys() == after.keys()
    if "sem_seg" in before:
        assert torch.equal(before["sem_seg"], after["sem_seg"])
    if "instances" in before:
        assert torch.equal(before["instances"].scores, after["instances"].scores)
    if "panoptic_seg" in before:
        assert torch.equal(before["panoptic_seg"][0], after["panoptic_seg"][0])


def test_the_same_sampling_seed_gives_the_same_losses():
    # of a model that drops nothing in training: all that is random are the points
    model, x = build("mask2former_resnet").train(), an_input(64, 64)
    torch.manual_seed(1)
    first = model([x])
    torch.manual_seed(2)
    second = model([x])
    assert all(torch.equal(first[key], second[key]) for key in first)


@every_semantic_model
def test_half_precision_inference_stays_near_full_precision(name):
    model, x = build(name), input_of(name, 64, 64)
    full = results_of(model, [x])[0]["sem_seg"]
    with torch.autocast("cpu", torch.bfloat16):
        half = results_of(model, [x])[0]["sem_seg"]
    # Rounding can move a pixel across the threshold of the attention mask, which changes what a query sees.
    assert (full - half.float()).abs().mean() < 0.1 * full.abs().mean()


@every_model
def test_mixed_precision_without_deep_supervision_trains_every_parameter(name):
    cfg = MODELS[name]()
    cfg.MODEL.MASK_CLASSIFIER.DEEP_SUPERVISION = False
    model = build_model(cfg)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()([input_of(name, 64, 64)])
    sum(losses.values()).backward()
    assert untrained_parameters(model) == []


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@every_model
def test_a_gpu_trains_every_parameter_in_every_precision(name, precision):
    model = build(name).cuda().train()
    with torch.autocast("cuda", precision, enabled=precision != torch.float32):
        losses = model([input_of(name, 75, 51), input_of(name, 64, 101, num_objects=0)])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert untrained_parameters(model) == []


@pytest.mark.gpu
@every_semantic_model
def test_a_gpu_gives_the_scores_of_a_cpu(name):
    model, x = build(name), input_of(name, 75, 51)
    expected = results_of(model, [x])[0]["sem_seg"]
    scores = results_of(model.cuda(), [x])[0]["sem_seg"].cpu()
    # Rounding can move a pixel across the threshold of the attention mask, which changes what a query sees.
    assert (scores - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_a_class_beyond_the_models_is_named_with_its_image():
    x = an_input(64, 64)
    x["instances"].gt_classes[0] = NUM_CLASSES
    with pytest.raises(ValueError, match=r"photo.jpg: class 5 .* 5 classes"):
        build("mask2former_resnet").train()([{**x, "file_name": "photo.jpg"}])


def test_training_without_truth_says_what_is_missing():
    x = an_input(64, 64)
    del x["instances"]
    with pytest.raises(ValueError, match="must hold 'instances'"):
        build("mask2former_resnet").train()([x])


def test_a_model_without_a_number_of_classes_is_refused():
    cfg = MODELS["mask2former_resnet"]()
    cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES = 0
    with pytest.raises(ValueError, match="NUM_CLASSES is 0: set the number"):
        build_model(cfg)


def test_a_non_finite_weight_is_reported_with_layer_term_and_image():
    model = build("mask2former_resnet").train()
    with torch.no_grad():
        model.sem_seg_head.predictor.class_embed.bias[0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"photo.jpg: class cost of layers \[0, 1, 2, 3\]"):
        model([{**an_input(64, 64), "file_name": "photo.jpg"}])


def test_semantic_truth_is_asked_for_by_a_model_that_learns_from_it():
    x = an_input(64, 64)
    del x["sem_seg"]
    with pytest.raises(ValueError, match=r"image 0 of the batch: .* must hold 'sem_seg' .*INPUT.TARGETS semantic"):
        build("per_pixel_baseline").train()([x])


def test_a_label_beyond_the_models_classes_is_named_with_its_image():
    x = {**an_input(64, 64), "file_name": "photo.jpg"}
    x["sem_seg"][0, 0] = NUM_CLASSES
    with pytest.raises(ValueError, match=r"photo.jpg: label 5 .* 5 classes .* 254 is what it ignores"):
        build("per_pixel_baseline").train()([x])


def test_semantic_truth_of_another_size_than_the_image_is_named():
    x = {**an_input(64, 64), "sem_seg": torch.zeros(64, 60, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"sem_seg is of size \[64, 60\], but the image of \[64, 64\]"):
        build("per_pixel_baseline").train()([x])


def test_a_per_pixel_model_refuses_to_answer_for_instances():
    with pytest.raises(ValueError, match="PerPixelBaseline answers semantic segmentation alone.*INSTANCE_ON .* True"):
        build_model(tiny("per_pixel", **RESNET, **BASELINE, MODEL__MASK_CLASSIFIER__INSTANCE_ON=True))


def test_a_memory_that_nobody_makes_is_named():
    cfg = tiny("maskformer", **RESNET, MODEL__MASKFORMER__MEMORY_FEATURE="transformer_encoder")
    with pytest.raises(ValueError, match=r"MEMORY_FEATURE is 'transformer_encoder', .* takes .*PIXEL_DECODER.ENCODER"):
        build_model(cfg)


def test_a_feature_that_the_backbone_lacks_is_named():
    cfg = tiny("maskformer", **RESNET, MODEL__MASKFORMER__PIXEL_DECODER__IN_FEATURES=["res3", "res6"])
    with pytest.raises(ValueError, match=r"IN_FEATURES: the backbone has no \['res6'\]"):
        build_model(cfg)
