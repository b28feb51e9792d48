"""What the embedded Detectron2 leaves out: the names exist, using them says how to install the real one.

One table. A listed name can be imported, subclassed and registered; to construct it, call it or read an attribute of it
is an ImportError with the install line. So is importing any other module of Detectron2 that is not here.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

INSTALL_LINE = (
    "pip install 'setuptools<81' wheel && "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"
)

_ROI_HEADS = (
    "BaseKeypointRCNNHead BaseMaskRCNNHead CascadeROIHeads FastRCNNConvFCHead FastRCNNOutputLayers ROIHeads "
    "Res5ROIHeads StandardROIHeads build_box_head build_keypoint_head build_mask_head build_roi_heads "
    "select_foreground_proposals"
)
_PROPOSALS = "RPN RRPN StandardRPNHead build_proposal_generator build_rpn_head"
_ANCHORS = "ANCHOR_GENERATOR_REGISTRY DefaultAnchorGenerator RotatedAnchorGenerator build_anchor_generator"
_META_ARCHITECTURES = "FCOS GeneralizedRCNN PanopticFPN ProposalNetwork RetinaNet SemanticSegmentor"
_BACKBONES = "MViT RegNet SimpleFeaturePyramid SwinTransformer ViT get_vit_lr_decay_rate"
_TEST_TIME = "DatasetMapperTTA GeneralizedRCNNWithTTA"
_DEFORMABLE = "DeformConv ModulatedDeformConv"
_PROFILERS = "AutogradProfiler TorchMemoryStats TorchProfiler"

# module -> its names that are left out. A module without a file of its own here is made up of these stand-ins.
_TABLE = {
    "config": "LazyCall LazyConfig instantiate",
    "data.benchmark": "DataLoaderBenchmark",
    "data.build": "load_proposals_into_dataset",
    "data.datasets": "load_lvis_json",
    "data.datasets.lvis": "load_lvis_json",
    "data.detection_utils": "annotations_to_instances_rotated get_fed_loss_cls_weights transform_proposals",
    "data.transforms": "MinIoURandomCrop",
    "engine": _PROFILERS,
    "engine.hooks": _PROFILERS,
    "evaluation": "LVISEvaluator PascalVOCDetectionEvaluator RotatedCOCOEvaluator",
    "evaluation.lvis_evaluation": "LVISEvaluator",
    "evaluation.pascal_voc_evaluation": "PascalVOCDetectionEvaluator",
    "evaluation.rotated_coco_evaluation": "RotatedCOCOEvaluator",
    "layers": f"ASPP CycleBatchNormList ROIAlignRotated batched_nms_rotated nms_rotated {_DEFORMABLE}",
    "layers.aspp": "ASPP",
    "layers.batch_norm": "CycleBatchNormList",
    "layers.deform_conv": _DEFORMABLE,
    "layers.nms": "batched_nms_rotated nms_rotated",
    "layers.roi_align_rotated": "ROIAlignRotated roi_align_rotated",
    "layers.rotated_boxes": "pairwise_iou_rotated",
    "model_zoo": "get",
    "modeling": f"{_ANCHORS} {_BACKBONES} {_META_ARCHITECTURES} {_PROPOSALS} {_ROI_HEADS} {_TEST_TIME}",
    "modeling.anchor_generator": _ANCHORS,
    "modeling.backbone": _BACKBONES,
    "modeling.backbone.resnet": "DeformBottleneckBlock",
    "modeling.box_regression": "Box2BoxTransformLinear Box2BoxTransformRotated",
    "modeling.meta_arch": _META_ARCHITECTURES,
    "modeling.meta_arch.semantic_seg": "SemSegFPNHead SemanticSegmentor",
    "modeling.proposal_generator": _PROPOSALS,
    "modeling.roi_heads": _ROI_HEADS,
    "modeling.test_time_augmentation": _TEST_TIME,
    "projects.deeplab": "DeepLabV3Head DeepLabV3PlusHead",
    "projects.point_rend": "ImplicitPointRendMaskHead PointRendMaskHead PointRendSemSegHead",
    "projects.point_rend.point_features": "sample_point_labels",
    "structures": "RotatedBoxes heatmaps_to_keypoints pairwise_iou_rotated",
    "structures.keypoints": "heatmaps_to_keypoints",
    "structures.rotated_boxes": "RotatedBoxes pairwise_iou",
    "utils.analysis": "activation_count_operators flop_count_operators",
    "utils.video_visualizer": "VideoVisualizer",
}
_NAMES = {f"detectron2.{module}": names.split() for module, names in _TABLE.items()}
META_ARCHITECTURES = _META_ARCHITECTURES.split()


def left_out_message(name: str) -> str:
    return f"{name} is not part of the embedded Detectron2. Install the real one in its place: {INSTALL_LINE}"


class _LeftOutType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise ImportError(left_out_message(f"{cls.left_out_name}.{name}"))


class _LeftOut(metaclass=_LeftOutType):
    left_out_name = ""

    def __new__(cls, *_args: object, **_kwargs: object) -> _LeftOut:
        raise ImportError(left_out_message(cls.left_out_name))


def stand_ins(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module: stand-ins for the names that the table lists for it."""

    def find(name: str) -> Any:
        if name not in _NAMES.get(module, ()):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return stand_in(name, module)

    return find


@cache
def stand_in(name: str, module: str) -> type:
    return _LeftOutType(name, (_LeftOut,), {"left_out_name": f"{module}.{name}", "__module__": module})


def home_of(name: str) -> str | None:
    """The full name of a left-out thing that registries know by `name`."""
    return next((f"{module}.{name}" for module, names in _NAMES.items() if name in names), None)


class LeftOutModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Last on sys.meta_path: makes up the table's modules, and says of any other `detectron2.*` how to get it."""

    def find_spec(self, fullname: str, *_where: object) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("detectron2."):
            return None
        if fullname not in _NAMES:
            raise ModuleNotFoundError(left_out_message(fullname), name=fullname)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = stand_ins(module.__name__)  # type: ignore[method-assign]
