"""tools/draw_truth.py: the pictures of docs/, of a made scene."""

from __future__ import annotations

import runpy

import pytest
from PIL import Image

from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes
from tests.places import ROOT

main = runpy.run_path(str(ROOT / "tools" / "draw_truth.py"))["main"]


@pytest.fixture
def options(tmp_path) -> list[str]:
    make_shapes(str(tmp_path), Recipe(train=1, val=1, height=48, width=64))
    (tmp_path / "out").mkdir()
    paths = {"images": "val/images", "json": "panoptic_val.json", "masks": "val/panoptic", "output": "out"}
    return [word for name, path in paths.items() for word in (f"--{name}", str(tmp_path / path))]


def test_draw_truth_writes_pictures_of_the_photographs_size(options, tmp_path):
    (photo,) = (tmp_path / "val" / "images").iterdir()
    main([*options, "--image", photo.name])
    sizes = {path.stem: Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes.pop("before_and_after") == (128, 48)
    assert sizes == dict.fromkeys(("semantic", "instance", "panoptic"), (64, 48))


def test_draw_truth_names_an_image_that_is_not_there(options):
    with pytest.raises(ValueError, match="panoptic_val.json names no image 'no.png'"):
        main([*options, "--image", "no.png"])
