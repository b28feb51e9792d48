"""A Hugging Face model, converted, gives the same logits."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import save_file

import mask2former_ext.models  # noqa: F401  # registers the architectures
from mask2former_ext.config import load_config
from mask2former_ext.contract import classes_of
from mask2former_ext.interop import huggingface
from mask2former_ext.interop.weights import load_weights
from mask2former_ext.layers.text_encoder import task_tokens

transformers = pytest.importorskip("transformers", reason="the conversion is held against transformers")

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def backbone_config(kind: str):
    if kind == "swin":
        shape = {"embed_dim": 12, "depths": [1, 2, 2, 1], "num_heads": [1, 2, 3, 4], "window_size": 4}
        return transformers.SwinConfig(**shape, out_features=STAGES)
    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[16, 32, 64, 128], depths=[3, 4, 6, 3], out_features=STAGES
    )


def random_mask2former(kind: str, *, hidden_dim: int = 32):
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone_config(kind),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=hidden_dim,
        encoder_feedforward_dim=40,
        encoder_layers=2,
        decoder_layers=5,
        num_attention_heads=4,
        dim_feedforward=48,
        num_queries=10,
        num_labels=7,
    )
    return randomized(transformers.Mask2FormerForUniversalSegmentation(config))


def random_maskformer(kind: str):
    decoder = {"num_queries": 10, "d_model": 48, "decoder_layers": 4, "decoder_ffn_dim": 40}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = transformers.MaskFormerConfig(
        backbone_config=backbone_config(kind),
        decoder_config=transformers.DetrConfig(**decoder, **heads),
        fpn_feature_size=64,
        mask_feature_size=32,
        num_labels=7,
    )
    return randomized(transformers.MaskFormerForInstanceSegmentation(config))


def random_oneformer(kind: str, *, is_training: bool = True):
    text = {"text_encoder_width": 64, "text_encoder_num_layers": 2, "text_encoder_vocab_size": 50, "task_seq_len": 20}
    # Where is_training is set, theirs drops out in evaluation, too.
    training = {"dropout": 0.0, "is_training": True} if is_training else {}
    config = transformers.OneFormerConfig(
        backbone_config=backbone_config(kind),
        conv_dim=64,
        mask_dim=64,
        hidden_dim=64,
        encoder_feedforward_dim=40,
        encoder_layers=2,
        decoder_layers=5,
        num_attention_heads=4,
        dim_feedforward=48,
        num_queries=20,
        num_labels=7,
        **text,
        **training,
    )
    return randomized(transformers.OneFormerForUniversalSegmentation(config))


def randomized(model):
    """The model in eval mode with every tensor random: norms, offsets and running statistics, too."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.dim() == 1 and tensor.is_floating_point():
            tensor.normal_(1.0 if name.endswith("weight") else 0.0, 0.3)
    return model.eval()


MODELS = {"mask2former": random_mask2former, "maskformer": random_maskformer, "oneformer": random_oneformer}


@pytest.fixture(
    scope="module", params=[(model, backbone) for model in MODELS for backbone in ("swin", "resnet")], ids="-".join
)
def pair(request, tmp_path_factory):
    """A model of theirs and the folder that it was saved to."""
    torch.manual_seed(0)
    name, backbone = request.param
    model = MODELS[name](backbone)
    folder = tmp_path_factory.mktemp(f"{name}_{backbone}")
    model.save_pretrained(folder)
    return model, str(folder)


def converted(folder: str):
    cfg = load_config(folder, ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg).eval()
    return model, load_weights(model, cfg.MODEL.WEIGHTS)


