"""load_config: three kinds of file, overrides in two languages, and what bad input gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mask2former_ext.config import load_config
from mask2former_ext.interop.config_keys import get_key, leaves
from mask2former_ext.safe_reading.yaml_files import evaluate_comprehension, read_yaml
from tests.configs import UPSTREAM, defaults
from tests.places import EMBEDDED, SHARED

PARITY = sorted((SHARED / "fixtures" / "parity").glob("*/config.yaml"))


# ----------------------------------------------------------------------------------------------------------- reading


def test_our_yaml_changes_the_keys_that_it_names_and_no_others(write_yaml):
    cfg = load_config(write_yaml("MODEL: {MASK2FORMER: {NUM_QUERIES: 30}}"))
    changed = {key for key, value in leaves(cfg) if value != get_key(defaults(), key)}
    assert changed == {"MODEL.MASK2FORMER.NUM_QUERIES"}


def test_of_several_bases_the_later_wins_and_the_file_over_all(write_yaml):
    write_yaml("SOLVER: {MAX_ITER: 1, IMS_PER_BATCH: 1, BASE_LR: 1.0}", "first.yaml")
    write_yaml("SOLVER: {MAX_ITER: 2, IMS_PER_BATCH: 2}", "second.yaml")
    solver = load_config(write_yaml("_BASE_: [first.yaml, second.yaml]\nSOLVER: {MAX_ITER: 3}")).SOLVER
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH, solver.BASE_LR) == (3, 2, 1.0)


def test_a_base_is_looked_for_beside_the_file_that_names_it(write_yaml, tmp_path):
    (tmp_path / "deep").mkdir()
    write_yaml("_BASE_: ../base.yaml", "deep/middle.yaml")
    write_yaml("SEED: 5", "base.yaml")
    assert load_config(write_yaml("_BASE_: deep/middle.yaml")).SEED == 5


def test_bases_in_a_circle_are_named(write_yaml):
    write_yaml("_BASE_: b.yaml", "a.yaml")
    with pytest.raises(ValueError, match=r"comes back to this file.*b\.yaml.*a\.yaml.*b\.yaml"):
        load_config(write_yaml("_BASE_: a.yaml", "b.yaml"))


def test_a_missing_base_is_named_with_the_file_that_wants_it(write_yaml):
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml: no such config file \(a _BASE_ of .*config\.yaml"):
        load_config(write_yaml("_BASE_: gone.yaml"))


def test_whole_numbers_stand_for_floats(write_yaml):
    cfg = load_config(write_yaml("MODEL: {MASK_CLASSIFIER: {DICE_WEIGHT: 5}}"))
    assert cfg.MODEL.MASK_CLASSIFIER.DICE_WEIGHT == 5.0


def test_a_dump_of_our_own_configuration_reads_back_the_same(write_yaml):
    cfg = defaults()
    cfg.DATASETS.CUSTOM = [{"NAME": "mine", "IMAGES": "images"}]
    assert yaml.safe_load(load_config(write_yaml(cfg.dump())).dump()) == yaml.safe_load(cfg.dump())


@pytest.mark.skipif(EMBEDDED, reason="the embedded Detectron2 reads the newest version alone")
def test_old_versions_are_upgraded_by_detectron2(write_yaml):
    # Version 1 called MODEL.WEIGHTS so: MODEL.WEIGHT.
    assert load_config(write_yaml("VERSION: 1\nMODEL: {WEIGHT: old.pkl}")).MODEL.WEIGHTS == "old.pkl"


# ------------------------------------------------------------------------------------------------------------ safety


@pytest.mark.parametrize("size", [512, 640, 1024])
def test_published_list_expressions_are_worked_out(size):
    expected = [int(x * 0.1 * size) for x in range(5, 21)]
    assert evaluate_comprehension(f"[int(x * 0.1 * {size}) for x in range(5, 21)]") == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "[__import__('os') for x in range(3)]",
        "[x for x in open('f')]",
        "[y for x in range(3)]",
        "[x ** 9 for x in range(3)]",
        "[x for x in range(3) if x]",
        "[x.real for x in range(3)]",
        "[[x, open('f')] for x in range(3)]",
        "[x for x in ['f']]",
        "[x for x in range(10 ** 9)]",
        "[x for",
        "5",
    ],
)
def test_any_other_expression_is_refused(text):
    with pytest.raises(ValueError, match="nothing else is run"):
        evaluate_comprehension(text)


def test_the_anchors_of_a_published_file_are_worked_out():
    expected = [[x, x * 2 ** (1 / 3)] for x in (32, 64)]
    assert evaluate_comprehension("[[x, x * 2**(1.0/3)] for x in [32, 64]]") == expected


@pytest.mark.parametrize(
    "text",
    ["[1 // x for x in range(3)]", "[x for x in range(1.5)]", "[x for x in range(1, 2, 0)]"],
)
def test_arithmetic_that_fails_is_an_error_of_the_value(text):
    with pytest.raises(ValueError, match="zero|float"):
        evaluate_comprehension(text)


def test_endless_lists_are_refused():
    with pytest.raises(ValueError, match="100000000 values; at most 10000"):
        evaluate_comprehension("[x for x in range(100000000)]")


@pytest.mark.parametrize("tag", ["python/object/apply:os.system", "python/name:os.system", "python/object/new:os.stat"])
def test_python_tags_are_refused_and_the_file_named(write_yaml, tag):
    with pytest.raises(ValueError, match=r"config\.yaml: could not determine a constructor"):
        load_config(write_yaml(f'SEED: !!{tag} ["true"]'))


def test_the_published_tag_is_read(write_yaml):
    line = 'MIN_SIZE_TRAIN: !!python/object/apply:eval ["[int(x * 0.5 * 100) for x in range(1, 4)]"]'
    assert read_yaml(write_yaml(line)) == {"MIN_SIZE_TRAIN": [50, 100, 150]}


def test_the_tuple_tag_is_read(write_yaml):
    assert read_yaml(write_yaml("STEPS: !!python/tuple [1, 2]")) == {"STEPS": (1, 2)}


def test_a_lazy_configuration_is_refused_and_says_why(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("raise SystemExit('executed')")
    with pytest.raises(ValueError, match=r"config\.py: lazy configurations are not read"):
        load_config(str(path))


def test_yaml_is_read_without_torch_or_a_model():
    unwanted = {"mask2former_ext.models", *(["torch"] if EMBEDDED else [])}  # the real Detectron2 itself imports torch
    code = f"import sys, mask2former_ext.safe_reading.yaml_files\nassert not {unwanted} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_unknown_key_is_named_with_its_file_and_the_nearest_known_one(write_yaml):
    nearest = "the nearest known one is MODEL.MASK2FORMER.NUM_QUERIES"
    with pytest.raises(ValueError, match=rf"config\.yaml: unknown key MODEL.MASK2FORMER.NUM_QUERY; {nearest}"):
        load_config(write_yaml("MODEL: {MASK2FORMER: {NUM_QUERY: 3}}"))


def test_an_upstream_key_in_our_language_is_told_its_name_here(write_yaml):
    path = write_yaml("MODEL: {META_ARCHITECTURE: Mask2Former}")
    with pytest.raises(ValueError, match="here it is called MODEL.MASK2FORMER.NUM_QUERIES"):
        load_config(path, ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "3"])


def test_a_key_that_only_upstreams_mask2former_reads_is_told_its_name_here(write_yaml):
    # Detectron2 knows MODEL.SEM_SEG_HEAD.NUM_CLASSES, so that it would be set and ignored.
    path = write_yaml("MODEL: {META_ARCHITECTURE: Mask2Former}")
    with pytest.raises(ValueError, match="does not read it: here it is called MODEL.MASK_CLASSIFIER.NUM_CLASSES"):
        load_config(path, ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3"])


@pytest.mark.parametrize(
    ("architecture", "key", "ours"),
    [
        ("MaskFormer", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "MODEL.MASKFORMER.PIXEL_DECODER.CONV_DIM"),
        ("PerPixelBaseline", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", "MODEL.PER_PIXEL.LOSS_WEIGHT"),
    ],
)
def test_a_key_that_only_the_published_model_reads_is_told_its_name_here(write_yaml, architecture, key, ours):
    path = write_yaml(f"MODEL: {{META_ARCHITECTURE: {architecture}}}")
    with pytest.raises(ValueError, match=f"{architecture} does not read it: here it is called {ours}"):
        load_config(path, [key, "3"])


def test_an_upstream_key_is_told_its_name_in_the_architecture_of_the_file(write_yaml):
    path = write_yaml("MODEL: {META_ARCHITECTURE: MaskFormer}")
    with pytest.raises(ValueError, match="here it is called MODEL.MASKFORMER.NUM_QUERIES"):
        load_config(path, ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "3"])


def test_an_unknown_override_is_named_in_the_language_of_the_file(write_yaml):
    with pytest.raises(ValueError, match=r"overrides of .*MASK_FORMER.DEC_LAYER; .* MODEL.MASK_FORMER.DEC_LAYERS"):
        load_config(write_yaml(UPSTREAM), ["MODEL.MASK_FORMER.DEC_LAYER", "3"])


def test_a_value_of_the_wrong_type_is_named_with_its_file(write_yaml):
    with pytest.raises(ValueError, match=r"config\.yaml: .*SOLVER.MAX_ITER"):
        load_config(write_yaml("SOLVER: {MAX_ITER: many}"))


def test_a_section_cannot_be_set_to_a_value(write_yaml):
    with pytest.raises(ValueError, match="SOLVER is a section of keys"):
        load_config(write_yaml("SOLVER: 3"))


def test_an_override_without_a_value_is_refused(write_yaml):
    with pytest.raises(ValueError, match="KEY VALUE pairs, but 1 words"):
        load_config(write_yaml(""), ["SEED"])


# ------------------------------------------------------------------------------------------------------- full dumps


@pytest.mark.parity
@pytest.mark.skipif(not PARITY, reason="the recorded models are not beside the checkout")
@pytest.mark.parametrize(
    ("case", "architecture"),
    [
        ("mask2former_r50_coco_panoptic", "Mask2Former"),
        ("maskformer_r50_ade_semantic", "MaskFormer"),
        ("oneformer_swin_ade", "OneFormer"),
        ("perpixel_r50_ade", "PerPixelBaseline"),
        ("d2_mask_rcnn_r50_fpn", "MaskRCNN"),
        ("d2_panoptic_fpn_r50", "PanopticFeaturePyramid"),
    ],
)
def test_full_dumps_load_and_name_their_architecture(case, architecture):
    cfg = load_config(str(PARITY[0].parents[1] / case / "config.yaml"))
    assert cfg.MODEL.META_ARCHITECTURE == architecture


@pytest.mark.parity
@pytest.mark.skipif(not PARITY, reason="the recorded models are not beside the checkout")
def test_a_full_dump_says_what_its_model_was():
    cfg = load_config(str(PARITY[0].parents[1] / "mask2former_r50_coco_panoptic" / "config.yaml"))
    node = cfg.MODEL.MASK2FORMER
    assert (node.DECODER_LAYERS, node.NUM_QUERIES, node.HIDDEN_DIM, node.FEEDFORWARD_DIM) == (4, 30, 32, 64)
    assert (node.PIXEL_DECODER.ENCODER_LAYERS, node.PIXEL_DECODER.ENCODER_HEADS, node.NUM_HEADS) == (2, 4, 4)


def test_paths_may_be_path_objects(tmp_path):
    (tmp_path / "c.yaml").write_text("SEED: 2", encoding="utf-8")
    assert load_config(Path(tmp_path / "c.yaml")).SEED == 2
