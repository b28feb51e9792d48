"""One contract for every model (DESIGN: a row each). A new model is a new row of MODELS."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances

from mask2former_ext import add_config

NUM_CLASSES, NUM_THINGS = 5, 3
DATASET = "contract_of_models"


def tiny_mask2former(**backbone) -> CfgNode:
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TRAIN = (DATASET,)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    cfg.MODEL.META_ARCHITECTURE = "Mask2Former"
    shared = cfg.MODEL.MASK_CLASSIFIER
    shared.NUM_CLASSES, shared.PANOPTIC_ON, shared.INSTANCE_ON = NUM_CLASSES, True, True
    node = cfg.MODEL.MASK2FORMER
    node.HIDDEN_DIM, node.MASK_DIM, node.NUM_QUERIES, node.NUM_HEADS = 32, 32, 12, 4
    node.DECODER_LAYERS, node.FEEDFORWARD_DIM, node.NUM_POINTS = 3, 48, 64
    decoder = node.PIXEL_DECODER
    decoder.CONV_DIM, decoder.ENCODER_LAYERS, decoder.ENCODER_HEADS, decoder.ENCODER_FEEDFORWARD_DIM = 32, 1, 4, 48
    for key, value in backbone.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


RESNET = {
    "MODEL__BACKBONE__NAME": "build_resnet_backbone",
    "MODEL__BACKBONE__FREEZE_AT": 0,
    "MODEL__RESNETS__DEPTH": 18,
    "MODEL__RESNETS__RES2_OUT_CHANNELS": 64,
    "MODEL__RESNETS__OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL__RESNETS__NORM": "FrozenBN",
}
SWIN = {
    "MODEL__BACKBONE__NAME": "D2SwinTransformer",
    "MODEL__SWIN__EMBED_DIM": 24,
    "MODEL__SWIN__DEPTHS": [2, 1, 1, 1],
    "MODEL__SWIN__NUM_HEADS": [1, 2, 2, 4],
    "MODEL__SWIN__WINDOW_SIZE": 4,
}
CONVNEXT = {"MODEL__BACKBONE__NAME": "TimmBackbone", "MODEL__TIMM__NAME": "convnext_atto"}
VIT = {"MODEL__BACKBONE__NAME": "TimmBackbone", "MODEL__TIMM__NAME": "vit_tiny_patch16_224"}

MODELS = {
    "mask2former_resnet": lambda: tiny_mask2former(**RESNET),
    "mask2former_swin": lambda: tiny_mask2former(**SWIN),
    "mask2former_convnext": lambda: tiny_mask2former(**CONVNEXT),
    "mask2former_vit": lambda: tiny_mask2former(**VIT),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def _metadata():
    MetadataCatalog.get(DATASET).set(
        thing_dataset_id_to_contiguous_id={i: i for i in range(NUM_THINGS)},
        stuff_dataset_id_to_contiguous_id={i: i for i in range(NUM_CLASSES)},
    )
    yield
    MetadataCatalog.remove(DATASET)


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(MODELS[name]())


def an_input(height: int, width: int, num_objects: int = 3, seed: int = 0) -> dict:
    """A random image with truth: object k is the rectangle of rows and columns 8 k to 8 k + 20, class k mod K."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(num_objects, height, width, dtype=torch.bool)
    for k in range(num_objects):
        masks[k, 8 * k : 8 * k + 20, 8 * k : 8 * k + 20] = True
    instances = Instances((height, width))
    instances.gt_classes = torch.arange(num_objects) % NUM_CLASSES
    instances.gt_masks = BitMasks(masks)
    return {"image": image, "height": height, "width": width, "instances": instances, "sampling_seed": seed}