@torch.no_grad()
def assert_same_logits(ours, theirs):
    image, tasks, inputs = torch.randn(2, 3, 160, 192), ["panoptic", "instance"], {}
    if theirs.config.model_type == "oneformer":
        inputs["task_inputs"] = torch.stack([task_tokens(task, 20) for task in tasks]).float()
        inputs["text_inputs"] = torch.zeros(2, 4, 77, dtype=torch.int64)
    expected = theirs(pixel_values=image, **inputs)
    outputs = ours.predict(image, None, *ours.condition([{"task": task} for task in tasks]))
    torch.testing.assert_close(outputs["pred_logits"], expected.class_queries_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs["pred_masks"], expected.masks_queries_logits, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_class_and_mask_logits_are_those_of_transformers(pair):
    theirs, folder = pair
    ours, _ = converted(folder)
    assert_same_logits(ours, theirs)


@pytest.mark.slow
def test_a_decoder_wider_than_its_pixel_decoder_converts_too(tmp_path):
    theirs = random_mask2former("resnet", hidden_dim=64)
    if not any("transformer_module.input_projections" in name for name in theirs.state_dict()):
        pytest.skip("this version of transformers does not save these projections")
    theirs.save_pretrained(tmp_path)
    assert_same_logits(converted(str(tmp_path))[0], theirs)


def test_every_tensor_of_the_folder_finds_its_place(pair):
    _, report = converted(pair[1])
    assert (report.missing, report.unexpected, report.wrong_shape) == ([], [], [])


def test_names_in_memory_and_on_disk_convert_alike(pair):
    # transformers 5 renamed parts of Swin and still writes the old names to disk.
    model, folder = pair
    in_memory = huggingface.convert_state_dict(model.state_dict(), model.config.model_type)
    on_disk = huggingface.read_folder(folder)
    assert all(torch.equal(in_memory[name], tensor) for name, tensor in on_disk.items())


def test_pytorch_model_bin_is_read_where_there_are_no_safetensors(tmp_path, pair):
    model, folder = pair
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    model.config.save_pretrained(tmp_path)
    expected, found = huggingface.read_folder(folder), huggingface.read_folder(str(tmp_path))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_another_safetensors_file_beside_the_model_is_not_read(tmp_path):
    random_mask2former("swin").save_pretrained(tmp_path)
    expected = huggingface.read_folder(str(tmp_path))
    save_file({"class_predictor.bias": torch.full((8,), 9.0)}, tmp_path / "other.safetensors")
    found = huggingface.read_folder(str(tmp_path))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_the_parts_that_an_index_lists_are_read(tmp_path, pair):
    model, folder = pair
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert huggingface.read_folder(str(tmp_path)).keys() == huggingface.read_folder(folder).keys()


def test_the_configuration_counts_classes_and_layers_truly(tmp_path):
    random_mask2former("swin").save_pretrained(tmp_path)
    model = load_config(str(tmp_path)).MODEL
    assert (model.MASK_CLASSIFIER.NUM_CLASSES, model.MASK2FORMER.DECODER_LAYERS) == (7, 4)
    assert (model.SWIN.EMBED_DIM, model.SWIN.DEPTHS, model.SWIN.WINDOW_SIZE) == (12, [1, 2, 2, 1], 4)


def test_class_names_of_the_folder_are_those_of_the_model(tmp_path):
    model = random_mask2former("swin")
    model.save_pretrained(tmp_path)
    assert not load_config(str(tmp_path)).MODEL.CLASSES  # LABEL_0 is no name
    model.config.id2label = {k: name for k, name in enumerate("sky dog cat cow car bus tree".split())}
    model.config.save_pretrained(tmp_path)
    table = classes_of(load_config(str(tmp_path)))
    assert table.names == ("sky", "dog", "cat", "cow", "car", "bus", "tree") and table.is_thing == ()


def test_a_oneformer_for_inference_is_read_as_one(tmp_path):
    random_oneformer("swin", is_training=False).save_pretrained(tmp_path)
    node = load_config(str(tmp_path)).MODEL.ONEFORMER
    assert (node.NUM_QUERIES, node.DECODER_LAYERS, node.QUERY_LAYERS, node.TASK_CONTEXT_LENGTH) == (20, 4, 2, 20)
    assert not node.TEXT_ENCODER.ENABLED and node.PIXEL_DECODER.ENCODER_DROPOUT == 0.1


def test_pixel_statistics_and_sizes_follow_the_preprocessor(tmp_path):
    random_mask2former("resnet").save_pretrained(tmp_path)
    size = {"shortest_edge": 320, "longest_edge": 640}
    content = {"image_mean": [0.5] * 3, "image_std": [1, 1, 1], "size": size}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
    cfg = load_config(str(tmp_path))
    assert (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD) == ([127.5] * 3, [255.0] * 3)
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.FORMAT) == (320, 640, "RGB")


@pytest.mark.parametrize(("model", "backbone"), [("mask2former", "focalnet"), ("oneformer", "dinat")])
def test_a_backbone_that_cannot_be_converted_is_named(tmp_path, model, backbone):
    content = {"model_type": model, "backbone_config": {"model_type": backbone}}
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=f"backbone is of type '{backbone}'; swin and resnet can be converted"):
        load_config(str(tmp_path))


def test_a_folder_without_weights_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mask2former"}')
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor pytorch_model\.bin is beside config\.json"):
        huggingface.read_folder(str(tmp_path))


def test_query_key_and_value_must_all_be_there():
    name = "model.transformer_module.decoder.layers.0.self_attn.{}_proj.weight"
    with pytest.raises(ValueError, match=r"only \['k', 'q'\] are in the file"):
        huggingface.convert_state_dict({name.format(part): torch.zeros(2, 2) for part in "qk"}, "mask2former")
