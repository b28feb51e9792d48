"""What the embedded Detectron2 leaves out, and the names in it that a project brings itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2 import config
from detectron2.config import get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_model
from detectron2.structures import rotated_boxes
from detectron2.utils import video_visualizer
from detectron2.utils.registry import Registry

from tests.places import EMBEDDED

pytestmark = pytest.mark.skipif(not EMBEDDED, reason="the real Detectron2 leaves nothing out")


def test_what_is_left_out_imports_and_says_how_to_get_it_when_used():
    from detectron2.modeling import GeneralizedRCNN

    with pytest.raises(ImportError, match="pip install"):
        GeneralizedRCNN()
    with pytest.raises(ImportError, match="pip install"):
        __import__("detectron2.tracking")


def _import_mask_head() -> None:
    from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss  # noqa: F401


def _import_rpn() -> None:
    from detectron2.modeling.proposal_generator.rpn import RPN  # noqa: F401


def _import_a_submodule_from_its_package() -> None:
    from detectron2 import export  # noqa: F401


def _build_by_name(name: str) -> None:
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = name
    build_model(cfg)


def test_a_lazy_configuration_says_the_install_line(tmp_path: Path):
    path = tmp_path / "lazy.py"
    path.touch()
    with pytest.raises(ImportError, match=r"lazy\.py.*pip install"):
        get_cfg().merge_from_file(str(path))


@pytest.mark.parametrize(
    "reach",
    [
        _import_mask_head,
        _import_rpn,
        _import_a_submodule_from_its_package,
        lambda: config.LazyConfig.load("lazy.py"),
        lambda: config.instantiate({}),
        lambda: _build_by_name("SemanticSegmentor"),
        lambda: _build_by_name("GeneralizedRCNN"),
        lambda: SEM_SEG_HEADS_REGISTRY.get("DeepLabV3PlusHead"),
        lambda: video_visualizer.VideoVisualizer(None),
        lambda: rotated_boxes.RotatedBoxes(None),
    ],
)
def test_a_left_out_name_says_the_install_line_wherever_it_is_reached(reach: Callable[[], object]):
    with pytest.raises(ImportError, match="pip install"):
        reach()


def test_a_name_that_is_unknown_altogether_is_no_attribute():
    assert not hasattr(config, "NoSuchName")
    with pytest.raises(KeyError, match="NoSuchModel"):
        _build_by_name("NoSuchModel")


def test_a_project_may_register_a_name_that_detectron2_has():
    def build_resnet_backbone(cfg: object, input_shape: object) -> None: ...

    registry = Registry("BACKBONE")
    registry.register(BACKBONE_REGISTRY.get("build_resnet_backbone"))
    registry.register(build_resnet_backbone)
    assert registry.get("build_resnet_backbone") is build_resnet_backbone
    with pytest.raises(AssertionError, match="already registered"):
        registry.register(build_resnet_backbone)
