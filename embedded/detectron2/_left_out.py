"""What the embedded Detectron2 leaves out: the names exist, using them says how to install the real one.

One table. A listed name can be imported, subclassed and registered; to construct it, call it or read an attribute of it
is an ImportError with the install line. So is importing any other module of Detectron2 that is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

INSTALL_LINE = (
    "pip install 'setuptools<81' wheel && "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'"
)

_ROI_HEADS = (
    "BaseKeypointRCNNHead BaseMaskRCNNHead CascadeROIHeads FastRCNNConvFCHead FastRCNNOutputLayers ROIHeads "
    "Res5ROIHeads StandardROIHeads build_box_head build_keypoint_head build_mask_head build_roi_heads "
    "KRCNNConvDeconvUpsampleHead MaskRCNNConvUpsampleHead ROI_BOX_HEAD_REGISTRY ROI_KEYPOINT_HEAD_REGISTRY "
    " select_foreground_proposals"
)
_PROPOSALS = "RPN RPN_HEAD_REGISTRY RRPN StandardRPNHead build_proposal_generator build_rpn_head"
_ANCHORS = "ANCHOR_GENERATOR_REGISTRY DefaultAnchorGenerator RotatedAnchorGenerator build_anchor_generator"
_META_ARCHITECTURES = "FCOS GeneralizedRCNN PanopticFPN ProposalNetwork RetinaNet SemanticSegmentor"
_BACKBONES = "MViT RegNet ResNetBlockBase SimpleFeaturePyramid SwinTransformer ViT get_vit_lr_decay_rate make_stage"
_TEST_TIME = "DatasetMapperTTA GeneralizedRCNNWithTTA"
_DEFORMABLE = "DeformConv ModulatedDeformConv"
_HOOKS = "AutogradProfiler CallbackHook TorchMemoryStats TorchProfiler"

# module -> its names that are left out. A module without a file of its own here is made up of these stand-ins.
_TABLE = {
    "config": "LazyCall LazyConfig global_cfg instantiate set_global_cfg",
    "data.benchmark": "DataLoaderBenchmark",
    "data.build": "load_proposals_into_dataset",
    "data.datasets": "load_lvis_json",
    "data.datasets.lvis": "load_lvis_json",
    "data.detection_utils": "annotations_to_instances_rotated build_transform_gen get_fed_loss_cls_weights "
    "transform_proposals",
    "data.transforms": "MinIoURandomCrop RandomExtent RandomLighting RandomResize StandardAugInput",
    "engine": _HOOKS,
    "engine.defaults": "_highlight _try_get_key",
    "engine.hooks": _HOOKS,
    "evaluation": "LVISEvaluator PascalVOCDetectionEvaluator RotatedCOCOEvaluator",
    "evaluation.lvis_evaluation": "LVISEvaluator",
    "evaluation.pascal_voc_evaluation": "PascalVOCDetectionEvaluator",
    "evaluation.rotated_coco_evaluation": "RotatedCOCOEvaluator",
    "layers": "ASPP BatchNorm2d CycleBatchNormList Linear "
    f"ROIAlignRotated batched_nms_rotated nms_rotated {_DEFORMABLE}",
    "layers.aspp": "ASPP",
    "layers.batch_norm": "CycleBatchNormList",
    "layers.deform_conv": _DEFORMABLE,
    "layers.mask_ops": "_paste_masks_tensor_shape pad_masks paste_mask_in_image_old scale_boxes",
    "layers.nms": "batched_nms_rotated nms_rotated",
    "layers.roi_align_rotated": "ROIAlignRotated roi_align_rotated",
    "layers.rotated_boxes": "pairwise_iou_rotated",
    "layers.wrappers": "BatchNorm2d Linear _NewEmptyTensorOp",
    "model_zoo": "get",
    "modeling": f"{_ANCHORS} {_BACKBONES} {_META_ARCHITECTURES} {_PROPOSALS} {_ROI_HEADS} {_TEST_TIME} poolers",
    "modeling.anchor_generator": _ANCHORS,
    "modeling.backbone": _BACKBONES,
    "modeling.backbone.fpn": "LastLevelP6P7 build_retinanet_resnet_fpn_backbone",
    "modeling.backbone.resnet": "DeformBottleneckBlock ResNetBlockBase make_stage",
    "modeling.box_regression": "Box2BoxTransformLinear Box2BoxTransformRotated _dense_box_regression_loss",
    "modeling.meta_arch": _META_ARCHITECTURES,
    "modeling.meta_arch.semantic_seg": "SemSegFPNHead SemanticSegmentor",
    "modeling.proposal_generator": f"{_PROPOSALS} rpn",
    "modeling.roi_heads": f"{_ROI_HEADS} keypoint_head mask_head",
    "modeling.test_time_augmentation": _TEST_TIME,
    "projects.deeplab": "DeepLabV3Head DeepLabV3PlusHead",
    "projects.point_rend": "ImplicitPointRendMaskHead PointRendMaskHead PointRendSemSegHead",
    "projects.point_rend.point_features": "get_uncertain_point_coords_on_grid point_sample_fine_grained_features "
    "sample_point_labels",
    "solver": "WarmupCosineLR WarmupMultiStepLR",
    "solver.lr_scheduler": "WarmupCosineLR WarmupMultiStepLR",
    "structures": "RotatedBoxes heatmaps_to_keypoints pairwise_iou_rotated pairwise_point_box_distance",
    "structures.keypoints": "heatmaps_to_keypoints",
    "structures.rotated_boxes": "RotatedBoxes pairwise_iou",
    "utils.analysis": "activation_count_operators find_unused_parameters flop_count_operators",
    "utils.collect_env": "collect_torch_env detect_compute_compatibility get_env_module test_nccl_ops",
    "utils.env": "_import_file fixup_module_metadata",
    "utils.testing": "assert_instances_allclose convert_scripted_instances get_model_no_weights get_sample_coco_image",
    "utils.visualizer": "_PanopticPrediction",
    "utils.video_visualizer": "VideoVisualizer",
}
_NAMES = {f"detectron2.{module}": names.split() for module, names in _TABLE.items()}
META_ARCHITECTURES = _META_ARCHITECTURES.split()
# What stands on evaluation in mask2former_ext is loaded when it is used: (module, name) -> home.
_ON_DEMAND = {
    ("detectron2.evaluation", name): f"detectron2.evaluation.{home}"
    for name, home in (
        ("COCOPanopticEvaluator", "panoptic_evaluation"),
        ("CityscapesInstanceEvaluator", "cityscapes_evaluation"),
        ("CityscapesSemSegEvaluator", "cityscapes_evaluation"),
    )
}


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


@cache
def stand_in(name: str, module: str) -> type:
    return _LeftOutType(name, (_LeftOut,), {"left_out_name": f"{module}.{name}", "__module__": module})


def home_of(name: str) -> str | None:
    """The full name of a left-out thing that registries know by `name`."""
    return next((f"{module}.{name}" for module, names in _NAMES.items() if name in names), None)


class _Loader(SourceFileLoader):
    """Gives a module the stand-ins of the table as its `__getattr__`; one without a file has nothing else."""

    def exec_module(self, module: ModuleType) -> None:
        def find(name: str) -> Any:
            if (module.__name__, name) in _ON_DEMAND:
                return getattr(import_module(_ON_DEMAND[module.__name__, name]), name)
            if name not in _NAMES[module.__name__]:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return stand_in(name, module.__name__)

        module.__getattr__ = find  # type: ignore[method-assign]
        if self.path:
            super().exec_module(module)


class LeftOutModules(MetaPathFinder):
    """First on sys.meta_path: gives `detectron2.*` modules their stand-ins; of an absent one, the install line."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, *_target: object) -> ModuleSpec | None:
        if not fullname.startswith("detectron2."):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None and fullname not in _NAMES:
            raise ModuleNotFoundError(left_out_message(fullname))  # with a name, `from x import fullname` hides it
        if spec is None:
            return ModuleSpec(fullname, _Loader(fullname, ""), is_package=True)
        if fullname in _NAMES and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec
