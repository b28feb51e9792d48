"""One contract for every model (DESIGN: a row each). A new model is a new row of MODELS."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances

from mask2former_ext import add_config

NUM_CLASSES, NUM_THINGS, IGNORED = 5, 3, 254
TINY = Path(__file__).resolve().parents[2] / "configs" / "models" / "mask_classifier_tiny.yaml"
NUM_TEXTS = 8  # of an image, for OneFormer: its queries less its learned texts
DATASET = "contract_of_models"


def tiny(architecture: str, **changes) -> CfgNode:
    """A small model of any architecture, which does all that it can; `__` in a changed key stands for a dot."""
    cfg = get_cfg()
    add_config(cfg)
    cfg.merge_from_file(str(TINY))
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TRAIN = (DATASET,)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    cfg.MODEL.META_ARCHITECTURE = architecture
    shared = cfg.MODEL.MASK_CLASSIFIER
    shared.NUM_CLASSES = NUM_CLASSES
    shared.PANOPTIC_ON = shared.INSTANCE_ON = not architecture.startswith("PerPixel")
    for key, value in changes.items():
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
DEEPLAB_RESNET = {
    **RESNET,
    "MODEL__BACKBONE__NAME": "build_resnet_deeplab_backbone",
    "MODEL__RESNETS__DEPTH": 50,
    "MODEL__RESNETS__STEM_OUT_CHANNELS": 16,
    "MODEL__RESNETS__RES2_OUT_CHANNELS": 32,
    "MODEL__RESNETS__WIDTH_PER_GROUP": 8,
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
ENCODER = {
    "MODEL__MASKFORMER__PIXEL_DECODER__ENCODER": True,
    "MODEL__MASKFORMER__MEMORY_FEATURE": "transformer_encoder",
}
UNPADDED = {"MODEL__MASK_CLASSIFIER__SIZE_DIVISIBILITY": 0}

MODELS = {
    "mask2former_resnet": lambda: tiny("Mask2Former", **RESNET),
    "mask2former_swin": lambda: tiny("Mask2Former", **SWIN),
    "mask2former_convnext": lambda: tiny("Mask2Former", **CONVNEXT),
    "mask2former_vit": lambda: tiny("Mask2Former", **VIT),
    "maskformer_resnet": lambda: tiny("MaskFormer", **RESNET),
    "maskformer_swin": lambda: tiny("MaskFormer", **SWIN),
    "maskformer_deeplab_resnet": lambda: tiny("MaskFormer", **DEEPLAB_RESNET),
    "maskformer_encoder_unpadded": lambda: tiny("MaskFormer", **RESNET, **ENCODER, **UNPADDED),
    "oneformer_resnet": lambda: tiny("OneFormer", **RESNET),
    "oneformer_swin": lambda: tiny("OneFormer", **SWIN),
    "per_pixel_baseline": lambda: tiny("PerPixelBaseline", **RESNET),
    "per_pixel_baseline_plus": lambda: tiny("PerPixelBaselinePlus", **RESNET),
    "per_pixel_baseline_plus_swin": lambda: tiny("PerPixelBaselinePlus", **SWIN, **ENCODER),
}
every_model = pytest.mark.parametrize("name", MODELS)
every_mask_classifier = pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("per_pixel")])


@pytest.fixture(autouse=True)
def _metadata():
    names = [f"a {k}" for k in range(NUM_CLASSES)]
    MetadataCatalog.get(DATASET).set(
        thing_classes=names,
        stuff_classes=names,
        thing_dataset_id_to_contiguous_id={i: i for i in range(NUM_THINGS)},
        stuff_dataset_id_to_contiguous_id={i: i for i in range(NUM_CLASSES)},
        ignore_label=IGNORED,
    )
    yield
    MetadataCatalog.remove(DATASET)


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(MODELS[name]())


def an_input(height: int, width: int, num_objects: int = 3, seed: int = 0) -> dict:
    """A random image with truth of every kind: object k is the rectangle of rows and columns 8 k to 8 k + 20, class
    k mod K; the rest has no label."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(num_objects, height, width, dtype=torch.bool)
    labels = torch.full((height, width), IGNORED)
    for k in range(num_objects):
        masks[k, 8 * k : 8 * k + 20, 8 * k : 8 * k + 20] = True
        labels[8 * k : 8 * k + 20, 8 * k : 8 * k + 20] = k % NUM_CLASSES
    instances = Instances((height, width))
    instances.gt_classes = torch.arange(num_objects) % NUM_CLASSES
    instances.gt_masks = BitMasks(masks)
    text = [f"a photo with a {k}" for k in range(num_objects)] + ["a panoptic photo"] * NUM_TEXTS
    truth = {"instances": instances, "sem_seg": labels, "text": text[:NUM_TEXTS], "sampling_seed": seed}
    return {"image": image, "height": height, "width": width, "task": "panoptic", **truth}


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