def losses_of(model: torch.nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    losses = model.train()(batch)
    sum(losses.values()).backward()
    return losses


def results_of(model: torch.nn.Module, batch: list[dict]) -> list[dict]:
    with torch.no_grad():
        return model.eval()(batch)


@every_model
def test_losses_are_finite_and_every_parameter_gets_a_gradient(name):
    model = build(name)
    losses = losses_of(model, [an_input(64, 96), an_input(64, 96, seed=1)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert not [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]


@every_model
def test_a_batch_without_any_object_still_trains_every_parameter(name):
    model = build(name)
    losses = losses_of(model, [an_input(64, 64, num_objects=0), an_input(64, 64, num_objects=0)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert not [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]


@every_model
def test_a_half_empty_batch_of_odd_and_mixed_sizes_trains(name):
    losses = losses_of(build(name), [an_input(75, 51), an_input(64, 101, num_objects=0)])
    assert all(torch.isfinite(loss) for loss in losses.values())


@every_model
def test_more_objects_than_queries_train(name):
    losses = losses_of(build(name), [an_input(160, 160, num_objects=15)])
    assert all(torch.isfinite(loss) for loss in losses.values())


@every_model
def test_results_have_the_promised_keys_and_the_asked_for_size(name):
    result = results_of(build(name), [{**an_input(75, 51), "height": 90, "width": 61}])[0]
    ids, segments = result["panoptic_seg"]
    assert result["sem_seg"].shape == (NUM_CLASSES, 90, 61)
    assert ids.shape == (90, 61) and ids.dtype == torch.int32
    assert set(ids.unique().tolist()) - {0} == {segment["id"] for segment in segments}
    assert result["instances"].image_size == (90, 61)
    assert result["instances"].pred_masks.shape[1:] == (90, 61)
    assert (result["instances"].pred_classes < NUM_THINGS).all()


@every_model
def test_an_image_alone_gives_the_result_it_has_in_a_batch(name):
    model = build(name)
    batch = [an_input(64, 96), an_input(128, 64, seed=1), an_input(50, 90, seed=2)]
    together = results_of(model, batch)
    for x, result in zip(batch, together, strict=True):
        alone = results_of(model, [x])[0]
        torch.testing.assert_close(result["sem_seg"], alone["sem_seg"], atol=1e-4, rtol=0)
        torch.testing.assert_close(result["instances"].scores, alone["instances"].scores, atol=1e-4, rtol=0)


@every_model
def test_saved_and_loaded_weights_give_the_same_result(name, tmp_path):
    model, x = build(name), an_input(64, 64)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(1)
    other = build_model(MODELS[name]())
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    assert torch.equal(results_of(model, [x])[0]["sem_seg"], results_of(other, [x])[0]["sem_seg"])


def test_the_same_sampling_seed_gives_the_same_losses():
    # of a model that drops nothing in training: all that is random are the points
    model, x = build("mask2former_resnet").train(), an_input(64, 64)
    torch.manual_seed(1)
    first = model([x])
    torch.manual_seed(2)
    second = model([x])
    assert all(torch.equal(first[key], second[key]) for key in first)


@every_model
def test_half_precision_inference_stays_near_full_precision(name):
    model, x = build(name), an_input(64, 64)
    full = results_of(model, [x])[0]["sem_seg"]
    with torch.autocast("cpu", torch.bfloat16):
        half = results_of(model, [x])[0]["sem_seg"]
    # Rounding can move a pixel across the threshold of the attention mask, which changes what a query sees.
    assert (full - half.float()).abs().mean() < 0.1 * full.mean()


def test_mixed_precision_without_deep_supervision_trains_every_parameter():
    cfg = MODELS["mask2former_resnet"]()
    cfg.MODEL.MASK_CLASSIFIER.DEEP_SUPERVISION = False
    model = build_model(cfg)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()([an_input(64, 64)])
    sum(losses.values()).backward()
    assert not [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@every_model
def test_a_gpu_trains_every_parameter_in_every_precision(name, precision):
    model = build(name).cuda().train()
    with torch.autocast("cuda", precision, enabled=precision != torch.float32):
        losses = model([an_input(75, 51), an_input(64, 101, num_objects=0)])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert not [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.gpu
@every_model
def test_a_gpu_gives_the_scores_of_a_processor(name):
    model, x = build(name), an_input(75, 51)
    expected = results_of(model, [x])[0]["sem_seg"]
    scores = results_of(model.cuda(), [x])[0]["sem_seg"].cpu()
    # Rounding can move a pixel across the threshold of the attention mask, which changes what a query sees.
    assert (scores - expected).abs().mean() < 0.05 * expected.mean()


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
