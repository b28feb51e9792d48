"""Draw the truth of one photograph of a COCO panoptic set as a model's answer is drawn: the pictures of docs/.

python tools/draw_truth.py --images facades/train --json facades/panoptic_train.json --masks facades/panoptic_train \\
    --image 000084.jpg --output docs

writes semantic.jpg, instance.jpg and panoptic.jpg, of the photograph's size, and before_and_after.jpg, the photograph
beside panoptic.jpg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mask2former_ext.data.image_io import read_image
from mask2former_ext.data.sets.custom import CustomDataset, load_records, read_classes
from mask2former_ext.inference.drawing import draw, draw_semantic, panoptic_truth
from mask2former_ext.inference.segmentation import UNLABELED, panoptic_segmentation

QUALITY = 88


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, of_what in (
        ("--images", "folder of the photographs"),
        ("--json", "COCO panoptic json"),
        ("--masks", "its folder of PNG"),
        ("--image", "file name of the photograph"),
        ("--output", "folder that is there"),
    ):
        parser.add_argument(name, required=True, help=of_what)
    args = parser.parse_args(argv)
    photo, drawn = draw_truth(args.images, args.json, args.masks, args.image)
    drawn["before_and_after"] = np.concatenate([photo, drawn["panoptic"]], axis=1)
    for name, picture in drawn.items():
        Image.fromarray(picture).save(Path(args.output) / f"{name}.jpg", quality=QUALITY)


def draw_truth(images: str, json: str, masks: str, name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(the photograph, RGB uint8 (H, W, 3); its picture for each task). Raises ValueError if the set has none such."""
    dataset = CustomDataset("truth", images, panoptic_json=json, panoptic_masks=masks)
    table = read_classes(dataset)
    record = next((r for r in load_records(dataset, table) if Path(r["file_name"]).name == name), None)
    if record is None:
        raise ValueError(f"{json} names no image {name!r}")
    photo, (ids, segments) = read_image(record["file_name"], "RGB"), panoptic_truth(record)
    labels = np.full(ids.shape, UNLABELED)
    for segment in segments:
        labels[ids == segment["id"]] = segment["category_id"]
    things = panoptic_segmentation((ids, [segment for segment in segments if segment["isthing"]]), table)
    return photo, {
        "semantic": draw_semantic(photo, labels, table),
        "instance": draw(photo, things, color_by="instance"),
        "panoptic": draw(photo, panoptic_segmentation((ids, segments), table)),
    }


if __name__ == "__main__":
    main()
