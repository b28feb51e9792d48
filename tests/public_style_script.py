"""A script as public projects write them: it registers models, a backbone and data sets of its own under the published
names, evaluates perfect predictions with all of Detectron2's evaluators, and draws them.

    python tests/public_style_script.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, SemSegEvaluator
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.visualizer import Visualizer
from PIL import Image

SIDE = 8
NAME = "ade20k_panoptic_val"


@META_ARCH_REGISTRY.register()
class MaskFormer: ...


@META_ARCH_REGISTRY.register()
class OneFormer: ...


@BACKBONE_REGISTRY.register()
class D2SwinTransformer: ...


@BACKBONE_REGISTRY.register()
def build_resnet_deeplab_backbone() -> None: ...


def register(folder: Path) -> dict:
    """One image: a cat (category 7) on the left half, sky (category 9) on the right; gives its record."""
    categories = [{"id": 7, "name": "cat", "isthing": 1}, {"id": 9, "name": "sky", "isthing": 0}]
    images = [{"id": 1, "file_name": "a.png", "height": SIDE, "width": SIDE}]
    box = {"bbox": [0, 0, 4, SIDE], "category_id": 7, "segmentation": [[0, 0, 4, 0, 4, SIDE, 0, SIDE]]}
    cat = {"id": 1, "image_id": 1, "area": 32, "iscrowd": 0, **box}
    segments = [{"id": i, "category_id": i * 2 + 5, "iscrowd": 0, "area": 32} for i in (1, 2)]
    truth = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    instances = {"info": {}, "images": images, "annotations": [cat], "categories": categories[:1]}
    (folder / "instances.json").write_text(json.dumps(instances))
    (folder / "panoptic.json").write_text(
        json.dumps({"images": images, "annotations": truth, "categories": categories})
    )
    ids = np.repeat(np.array([[1, 2]], dtype=np.uint8), 4, axis=1).repeat(SIDE, axis=0)
    Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=2)).save(folder / "a.png")
    Image.fromarray(ids - 1).save(folder / "semantic.png")
    annotation = {**box, "category_id": 0, "bbox_mode": BoxMode.XYWH_ABS}
    record = {"file_name": str(folder / "a.png"), "image_id": 1, "height": SIDE, "width": SIDE}
    record |= {"sem_seg_file_name": str(folder / "semantic.png"), "annotations": [annotation]}
    for name in (NAME, "coco_2017_val_panoptic_with_sem_seg", "mapillary_vistas_panoptic_val"):
        DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(NAME).set(
        json_file=str(folder / "instances.json"),
        panoptic_json=str(folder / "panoptic.json"),
        panoptic_root=str(folder),
        thing_classes=["cat"],
        stuff_classes=["cat", "sky"],
        thing_dataset_id_to_contiguous_id={7: 0},
        stuff_dataset_id_to_contiguous_id={7: 0, 9: 1},
        ignore_label=255,
    )
    return record


def perfect_output(record: dict) -> dict:
    labels = torch.as_tensor(np.asarray(Image.open(record["sem_seg_file_name"])).astype(np.int64))
    found = Instances((SIDE, SIDE), pred_classes=torch.tensor([0]), scores=torch.tensor([0.9]))
    found.pred_boxes, found.pred_masks = Boxes(torch.tensor([[0.0, 0, 4, SIDE]])), (labels == 0)[None]
    segments = [{"id": k + 1, "category_id": k, "isthing": k == 0} for k in (0, 1)]
    scores = torch.nn.functional.one_hot(labels, 2).permute(2, 0, 1).float()
    return {"sem_seg": scores, "instances": found, "panoptic_seg": (labels + 1, segments)}


def main(folder: Path) -> None:
    record = register(folder)
    output = perfect_output(record)
    for evaluator in (
        SemSegEvaluator(NAME, output_dir=str(folder / "out")),
        COCOPanopticEvaluator(NAME, str(folder / "out")),
        COCOEvaluator(NAME, output_dir=str(folder / "out")),
    ):
        evaluator.reset()
        evaluator.process([record], [output])
        for task, scores in evaluator.evaluate().items():
            sys.stdout.write(f"{task} {scores.get('mIoU', scores.get('PQ', scores.get('AP'))):.0f}\n")
    visualizer = Visualizer(np.zeros((SIDE, SIDE, 3)), MetadataCatalog.get(NAME))
    visualizer.draw_instance_predictions(output["instances"])
    visualizer.draw_sem_seg(output["sem_seg"].argmax(dim=0))
    visualizer.draw_panoptic_seg(*output["panoptic_seg"])
    visualizer.draw_dataset_dict(record)
    visualizer.overlay_instances(masks=output["instances"].pred_masks, labels=["cat"])
    visualizer.draw_binary_mask(output["instances"].pred_masks[0].numpy())
    assert META_ARCH_REGISTRY.get("MaskFormer") is MaskFormer
    assert BACKBONE_REGISTRY.get("build_resnet_deeplab_backbone") is build_resnet_deeplab_backbone
    assert "mask2former_ext.models" not in sys.modules
    sys.stdout.write("drawn\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
