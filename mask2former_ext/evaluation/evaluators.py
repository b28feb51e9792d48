"""PQ, AP and mIoU as Detectron2 evaluators: image by image, reduced over processes, result keys as Detectron2's.

Each takes the name of a registered data set (or its `DatasetTruth`, to share it). With an `output_dir` the predictions
are written there under Detectron2's file names. `evaluate` has to be called in every process; the main one gets the
results, the others an empty dict.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from mask2former_ext.data.targets.masks import encode_mask, panoptic_png
from mask2former_ext.evaluation.average_precision import coco_average_precision, in_memory_coco, load_coco
from mask2former_ext.evaluation.confusion_matrix import ConfusionMatrix
from mask2former_ext.evaluation.panoptic_quality import PanopticQuality
from mask2former_ext.evaluation.truth import DatasetTruth
from mask2former_ext.folders import open_folder

logger = logging.getLogger(__name__)

Batch = Sequence[Mapping[str, Any]]
Results = dict[str, dict[str, float]]


class PanopticEvaluator(DatasetEvaluator):
    """Panoptic quality, under the key "panoptic_seg"."""

    def __init__(self, dataset: str | DatasetTruth, output_dir: str | None = None) -> None:
        """ValueError if the data set has no panoptic json."""
        self._dataset = _as_truth(dataset)
        if self._dataset.panoptic is None:
            raise ValueError(f"data set {self._dataset.name} names no panoptic_json, which PQ needs")
        self._truth = self._dataset.panoptic
        self._output_dir = _open_folder(output_dir)
        self._png_dir = None if output_dir is None else _open_folder(Path(output_dir) / "panoptic_predictions")
        self.reset()

    def reset(self) -> None:
        self._quality = PanopticQuality(self._truth.is_thing)
        self._written: list[dict[str, Any]] = []

    def process(self, inputs: Batch, outputs: Batch) -> None:
        for image, output in zip(inputs, outputs, strict=True):
            id_map, segments = output["panoptic_seg"]
            pred_ids = id_map.cpu().numpy()
            pred_segments = [{**s, "category_id": self._category_id(s, image["file_name"])} for s in segments]
            path, true_ids, true_segments = self._truth.read(self._dataset.record(image)["image_id"])
            self._quality.update(pred_ids, pred_segments, true_ids, true_segments, name=path)
            if self._png_dir is not None:
                self._written.append(self._write(image, pred_ids, pred_segments, self._png_dir))

    def evaluate(self) -> Results:
        comm.synchronize()
        states, written = comm.gather(self._quality.state), comm.gather(self._written)
        if not comm.is_main_process():
            return {}
        total = PanopticQuality(self._truth.is_thing)
        total.state = np.sum(states, axis=0)
        if self._output_dir is not None:
            content = {"annotations": _chain(written), "categories": self._truth.categories}
            _write_json(self._output_dir / "predictions.json", content)
        results, per_category = total.compute(), total.per_category()
        name_of = {c["id"]: c["name"] for c in self._truth.categories}
        _log_scores("Panoptic quality", [(name_of[category], row) for category, row in per_category.items()], results)
        return {"panoptic_seg": results}

    def _category_id(self, segment: Mapping[str, Any], file_name: str) -> int:
        classes = self._dataset.classes
        kind, id_of = ("thing", classes.id_of_thing) if segment["isthing"] else ("stuff", classes.id_of_stuff)
        if segment["category_id"] not in id_of:
            raise ValueError(
                f"{file_name}: predicted {kind} class {segment['category_id']} is no class of {kind} of data set"
                f" {self._dataset.name}; do the model's classes follow this data set?"
            )
        return id_of[segment["category_id"]]

    def _write(self, image: Mapping[str, Any], ids: NDArray, segments: list[dict], folder: Path) -> dict[str, Any]:
        file_name = f"{Path(image['file_name']).stem}.png"
        Image.fromarray(panoptic_png(ids)).save(folder / file_name)
        return {"image_id": image["image_id"], "file_name": file_name, "segments_info": segments}


class InstanceEvaluator(DatasetEvaluator):
    """Average precision of the classes that are things, under the keys "bbox" and, if there are masks, "segm".

    Truth is the instances json. Without one it follows from the panoptic truth's things, or from annotations.
    A prediction of a class that is no thing is dropped: models that number things and stuff together give some.
    """

    def __init__(
        self, dataset: str | DatasetTruth, output_dir: str | None = None, *, max_dets_per_image: int = 100
    ) -> None:
        """`max_dets_per_image` of each class count. ValueError if the data set has no truth of instances, if its json
        lacks one of the data set's things or an image of the data set."""
        self._dataset = _as_truth(dataset)
        self._max_dets = max_dets_per_image
        self._id_of_thing = self._dataset.classes.id_of_thing
        self._output_dir = _open_folder(output_dir)
        self._coco: COCO | None = None
        if not self._dataset.has_instances:
            raise ValueError(
                f"data set {self._dataset.name} has neither instances nor panoptic truth, of which AP needs one"
            )
        if self._dataset.instances_json is not None:
            self._coco = load_coco(self._dataset.instances_json)
            self._categories = self._categories_in(self._coco)
            self._image_id_of = self._match_images(self._coco)
        else:
            self._categories = self._dataset.thing_categories()
            named = self._dataset.json_file is not None
            logger.log(
                logging.WARNING if named else logging.INFO,
                "Data set %s has no instances json (json_file: %s). AP is measured against %s instead.",
                self._dataset.name,
                self._dataset.json_file,
                "the annotations of its records"
                if self._dataset.panoptic is None
                else "the things of its panoptic truth",
            )
        self.reset()

    def reset(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []
        self._with_masks = True  # of all predictions, those without a detection too

    def process(self, inputs: Batch, outputs: Batch) -> None:
        for image, output in zip(inputs, outputs, strict=True):
            record = self._dataset.record(image)
            self._with_masks &= output["instances"].has("pred_masks")
            image_id = record["image_id"] if self._coco is None else self._image_id_of[record["file_name"]]
            self._images.append({"id": image_id, "height": image["height"], "width": image["width"]})
            if self._coco is None:
                self._annotations.extend(self._dataset.instances(image))
            self._results.extend(self._as_coco_results(output["instances"], image_id))

    def evaluate(self) -> Results:
        comm.synchronize()
        images, annotations, results = (
            _chain(comm.gather(part)) for part in (self._images, self._annotations, self._results)
        )
        with_masks = comm.gather(self._with_masks)
        if not comm.is_main_process():
            return {}
        if self._output_dir is not None:
            torch.save(results, self._output_dir / "instances_predictions.pth")
            _write_json(self._output_dir / "coco_instances_results.json", results)
        coco = self._coco or in_memory_coco(images, annotations, self._categories)
        if "annotations" not in coco.dataset:
            logger.warning("%s holds no annotations: AP is not measured.", self._dataset.instances_json)
            return {}
        kinds = ["bbox", "segm"] if all(with_masks) else ["bbox"]
        if "segm" in kinds and not all(annotation.get("segmentation") for annotation in coco.dataset["annotations"]):
            logger.warning("The truth of %s has boxes without masks: AP of masks is not measured.", self._dataset.name)
            kinds = ["bbox"]
        return {kind: self._score(coco, images, results, kind) for kind in kinds}

    def _score(self, coco: COCO, images: list[dict], results: list[dict], iou_type: str) -> dict[str, float]:
        category_ids = [category["id"] for category in self._categories]
        names = [category["name"] for category in self._categories]
        scores = coco_average_precision(
            coco,
            results,
            iou_type,
            self._max_dets,
            names,
            category_ids=category_ids,
            image_ids=[image["id"] for image in images],
        )
        per_class = [(name, {"AP": scores[f"AP-{name}"]}) for name in names if f"AP-{name}" in scores]
        _log_scores(f"Average precision ({iou_type})", per_class, scores)
        return scores

    def _as_coco_results(self, instances: Instances, image_id: int | str) -> list[dict[str, Any]]:
        instances = instances.to(torch.device("cpu"))
        boxes = instances.pred_boxes.tensor if isinstance(instances.pred_boxes, Boxes) else instances.pred_boxes
        boxes = BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
        classes, scores = instances.pred_classes.tolist(), instances.scores.tolist()
        results = []
        for i, (k, score, box) in enumerate(zip(classes, scores, boxes, strict=True)):
            if k not in self._id_of_thing:
                continue
            result = {"image_id": image_id, "category_id": self._id_of_thing[k], "bbox": box, "score": score}
            if instances.has("pred_masks"):
                result["segmentation"] = encode_mask(np.asarray(instances.pred_masks[i]))
            results.append(result)
        return results

    def _categories_in(self, coco: COCO) -> list[dict[str, Any]]:
        things = self._dataset.classes.thing_of_id
        missing = things.keys() - coco.cats.keys()
        if missing or not things:
            raise ValueError(
                f"{self._dataset.instances_json}: things {sorted(missing)} of data set {self._dataset.name} are not"
                f" among its category ids {sorted(coco.cats)}"
            )
        return [coco.cats[category] for category in sorted(things)]

    def _match_images(self, coco: COCO) -> dict[str, int | str]:
        """File name of each record -> id of its image in the json, whose ids need not be those of the panoptic json."""
        id_of_stem = {Path(image["file_name"]).stem: image_id for image_id, image in coco.imgs.items()}
        image_id_of = {}
        for file_name, record in self._dataset.record_of.items():
            image_id, stem = record.get("image_id"), Path(file_name).stem
            known = image_id in coco.imgs and Path(coco.imgs[image_id]["file_name"]).stem == stem
            if not known and stem not in id_of_stem:
                raise ValueError(f"{self._dataset.instances_json}: no image with the name of {file_name}")
            image_id_of[file_name] = image_id if known else id_of_stem[stem]
        return image_id_of


class SemanticEvaluator(DatasetEvaluator):
    """Mean IoU and its kin, under the key "sem_seg". Truth is the semantic label file, else the panoptic truth."""

    def __init__(self, dataset: str | DatasetTruth, output_dir: str | None = None) -> None:
        """ValueError if the data set has no truth that gives each pixel a class."""
        self._dataset = _as_truth(dataset)
        if not self._dataset.has_semantic:
            raise ValueError(
                f"data set {self._dataset.name} has neither semantic nor panoptic truth, of which mIoU needs one"
            )
        self._names: list[str] = self._dataset.classes.label_names
        self._output_dir = _open_folder(output_dir)
        self.reset()

    def reset(self) -> None:
        self._confusion = ConfusionMatrix(len(self._names), self._dataset.classes.ignore_label)
        self._written: list[dict[str, Any]] = []

    def process(self, inputs: Batch, outputs: Batch) -> None:
        for image, output in zip(inputs, outputs, strict=True):
            scores = output["sem_seg"]
            if len(scores) != len(self._names):
                raise ValueError(
                    f"{image['file_name']}: the model scores {len(scores)} classes,"
                    f" but data set {self._dataset.name} has {len(self._names)}"
                )
            pred = scores.max(dim=0).indices.cpu().numpy()  # argmax takes five times as long
            path, truth = self._truth_of(image)
            self._confusion.update(pred, truth, name=path)
            if self._output_dir is not None:
                self._written.extend(self._as_segments(image["file_name"], pred))

    def evaluate(self) -> Results:
        comm.synchronize()
        matrices, written = comm.gather(self._confusion.matrix), comm.gather(self._written)
        return self._results(matrices, written) if comm.is_main_process() else {}

    def _truth_of(self, image: Mapping[str, Any]) -> tuple[str, NDArray[np.integer]]:
        return self._dataset.semantic(image)

    def _results(self, matrices: list[NDArray[np.int64]], written: list[list[dict[str, Any]]]) -> Results:
        """Of what several processes have counted and written."""
        total = ConfusionMatrix(len(self._names), self._dataset.classes.ignore_label)
        total.matrix = np.sum(matrices, axis=0)
        results = total.compute(self._names)
        if self._output_dir is not None:
            _write_json(self._output_dir / "sem_seg_predictions.json", _chain(written))
            torch.save(results, self._output_dir / "sem_seg_evaluation.pth")
        per_class = [(name, {key: results[f"{key}-{name}"] for key in ("IoU", "ACC")}) for name in self._names]
        _log_scores("Semantic segmentation", per_class, results)
        return {"sem_seg": results}

    def _as_segments(self, file_name: str, pred: NDArray[np.integer]) -> Iterable[dict[str, Any]]:
        for k in np.unique(pred).tolist():
            category = self._dataset.classes.id_of_label[k]
            yield {"file_name": file_name, "category_id": category, "segmentation": encode_mask(pred == k)}


def _as_truth(dataset: str | DatasetTruth) -> DatasetTruth:
    return dataset if isinstance(dataset, DatasetTruth) else DatasetTruth(dataset)


def _open_folder(path: str | Path | None) -> Path | None:
    return None if path is None else open_folder(path, "output_dir")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _chain(lists: Iterable[list]) -> list:
    return list(itertools.chain.from_iterable(lists))


def _log_scores(title: str, per_class: list[tuple[str, dict[str, float]]], results: Mapping[str, float]) -> None:
    """Log one line per class, then the scores of all classes together."""
    width = max([len(name) for name, _ in per_class], default=0)
    lines = [
        "  ".join([name.ljust(width), *(f"{key} {value:6.2f}" for key, value in row.items())])
        for name, row in per_class
    ]
    summary = ", ".join(f"{key} {value:.2f}" for key, value in results.items() if "-" not in key)
    logger.info("%s\n%s\n%s", title, "\n".join(lines), summary)
