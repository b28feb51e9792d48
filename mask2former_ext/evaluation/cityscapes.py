"""Cityscapes' own scores, by its official package, as Detectron2 evaluators under Detectron2's names.

Its AP is not COCO's, which `evaluators.InstanceEvaluator` gives.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from PIL import Image

from mask2former_ext.classes import from_metadata

_IMAGE, _TRUTH = "_leftImg8bit", "_gtFine_"  # how the names of a picture and of its truth go on


def _official(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"cityscapesscripts.{module}")
    except ImportError as error:
        raise ImportError(
            "the Cityscapes evaluators need the official package: pip install cityscapesscripts,"
            " or the extra mask2former_ext[cityscapes]"
        ) from error


class CityscapesEvaluator(DatasetEvaluator):
    """Predictions of all processes go to one folder, which they must share; the main process scores it."""

    script = ""  # module of the official package
    truth = ""  # ending of the truth files that it compares with
    prediction = ""  # ending of the prediction files that it reads

    def __init__(self, dataset_name: str) -> None:
        """`dataset_name`: registered with `gt_dir`, the folder of the truth. ImportError without the package."""
        self._official = _official(f"evaluation.{self.script}")
        self._labels = _official("helpers.labels")
        self._metadata = MetadataCatalog.get(dataset_name)

    def reset(self) -> None:
        self._own_folder = tempfile.TemporaryDirectory(prefix="cityscapes_")
        self._folder = Path(comm.all_gather(self._own_folder.name)[0])
        comm.synchronize()

    def _score(self) -> dict[str, Any] | None:
        """What the official script says of the folder; None in other processes than the main one."""
        comm.synchronize()
        if not comm.is_main_process():
            return None
        args = self._official.args
        args.predictionPath, args.predictionWalk = str(self._folder.resolve()), None
        args.JSONOutput, args.colorized, args.quiet = False, False, True
        args.gtInstancesFile = str(self._folder / "gtInstances.json")
        root = Path(PathManager.get_local_path(self._metadata.gt_dir))
        truths = sorted(root.glob(f"*/*{_TRUTH}{self.truth}.png"))
        if not truths:
            raise FileNotFoundError(f"{root}: no */*{_TRUTH}{self.truth}.png, which the evaluation compares with")
        predictions = [self._path(path.name.partition(_TRUTH)[0] + _IMAGE) for path in truths]
        missing = [path.name for path in predictions if not path.is_file()]
        if missing:
            raise ValueError(f"{root}: {len(missing)} of {len(truths)} pictures have no prediction, first {missing[0]}")
        # The package needs what NumPy 2.4 no longer has, and writes files of its own beside the script that runs.
        with (
            mock.patch.object(np, "in1d", np.isin, create=True),
            mock.patch.object(self._official, "writeDict2JSON", lambda *_: None),
        ):
            scores = self._official.evaluateImgLists([str(p) for p in predictions], [str(t) for t in truths], args)
        self._own_folder.cleanup()
        return scores

    def _path(self, stem: str) -> Path:
        return self._folder.resolve() / f"{stem}_pred{self.prediction}"


class CityscapesSemSegEvaluator(CityscapesEvaluator):
    """ "sem_seg": IoU and iIoU of classes, IoU_sup and iIoU_sup of their categories, in percent."""

    script, truth, prediction = "evalPixelLevelSemanticLabeling", "labelIds", ".png"

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes "file_name" of the inputs and "sem_seg" (K, H, W), K train ids, of the outputs."""
        for image, output in zip(inputs, outputs, strict=True):
            train_ids = output["sem_seg"].argmax(dim=0).cpu().numpy()
            ids = np.full(train_ids.shape, 255, dtype=np.uint8)
            for train_id, label in self._labels.trainId2label.items():
                if not label.ignoreInEval:
                    ids[train_ids == train_id] = label.id
            Image.fromarray(ids).save(self._path(Path(image["file_name"]).stem))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        scores = self._score()
        if scores is None:
            return None
        names = {"IoU": "Classes", "iIoU": "InstClasses", "IoU_sup": "Categories", "iIoU_sup": "InstCategories"}
        return {"sem_seg": {key: 100.0 * scores[f"averageScore{name}"] for key, name in names.items()}}


class CityscapesInstanceEvaluator(CityscapesEvaluator):
    """ "segm": AP and AP50 by Cityscapes' rules, in percent, which are not COCO's."""

    script, truth, prediction = "evalInstanceLevelSemanticLabeling", "instanceIds", ".txt"

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Takes "file_name" of the inputs and "instances" of the outputs: pred_classes, scores, pred_masks."""
        classes = from_metadata(self._metadata, unnumbered="things")
        assert classes is not None, f"data set {self._metadata.name} names no classes"
        for image, output in zip(inputs, outputs, strict=True):
            stem, lines = Path(image["file_name"]).stem, []
            if "instances" in output:
                found = output["instances"].to("cpu")
                columns = found.pred_classes.tolist(), found.scores.tolist(), found.pred_masks
                for number, (k, score, mask) in enumerate(zip(*columns, strict=True)):
                    name = classes.name(k, is_thing=True)
                    file_name = f"{stem}_{number}_{name}.png"
                    Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255).save(self._folder / file_name)
                    lines.append(f"{file_name} {self._labels.name2label[name].id} {score}\n")
            self._path(stem).write_text("".join(lines))

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        scores = self._score()
        if scores is None:
            return None
        return {"segm": {"AP": 100.0 * scores["averages"]["allAp"], "AP50": 100.0 * scores["averages"]["allAp50%"]}}
