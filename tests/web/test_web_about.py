"""What the web page tells of a model before it answers."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from mask2former_ext.classes import ClassTable
from mask2former_ext.data.image_io import BrokenImageError
from mask2former_ext.data.sets.shapes import CATEGORIES
from mask2former_ext.web.about import about, class_names, own_sample, scene_for
from tests.web_server import StandInPredictor, picture

SCENES = ClassTable(tuple(c["name"] for c in CATEGORIES), tuple(bool(c["isthing"]) for c in CATEGORIES))


@pytest.fixture
def predictor():
    stand_in = StandInPredictor()
    stand_in.cfg.DATASETS.TRAIN = ("pets_train", "pets_more")
    return stand_in


def size_of(sample: dict[str, str]) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(sample["data"]))).size


def test_about_says_architecture_data_and_classes(predictor):
    told = about(predictor)
    assert told["model"] == "Mask2Former, trained on pets_train, pets_more."
    assert told["knows"] == "It knows 2 classes and nothing else." and told["classes"] == ["dog", "cat"]


def test_about_says_that_a_score_is_no_proof(predictor):
    assert "the score may be high even so" in about(predictor)["limits"]


def test_about_a_model_of_scenes_says_that_it_knows_no_photograph(predictor):
    predictor.classes = SCENES
    told = about(predictor)
    assert told["knows"].startswith("It knows the 9 classes of synthetic scenes")
    assert told["limits"] == "It has never seen a photograph: what it says of one means nothing."


def test_about_a_model_without_names_and_data_says_so(predictor):
    predictor.classes, predictor.cfg.DATASETS.TRAIN = None, ()
    told = about(predictor)
    assert told["model"] == "Mask2Former, trained on data that its configuration does not name."
    assert told["knows"] == "Its classes have no names here: numbers are shown." and told["classes"] == []


def test_class_names_of_classes_numbered_apart_leave_out_any_thing():
    assert class_names(SCENES.apart()) == [category["name"] for category in CATEGORIES]


def test_scene_for_is_a_picture_for_a_model_of_scenes_alone(predictor):
    assert scene_for(predictor) is None
    predictor.classes = SCENES.apart()
    assert size_of(scene_for(predictor)) == (704, 512)


def test_scene_for_a_model_that_knows_only_some_of_its_classes_is_none(predictor):
    predictor.classes = ClassTable(("sky", "ground", "water"))
    assert scene_for(predictor) is None


def test_own_sample_is_shrunk_and_holds_pixels_alone(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    (tmp_path / "street.png").write_bytes(picture("PNG", size=(600, 2048), exif=exif))
    sample = own_sample(tmp_path / "street.png")
    assert sample["name"] == "street.jpg" and size_of(sample) == (1024, 300)
    assert b"secret place" not in base64.b64decode(sample["data"])


def test_own_sample_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(BrokenImageError, match=r"a\.png"):
        own_sample(tmp_path / "a.png")
