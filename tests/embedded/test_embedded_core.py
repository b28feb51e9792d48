"""The part of Detectron2 that this package stands on, the same under the real one and the embedded one."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, configurable, downgrade_config, get_cfg, upgrade_config
from detectron2.layers import FrozenBatchNorm2d, ROIAlign, get_norm, paste_masks_in_image
from detectron2.modeling import build_backbone, detector_postprocess
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.projects.point_rend.point_features import point_sample
from detectron2.structures import BitMasks, Boxes, BoxMode, ImageList, Instances, PolygonMasks, pairwise_iou
from detectron2.utils.events import EventStorage, JSONWriter
from torch import nn

from tests.places import EMBEDDED

ROOT = Path(__file__).resolve().parents[2]
only_embedded = pytest.mark.skipif(not EMBEDDED, reason="the real Detectron2 does otherwise")

# ------------------------------------------------------------------------------------------------------------- config


def write(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


def test_a_file_wins_over_its_bases_and_a_later_base_over_an_earlier(tmp_path: Path):
    write(tmp_path / "a.yaml", "SEED: 1\nVIS_PERIOD: 1\nOUTPUT_DIR: a\nVERSION: 2\n")
    write(tmp_path / "b.yaml", "VIS_PERIOD: 2\nOUTPUT_DIR: b\n")
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "c.yaml", "_BASE_: [a.yaml, b.yaml]\nOUTPUT_DIR: c\n"))
    assert (cfg.SEED, cfg.VIS_PERIOD, cfg.OUTPUT_DIR) == (1, 2, "c")


def test_an_unknown_key_of_a_file_is_an_error(tmp_path: Path):
    with pytest.raises(KeyError, match="SOLVER.LERNING_RATE"):
        get_cfg().merge_from_file(write(tmp_path / "c.yaml", "SOLVER: {LERNING_RATE: 1}\nVERSION: 2\n"))


def test_a_dump_of_the_defaults_changes_nothing_when_merged(tmp_path: Path):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "dump.yaml", get_cfg().dump()))
    assert yaml.safe_load(cfg.dump()) == yaml.safe_load(get_cfg().dump())


@pytest.mark.skipif(EMBEDDED, reason="compares the embedded defaults with those of the real Detectron2")
def test_the_embedded_defaults_are_the_real_ones_in_value_and_type():
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))
    text = (ROOT / "embedded" / "detectron2" / "config" / "defaults.yaml").read_text()
    assert repr(CfgNode(yaml.load(text, Loader))) == repr(get_cfg())


only_real = pytest.mark.skipif(EMBEDDED, reason="the embedded Detectron2 reads the newest version alone")


@only_real
def test_keys_of_version_1_get_their_names_of_version_2(tmp_path: Path):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "old.yaml", "MODEL: {WEIGHT: w.pkl, RPN: {ANCHOR_SIZES: [[8]]}}\n"))
    assert (cfg.MODEL.WEIGHTS, cfg.MODEL.ANCHOR_GENERATOR.SIZES, cfg.VERSION) == ("w.pkl", [[8]], 2)


@only_embedded
def test_an_older_version_says_the_install_line(tmp_path: Path):
    with pytest.raises(ImportError, match="VERSION 1 .*pip install"):
        get_cfg().merge_from_file(write(tmp_path / "old.yaml", "VERSION: 1\nMODEL: {WEIGHT: w.pkl}\n"))


@only_real
def test_downgrading_and_upgrading_give_the_config_back():
    assert upgrade_config(downgrade_config(get_cfg(), to_version=0)) == get_cfg()


def test_the_list_expressions_of_published_files_are_worked_out(tmp_path: Path):
    content = 'INPUT:\n  MIN_SIZE_TRAIN: !!python/object/apply:eval ["[int(x * 0.1 * 640) for x in range(5, 8)]"]\n'
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "c.yaml", content), allow_unsafe=True)
    assert tuple(cfg.INPUT.MIN_SIZE_TRAIN) == (320, 384, 448)


@only_embedded
@pytest.mark.parametrize("expression", ["__import__('os').getpid()", "(1).__class__", "9 ** 99999", "[0] * 10 ** 9"])
def test_no_other_code_in_a_yaml_file_is_executed(tmp_path: Path, expression: str):
    content = f'SEED: !!python/object/apply:eval ["{expression}"]\n'
    with pytest.raises(yaml.constructor.ConstructorError):
        get_cfg().merge_from_file(write(tmp_path / "c.yaml", content), allow_unsafe=True)


class Scaled:
    @configurable
    def __init__(self, seed: int, factor: int = 2):
        self.value = seed * factor

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {"seed": cfg.SEED}


def test_a_configurable_takes_arguments_or_a_config_that_they_overrule():
    cfg = get_cfg()
    cfg.SEED = 5
    assert (Scaled(3).value, Scaled(cfg).value, Scaled(cfg, factor=10).value) == (6, 10, 50)


# --------------------------------------------------------------------------------------------------------- structures


def test_iou_with_the_left_half_is_one_half_and_of_two_points_zero():
    boxes, others = Boxes(torch.tensor([[0, 0, 4, 2], [1, 1, 1, 1]])), Boxes(torch.tensor([[0, 0, 2, 2], [1, 1, 1, 1]]))
    assert pairwise_iou(boxes, others).tolist() == [[0.5, 0], [0, 0]]


def test_a_box_of_integers_stays_of_its_type_when_converted():
    assert BoxMode.convert((1, 2, 3, 4), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) == (1, 2, 4, 6)


def test_a_masks_box_ends_one_past_its_last_pixel_an_empty_ones_is_zero():
    masks = torch.zeros(2, 5, 6, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    assert BitMasks(masks).get_bounding_boxes().tensor.tolist() == [[2, 1, 6, 3], [0, 0, 0, 0]]


def test_a_rectangle_covers_its_pixels_whether_polygon_or_bitmap():
    polygon = np.array([1.0, 1, 4, 1, 4, 3, 1, 3])
    masks = BitMasks.from_polygon_masks(PolygonMasks([[polygon]]), 5, 6)
    assert masks.tensor.nonzero().tolist() == [[0, y, x] for y in (1, 2) for x in (1, 2, 3)]


def test_images_are_padded_at_the_right_and_bottom_to_a_multiple():
    images = ImageList.from_tensors([torch.ones(1, 3, 5), torch.ones(1, 4, 2)], size_divisibility=4, pad_value=7)
    assert images.tensor.shape == (2, 1, 4, 8)
    assert images.tensor[1, 0, :, 2:].eq(7).all() and images[1].eq(1).all() and images[1].shape == (1, 4, 2)


def test_choosing_instances_chooses_in_every_field():
    instances = Instances((4, 4), scores=torch.tensor([0.25, 0.75, 0.5]), boxes=Boxes(torch.eye(3, 4)))
    kept = instances[instances.scores > 0.3]
    assert (kept.scores.tolist(), kept.boxes.tensor.tolist()) == ([0.75, 0.5], torch.eye(3, 4)[1:].tolist())


def test_one_instance_is_chosen_by_its_number_from_either_end():
    instances = Instances((4, 4), names=["a", "b", "c"])
    assert (instances[0].names, instances[-1].names) == (["a"], ["c"])
    with pytest.raises(IndexError):
        instances[3]


def test_a_field_of_another_length_is_refused():
    instances = Instances((4, 4), scores=torch.zeros(3))
    with pytest.raises(AssertionError, match="2"):
        instances.classes = torch.zeros(2)


# -------------------------------------------------------------------------------------------------- layers and models


def test_a_frozen_norm_is_the_norm_it_came_from_and_learns_nothing():
    norm = nn.BatchNorm2d(3)
    norm(torch.randn(4, 3, 5, 5) * 2 + 1)
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(norm.eval())
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(frozen(x), norm(x))
    torch.testing.assert_close(frozen(x.requires_grad_()), norm(x))
    assert not list(frozen.parameters())


@pytest.mark.parametrize(
    ("name", "kind"), [("BN", nn.BatchNorm2d), ("SyncBN", nn.SyncBatchNorm), ("GN", nn.GroupNorm), ("", type(None))]
)
def test_norms_have_names(name: str, kind: type):
    assert type(get_norm(name, 32)) is kind


def test_aligned_roi_align_of_whole_pixels_gives_the_pixels():
    image = torch.arange(36.0).view(1, 1, 6, 6)
    pooled = ROIAlign((2, 3), 1.0, 1, aligned=True)(image, torch.tensor([[0.0, 1, 2, 4, 4]]))
    assert pooled[0, 0].tolist() == [[13, 14, 15], [19, 20, 21]]


def test_a_mask_is_pasted_into_its_box_only():
    pasted = paste_masks_in_image(torch.ones(1, 4, 4), torch.tensor([[1.0, 2, 5, 4]]), (6, 8))
    assert pasted[0].nonzero().tolist() == [[y, x] for y in (2, 3) for x in (1, 2, 3, 4)]


def test_detections_are_scaled_and_those_outside_are_dropped():
    found = Instances((10, 20), pred_boxes=Boxes(torch.tensor([[0, 0, 10.0, 5], [20, 0, 30, 5]])), scores=torch.ones(2))
    scaled = detector_postprocess(found, 20, 60)
    assert scaled.pred_boxes.tensor.tolist() == [[0, 0, 30, 10]] and scaled.image_size == (20, 60)


def test_padding_is_cut_off_before_scores_are_resized():
    scores = torch.zeros(1, 4, 8)
    scores[:, :2, :3] = 1
    assert sem_seg_postprocess(scores, (2, 3), 4, 6).eq(1).all()


def small_backbone(name: str, **resnet: object) -> nn.Module:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = name
    cfg.MODEL.RESNETS.update({"DEPTH": 18, "RES2_OUT_CHANNELS": 64, "NORM": "BN", **resnet})
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    return build_backbone(cfg)


def test_resnet_maps_have_strides_4_to_32_and_two_parts_are_frozen():
    backbone = small_backbone("build_resnet_backbone")
    shapes = {name: tuple(feature.shape[1:]) for name, feature in backbone(torch.rand(1, 3, 64, 96)).items()}
    assert shapes == {"res2": (64, 16, 24), "res3": (128, 8, 12), "res4": (256, 4, 6), "res5": (512, 2, 3)}
    learning = {name.partition(".")[0] for name, value in backbone.named_parameters() if value.requires_grad}
    assert learning == {"res3", "res4", "res5"}


def test_pyramid_maps_have_strides_4_to_64():
    backbone = small_backbone("build_resnet_fpn_backbone")
    sizes = {name: tuple(feature.shape[1:]) for name, feature in backbone(torch.rand(1, 3, 64, 64)).items()}
    assert sizes == {f"p{level}": (256, 2 ** (8 - level - 2), 2 ** (8 - level - 2)) for level in range(2, 7)}
    assert backbone.size_divisibility == 32


@pytest.mark.parametrize(
    ("file", "node"),
    [
        ("mask2former__coco__panoptic-segmentation__maskformer2_R50_bs16_50ep", {}),
        ("d2__COCO-InstanceSegmentation__mask_rcnn_R_50_FPN_3x", {}),
        (
            "d2__COCO-InstanceSegmentation__mask_rcnn_X_101_32x8d_FPN_3x",
            {"DEPTH": 101, "NUM_GROUPS": 32, "WIDTH_PER_GROUP": 8},
        ),
    ],
)
@pytest.mark.parity
def test_backbone_parameters_have_the_published_names_and_shapes(fixtures_dir: Path, file: str, node: dict):
    published = json.loads((fixtures_dir / "keys" / f"{file}.json").read_text())
    name = "build_resnet_fpn_backbone" if "FPN" in file else "build_resnet_backbone"
    backbone = small_backbone(name, **{"DEPTH": 50, "RES2_OUT_CHANNELS": 256, "NORM": "FrozenBN", **node})
    ours = {f"backbone.{key}": list(value.shape) for key, value in backbone.state_dict().items()}
    assert ours == {key: shape for key, shape in published.items() if key.startswith("backbone.")}


def test_points_at_pixel_centers_give_the_pixels():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    centers = torch.tensor([[[2.5 / 3, 1.5 / 2], [1.5 / 3, 1.5 / 2]]])
    assert point_sample(image, centers).tolist() == [[[5.0, 4.0]]]


# --------------------------------------------------------------------------------------------- checkpoints and metrics


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"res2": nn.Linear(2, 2)})


def test_a_zoo_pickle_loads_by_the_ends_of_names(tmp_path: Path):
    weights = {"res2.weight": np.eye(2, dtype=np.float32), "res2.bias": np.ones(2, dtype=np.float32)}
    content = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(content))
    model = Wrapped()
    DetectionCheckpointer(model).load(str(tmp_path / "zoo.pkl"))
    assert model.backbone["res2"](torch.tensor([3.0, 4.0])).tolist() == [4, 5]


def test_caffe2_names_of_a_resnet_are_translated(tmp_path: Path):
    backbone = small_backbone("build_resnet_backbone")
    values = {"res_conv1_bn_s": (64,), "res2_0_branch2a_w": (64, 64, 3, 3), "res3_0_branch1_bn_riv": (128,)}
    blobs = {name: np.full(shape, 0.5, dtype=np.float32) for name, shape in values.items()}
    (tmp_path / "c2.pkl").write_bytes(pickle.dumps({"blobs": blobs}))
    DetectionCheckpointer(backbone).load(str(tmp_path / "c2.pkl"))
    state = backbone.state_dict()
    for name in ("stem.conv1.norm.weight", "res2.0.conv1.weight", "res3.0.shortcut.norm.running_var"):
        assert state[name].eq(0.5).all(), name


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


@only_embedded
@pytest.mark.parametrize("file_name", ["weights.pkl", "weights.pth"])
def test_a_weight_file_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_name: str):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Bomb()}, "weights.pth")
    Path("weights.pkl").write_bytes(pickle.dumps({"model": Bomb()}))
    with pytest.raises(pickle.UnpicklingError):
        DetectionCheckpointer(Wrapped()).load(file_name)
    assert not Path("exploded").exists()


def test_a_writer_of_another_repository_takes_images_and_histograms():
    storage = EventStorage()
    storage.put_image("picture", torch.zeros(3, 2, 2))
    assert [name for name, *_ in storage._vis_data] == ["picture"] and storage._histograms == []
    storage.clear_images()
    storage.clear_histograms()
    assert storage._vis_data == storage._histograms == []


def test_a_noisy_metric_is_written_as_the_median_of_its_window(tmp_path: Path):
    with EventStorage(start_iter=5) as storage:
        writer = JSONWriter(str(tmp_path / "metrics.json"), window_size=3)
        for value in (100.0, 1.0, 9.0, 2.0):
            storage.put_scalars(loss=value)
            storage.put_scalar("lr", value, smoothing_hint=False)
            storage.step()
        writer.write()
        writer.close()
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"iteration": 8, "loss": 2.0, "lr": 2.0}


@only_embedded
@pytest.mark.parametrize("kind", [Boxes, ImageList])
def test_structures_compile_in_torchscript(kind: type):
    assert torch.jit.script(kind) is not None