@every_mask_classifier
def test_more_objects_than_queries_train(name):
    losses = losses_of(build(name), [an_input(160, 160, num_objects=15)])
    assert all(torch.isfinite(loss) for loss in losses.values())


@every_model
def test_results_have_the_promised_keys_and_the_asked_for_size(name):
    result = results_of(build(name), [{**an_input(75, 51), "height": 90, "width": 61}])[0]
    assert result["sem_seg"].shape == (NUM_CLASSES, 90, 61)
    tasks = MODELS[name]().MODEL.MASK_CLASSIFIER
    assert result.keys() == {"sem_seg"} | ({"instances", "panoptic_seg"} if tasks.PANOPTIC_ON else set())


@every_mask_classifier
def test_panoptic_ids_are_those_of_the_segments(name):
    ids, segments = results_of(build(name), [{**an_input(75, 51), "height": 90, "width": 61}])[0]["panoptic_seg"]
    assert ids.shape == (90, 61) and ids.dtype == torch.int32
    assert set(ids.unique().tolist()) - {0} == {segment["id"] for segment in segments}


@every_mask_classifier
def test_instances_are_things_of_the_asked_for_size(name):
    instances = results_of(build(name), [{**an_input(75, 51), "height": 90, "width": 61}])[0]["instances"]
    assert instances.image_size == (90, 61)
    assert instances.pred_masks.shape[1:] == (90, 61)
    assert (instances.pred_classes < NUM_THINGS).all()


@every_model
def test_an_image_alone_gives_the_result_it_has_in_a_batch(name):
    model = build(name)
    batch = [an_input(64, 96), an_input(128, 64, seed=1), an_input(50, 90, seed=2)]
    together = results_of(model, batch)
    for x, result in zip(batch, together, strict=True):
        alone = results_of(model, [x])[0]
        torch.testing.assert_close(result["sem_seg"], alone["sem_seg"], atol=1e-4, rtol=0)
        if "instances" in alone:
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
    assert (full - half.float()).abs().mean() < 0.1 * full.abs().mean()


@every_model
def test_mixed_precision_without_deep_supervision_trains_every_parameter(name):
    cfg = MODELS[name]()
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
        build_model(tiny("PerPixelBaseline", **RESNET, MODEL__MASK_CLASSIFIER__INSTANCE_ON=True))


def test_a_memory_that_nobody_makes_is_named():
    cfg = tiny("MaskFormer", **RESNET, MODEL__MASKFORMER__MEMORY_FEATURE="transformer_encoder")
    with pytest.raises(ValueError, match=r"MEMORY_FEATURE is 'transformer_encoder', .* takes .*PIXEL_DECODER.ENCODER"):
        build_model(cfg)


def test_a_feature_that_the_backbone_lacks_is_named():
    cfg = tiny("MaskFormer", **RESNET, MODEL__MASKFORMER__PIXEL_DECODER__IN_FEATURES=["res3", "res6"])
    with pytest.raises(ValueError, match=r"IN_FEATURES: the backbone has no \['res6'\]"):
        build_model(cfg)
