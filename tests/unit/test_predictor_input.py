"""What a Predictor takes for an image, what it refuses in a sentence, and what its results can do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former_ext import Predictor
from mask2former_ext.inference.images import as_array
from tests.models import MODELS

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    cfg = MODELS["mask2former_resnet"]()
    cfg.INPUT.MIN_SIZE_TEST = 40
    return Predictor(cfg)


def test_a_path_a_pil_image_and_an_array_are_the_same_image(predictor, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    with Image.open(path) as opened:
        answers = [predictor(image)["sem_seg"] for image in (PIXELS, path, str(path), opened)]
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_a_list_of_paths_is_a_batch(predictor, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    assert [result.image.shape for result in predictor([path, PIXELS])] == [(40, 56, 3)] * 2


def test_an_empty_list_has_no_results(predictor):
    assert predictor([]) == []


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I"])
def test_a_pil_image_of_any_mode_becomes_rgb(mode):
    assert as_array(Image.new(mode, (5, 4)), "RGB").shape == (4, 5, 3)


def test_a_pil_image_is_turned_upright_by_its_exif():
    image = Image.new("RGB", (5, 4))
    image.getexif()[0x0112] = 6  # shown after a quarter turn
    assert as_array(image, "RGB").shape == (5, 4, 3)


def test_a_gray_array_stands_for_three_channels():
    assert np.array_equal(as_array(np.full((4, 5, 1), 7, np.uint8), "RGB"), np.full((4, 5, 3), 7))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, r"a path, a PIL image or RGB uint8 \(H, W, 3\), got None"),
        (np.zeros((0, 5, 3), np.uint8), r"got uint8 \(0, 5, 3\), which has no pixels"),
        (np.zeros((4, 5, 4), np.uint8), r"got uint8 \(4, 5, 4\); image\[:, :, :3\] leaves its fourth channel out"),
        (np.zeros((4, 5), np.uint8), r"got uint8 \(4, 5\); image\[:, :, None\] is a gray image"),
        (np.zeros((4, 5, 3), np.float32), r"got float32 \(4, 5, 3\)"),
        (torch.zeros(3, 4, 5), r"a path, a PIL image or RGB uint8 \(H, W, 3\), got tensor"),
        ("nowhere.jpg", r"nowhere\.jpg: cannot be read as a picture"),
        (__file__, r"test_predictor_input\.py: cannot be read as a picture"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(predictor, image, message):
    with pytest.raises(ValueError, match=message):
        predictor(image)


@pytest.mark.parametrize("threshold", ["0.5", float("nan"), 2, [0.5]])
def test_a_threshold_that_is_no_number_in_0_to_1_is_refused(predictor, threshold):
    with pytest.raises(ValueError, match=r"threshold is .*, but must be a number in \[0, 1\]"):
        predictor(PIXELS, threshold=threshold)


def test_drawing_refuses_a_threshold_as_text(predictor):
    with pytest.raises(ValueError, match=r"threshold is 'high', but must be a number in \[0, 1\]"):
        predictor(PIXELS).draw(threshold="high")


def test_a_predictor_says_what_it_is(predictor):
    assert repr(predictor) == (
        "Predictor(Mask2Former on cpu; answers semantic, instance, panoptic; 9 classes; weights '')"
    )


def test_a_model_without_weights_says_so(caplog):
    Predictor(MODELS["mask2former_resnet"]())
    said = [record.message for record in caplog.records if "MODEL.WEIGHTS is empty" in record.message]
    assert said == ["MODEL.WEIGHTS is empty: this Mask2Former has learned nothing, and what it answers is random"]


def test_a_model_with_the_weights_of_a_backbone_alone_says_so(predictor, tmp_path, caplog):
    state = predictor.model.state_dict()
    path = str(tmp_path / "backbone.pth")
    torch.save({name: value for name, value in state.items() if name.startswith("backbone.")}, path)
    cfg = MODELS["mask2former_resnet"]()
    cfg.MODEL.WEIGHTS = path
    Predictor(cfg)
    rule = "the rest of this Mask2Former has learned nothing, and what it answers is random"
    assert f"MODEL.WEIGHTS {path} holds a backbone alone: {rule}" in caplog.messages


def test_save_writes_what_draw_shows(predictor, tmp_path):
    result = predictor(PIXELS)
    result.save(tmp_path / "a.png", "semantic")
    with Image.open(tmp_path / "a.png") as saved:
        assert np.array_equal(np.asarray(saved), result.draw("semantic"))


def test_save_refuses_a_suffix_that_is_of_no_picture(predictor, tmp_path):
    with pytest.raises(ValueError, match=r"a\.doc: the suffix must name a kind of picture"):
        predictor(PIXELS).save(tmp_path / "a.doc")


def test_a_pil_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="an image must have pixels, got <PIL.Image.Image image mode=RGB size=0x5"):
        as_array(Image.new("RGB", (0, 5)), "RGB")


@pytest.mark.parametrize("model", [None, 3, ["a.yaml"]])
def test_what_is_no_model_is_refused_in_a_sentence(model):
    with pytest.raises(ValueError, match="a model is a configuration, a path or a published name, got"):
        Predictor(model)


def test_save_refuses_a_kind_of_picture_that_can_only_be_read(predictor, tmp_path):
    with pytest.raises(ValueError, match=r"a\.psd: the suffix must name a kind of picture"):
        predictor(PIXELS).save(tmp_path / "a.psd")


def test_drawing_refuses_an_opacity_as_text(predictor):
    with pytest.raises(ValueError, match=r"alpha is '0.5', but must lie in \[0, 1\]"):
        predictor(PIXELS).draw(alpha="0.5")
