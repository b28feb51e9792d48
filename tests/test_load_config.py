"""load_config: three kinds of file, overrides in two languages, and what bad input gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import SHARED
from detectron2.config import get_cfg

from mask2former_ext.config import add_config, load_config
from mask2former_ext.interop.config_keys import get_key, leaves
from mask2former_ext.interop.safe_yaml import evaluate_comprehension, read_yaml
from mask2former_ext.interop.upstream_config import upstream_keys
from mask2former_ext.interop.upstream_tables import TABLES

UPSTREAM = """
MODEL:
  META_ARCHITECTURE: MaskFormer
  SEM_SEG_HEAD: {NAME: MaskFormerHead, PIXEL_DECODER_NAME: MSDeformAttnPixelDecoder, NUM_CLASSES: 7, CONVS_DIM: 64}
  MASK_FORMER:
    TRANSFORMER_DECODER_NAME: MultiScaleMaskedTransformerDecoder
    TRANSFORMER_IN_FEATURE: multi_scale_pixel_decoder
    DEC_LAYERS: 10
    DIM_FEEDFORWARD: 512
    DICE_WEIGHT: 5
INPUT: {DATASET_MAPPER_NAME: mask_former_semantic, SIZE_DIVISIBILITY: 512}
"""
PARITY = sorted((SHARED / "fixtures" / "parity").glob("*/config.yaml"))


@pytest.fixture
def write(tmp_path):
    def write_file(text: str, name: str = "config.yaml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write_file


def defaults():
    cfg = get_cfg()
    add_config(cfg)
    return cfg


# ----------------------------------------------------------------------------------------------------------- reading


def test_our_yaml_changes_the_keys_that_it_names_and_no_others(write):
    cfg = load_config(write("MODEL: {MASK2FORMER: {NUM_QUERIES: 30}}"))
    changed = {key for key, value in leaves(cfg) if value != get_key(defaults(), key)}
    assert changed == {"MODEL.MASK2FORMER.NUM_QUERIES"}


def test_of_several_bases_the_later_wins_and_the_file_over_all(write):
    write("SOLVER: {MAX_ITER: 1, IMS_PER_BATCH: 1, BASE_LR: 1.0}", "first.yaml")
    write("SOLVER: {MAX_ITER: 2, IMS_PER_BATCH: 2}", "second.yaml")
    solver = load_config(write("_BASE_: [first.yaml, second.yaml]\nSOLVER: {MAX_ITER: 3}")).SOLVER
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH, solver.BASE_LR) == (3, 2, 1.0)


def test_a_base_is_looked_for_beside_the_file_that_names_it(write, tmp_path):
    (tmp_path / "deep").mkdir()
    write("_BASE_: ../base.yaml", "deep/middle.yaml")
    write("SEED: 5", "base.yaml")
    assert load_config(write("_BASE_: deep/middle.yaml")).SEED == 5


def test_bases_in_a_circle_are_named(write):
    write("_BASE_: b.yaml", "a.yaml")
    with pytest.raises(ValueError, match=r"comes back to this file.*b\.yaml.*a\.yaml.*b\.yaml"):
        load_config(write("_BASE_: a.yaml", "b.yaml"))


def test_a_missing_base_is_named_with_the_file_that_wants_it(write):
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml: no such config file \(a _BASE_ of .*config\.yaml"):
        load_config(write("_BASE_: gone.yaml"))


def test_whole_numbers_stand_for_floats(write):
    assert load_config(write("MODEL: {MASK_CLASSIFIER: {DICE_WEIGHT: 5}}")).MODEL.MASK_CLASSIFIER.DICE_WEIGHT == 5.0


def test_a_dump_of_our_own_configuration_reads_back_the_same(write):
    cfg = defaults()
    cfg.DATASETS.CUSTOM = [{"NAME": "mine", "IMAGES": "images"}]
    assert yaml.safe_load(load_config(write(cfg.dump())).dump()) == yaml.safe_load(cfg.dump())


def test_old_versions_are_upgraded_by_detectron2(write):
    # Version 1 called MODEL.WEIGHTS so: MODEL.WEIGHT.
    assert load_config(write("VERSION: 1\nMODEL: {WEIGHT: old.pkl}")).MODEL.WEIGHTS == "old.pkl"


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
def test_python_tags_are_refused_and_the_file_named(write, tag):
    with pytest.raises(ValueError, match=r"config\.yaml: could not determine a constructor"):
        load_config(write(f'SEED: !!{tag} ["true"]'))


def test_the_published_tag_is_read(write):
    line = 'MIN_SIZE_TRAIN: !!python/object/apply:eval ["[int(x * 0.5 * 100) for x in range(1, 4)]"]'
    assert read_yaml(write(line)) == {"MIN_SIZE_TRAIN": [50, 100, 150]}


# ------------------------------------------------------------------------------------------------------------ errors


def test_an_unknown_key_is_named_with_its_file_and_the_nearest_known_one(write):
    nearest = "the nearest known one is MODEL.MASK2FORMER.NUM_QUERIES"
    with pytest.raises(ValueError, match=rf"config\.yaml: unknown key MODEL.MASK2FORMER.NUM_QUERY; {nearest}"):
        load_config(write("MODEL: {MASK2FORMER: {NUM_QUERY: 3}}"))


def test_an_upstream_key_in_our_language_is_told_its_name_here(write):
    path = write("MODEL: {META_ARCHITECTURE: Mask2Former}")
    with pytest.raises(ValueError, match="here it is called MODEL.MASK2FORMER.NUM_QUERIES"):
        load_config(path, ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "3"])


def test_a_key_that_only_upstreams_mask2former_reads_is_told_its_name_here(write):
    # Detectron2 knows MODEL.SEM_SEG_HEAD.NUM_CLASSES, so that it would be set and ignored.
    path = write("MODEL: {META_ARCHITECTURE: Mask2Former}")
    with pytest.raises(ValueError, match="does not read it: here it is called MODEL.MASK_CLASSIFIER.NUM_CLASSES"):
        load_config(path, ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3"])


@pytest.mark.parametrize(
    ("architecture", "key", "ours"),
    [
        ("MaskFormer", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "MODEL.MASKFORMER.PIXEL_DECODER.CONV_DIM"),
        ("PerPixelBaseline", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", "MODEL.PER_PIXEL.LOSS_WEIGHT"),
    ],
)
def test_a_key_that_only_the_published_model_reads_is_told_its_name_here(write, architecture, key, ours):
    path = write(f"MODEL: {{META_ARCHITECTURE: {architecture}}}")
    with pytest.raises(ValueError, match=f"{architecture} does not read it: here it is called {ours}"):
        load_config(path, [key, "3"])


def test_an_upstream_key_is_told_its_name_in_the_architecture_of_the_file(write):
    path = write("MODEL: {META_ARCHITECTURE: MaskFormer}")
    with pytest.raises(ValueError, match="here it is called MODEL.MASKFORMER.NUM_QUERIES"):
        load_config(path, ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "3"])


def test_an_unknown_override_is_named_in_the_language_of_the_file(write):
    with pytest.raises(ValueError, match=r"overrides of .*MASK_FORMER.DEC_LAYER; .* MODEL.MASK_FORMER.DEC_LAYERS"):
        load_config(write(UPSTREAM), ["MODEL.MASK_FORMER.DEC_LAYER", "3"])


def test_a_value_of_the_wrong_type_is_named_with_its_file(write):
    with pytest.raises(ValueError, match=r"config\.yaml: .*SOLVER.MAX_ITER"):
        load_config(write("SOLVER: {MAX_ITER: many}"))


def test_a_section_cannot_be_set_to_a_value(write):
    with pytest.raises(ValueError, match="SOLVER is a section of keys"):
        load_config(write("SOLVER: 3"))


def test_an_override_without_a_value_is_refused(write):
    with pytest.raises(ValueError, match="KEY VALUE pairs, but 1 words"):
        load_config(write(""), ["SEED"])


# ------------------------------------------------------------------------------------------------------- translation


def test_decoder_layers_are_counted_truly(write):
    assert load_config(write(UPSTREAM)).MODEL.MASK2FORMER.DECODER_LAYERS == 9


MASKFORMER = """
MODEL:
  META_ARCHITECTURE: MaskFormer
  SEM_SEG_HEAD: {NAME: MaskFormerHead, NUM_CLASSES: 7, TRANSFORMER_ENC_LAYERS: 6}
  MASK_FORMER: {DEC_LAYERS: 5, NUM_OBJECT_QUERIES: 30}
"""


def test_a_file_that_names_no_decoder_is_maskformers(write):
    cfg = load_config(write(MASKFORMER))
    node = cfg.MODEL.MASKFORMER
    assert (cfg.MODEL.META_ARCHITECTURE, node.DECODER_LAYERS, node.NUM_QUERIES) == ("MaskFormer", 5, 30)
    assert (cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES, cfg.MODEL.MASK_CLASSIFIER.MASK_WEIGHT) == (7, 20.0)


@pytest.mark.parametrize(("name", "expected"), [("BasePixelDecoder", False), ("TransformerEncoderPixelDecoder", True)])
def test_the_pixel_decoders_name_says_whether_it_has_an_encoder(write, name, expected):
    # COCO's Swin files keep the number of layers of the file that they build on, and name the decoder without them.
    decoder = load_config(write(MASKFORMER), ["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", name]).MODEL.MASKFORMER
    assert decoder.PIXEL_DECODER.ENCODER == expected


def test_the_head_of_a_semantic_segmentor_names_the_per_pixel_models(write):
    overrides = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.SEM_SEG_HEAD.NAME"]
    cfg = load_config(write(MASKFORMER), [*overrides, "PerPixelBaselineHead"])
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES) == ("PerPixelBaseline", 7)


def test_the_published_baseline_plus_has_as_many_classes_as_queries(write):
    cfg = load_config(write(MASKFORMER), ["MODEL.SEM_SEG_HEAD.NAME", "PerPixelBaselinePlusHead"])
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES) == ("PerPixelBaselinePlus", 30)


def test_a_pixel_decoder_that_the_per_pixel_models_lack_is_named(write):
    names = ["MODEL.SEM_SEG_HEAD.NAME", "PerPixelBaselineHead"]
    names += ["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "MSDeformAttnPixelDecoder"]
    with pytest.raises(ValueError, match="PIXEL_DECODER_NAME is 'MSDeformAttnPixelDecoder'; known here: Base"):
        load_config(write(MASKFORMER), names)


def test_constants_of_upstreams_code_are_set(write):
    # Upstream's pixel decoder is 1024 wide and samples 4 points, whatever the file says of the other decoder's width.
    decoder = load_config(write(UPSTREAM)).MODEL.MASK2FORMER.PIXEL_DECODER
    assert (decoder.ENCODER_FEEDFORWARD_DIM, decoder.ENCODER_POINTS) == (1024, 4)


def test_what_an_upstream_file_leaves_out_has_upstreams_default(write):
    cfg = load_config(write(UPSTREAM))
    # MASK_WEIGHT 20, BACKBONE_MULTIPLIER 0.1, TRANSFORMER_ENC_LAYERS 0: all unlike ours.
    values = cfg.MODEL.MASK_CLASSIFIER.MASK_WEIGHT, cfg.SOLVER.BACKBONE_MULTIPLIER
    assert (*values, cfg.MODEL.MASK2FORMER.PIXEL_DECODER.ENCODER_LAYERS) == (20.0, 0.1, 0)


@pytest.mark.parametrize(
    ("mapper", "expected"),
    [
        ("mask_former_semantic", ("semantic", "resize_crop")),
        ("mask_former_instance", ("instance", "resize_crop")),
        ("mask_former_panoptic", ("panoptic", "resize_crop")),
        ("coco_instance_lsj", ("instance", "large_scale_jitter")),
        ("coco_panoptic_lsj", ("panoptic", "large_scale_jitter")),
        ("detr_panoptic", ("panoptic", "detr")),
    ],
)
def test_mapper_names_say_targets_and_augmentation(write, mapper, expected):
    node = load_config(write(UPSTREAM), ["INPUT.DATASET_MAPPER_NAME", mapper]).INPUT
    assert (node.TARGETS, node.AUGMENTATION) == expected


@pytest.mark.parametrize(("theirs", "padded"), [("512", 512), ("-1", 0)])
def test_size_divisibility_of_the_input_is_the_padded_side(write, theirs, padded):
    assert load_config(write(UPSTREAM), ["INPUT.SIZE_DIVISIBILITY", theirs]).INPUT.PAD_SIZE == padded


@pytest.mark.parametrize("mapper", ["mask_former_semantic", "detr_panoptic"])
def test_mappers_that_always_flip_flip_whatever_the_key_says(write, mapper):
    overrides = ["INPUT.RANDOM_FLIP", "none", "INPUT.DATASET_MAPPER_NAME", mapper]
    assert load_config(write(UPSTREAM), overrides).INPUT.RANDOM_FLIP == "horizontal"


def test_the_mapper_that_reads_neither_colour_nor_padding_has_none(write):
    overrides = ["INPUT.DATASET_MAPPER_NAME", "detr_panoptic", "INPUT.COLOR_AUG_SSD", "True"]
    node = load_config(write(UPSTREAM), overrides).INPUT
    assert (node.COLOR_AUG_SSD, node.PAD_SIZE) == (False, 0)


@pytest.mark.parametrize("key", ["INPUT.COLOR_AUG_SSD", "INPUT.CROP.ENABLED"])
def test_the_mapper_of_large_scale_jitter_reads_neither_colour_nor_crop(write, key):
    cfg = load_config(write(UPSTREAM), ["INPUT.DATASET_MAPPER_NAME", "coco_instance_lsj", key, "True"])
    assert not get_key(cfg, key)


@pytest.mark.parametrize("name", ["D2DiNAT", "D2ConvNeXt"])
def test_a_published_backbone_that_is_not_here_is_named(write, name):
    with pytest.raises(ValueError, match=rf"config\.yaml: MODEL.BACKBONE.NAME is '{name}', a backbone that this"):
        load_config(write(ONEFORMER), ["MODEL.BACKBONE.NAME", name])


def test_what_only_detectron2s_optimizer_reads_does_not_reach_a_mask_classifier(write):
    solver = load_config(write(UPSTREAM), ["SOLVER.BIAS_LR_FACTOR", "2.0", "SOLVER.WEIGHT_DECAY_BIAS", "0.3"]).SOLVER
    assert (solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS) == (1.0, None)


def test_a_published_swin_is_trained_whole(write):
    # Upstream's Swin does not know FREEZE_AT, whose default would freeze the first stage of ours.
    cfg = load_config(write(UPSTREAM), ["MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.BACKBONE.FREEZE_AT", "2"])
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0


def test_overrides_may_be_in_either_language(write):
    overrides = ["MODEL.MASK_FORMER.DEC_LAYERS", "4", "MODEL.MASK2FORMER.NUM_POINTS", "100", "SEED", "1"]
    cfg = load_config(write(UPSTREAM), overrides)
    assert (cfg.MODEL.MASK2FORMER.DECODER_LAYERS, cfg.MODEL.MASK2FORMER.NUM_POINTS, cfg.SEED) == (3, 100, 1)


def test_overrides_decide_the_architecture_too(write):
    names = ["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "TransformerEncoderPixelDecoder"]
    names += ["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "StandardTransformerDecoder"]
    assert load_config(write(UPSTREAM), names).MODEL.META_ARCHITECTURE == "MaskFormer"


def test_decoders_that_no_architecture_joins_are_refused(write):
    with pytest.raises(ValueError, match="no architecture has BasePixelDecoder with MultiScaleMasked"):
        load_config(write(UPSTREAM), ["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "BasePixelDecoder"])


def test_a_decoder_for_videos_is_refused_by_its_key(write):
    said = r"VideoMultiScaleMaskedTransformerDecoder \(.*TRANSFORMER_DECODER_NAME\); known are"
    with pytest.raises(ValueError, match=said):
        decoder = "VideoMultiScaleMaskedTransformerDecoder"
        load_config(write(UPSTREAM), ["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", decoder])


def test_a_value_that_upstreams_decoder_cannot_run_is_refused(write):
    with pytest.raises(ValueError, match="TRANSFORMER_IN_FEATURE is 'res5'; Mask2Former needs"):
        load_config(write(UPSTREAM), ["MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "res5"])


def test_the_stem_type_counts_for_the_deeplab_backbone_alone(write):
    stem = ["MODEL.RESNETS.STEM_TYPE", "basic"]
    plain = load_config(write(UPSTREAM), stem)
    deeplab = load_config(write(UPSTREAM), [*stem, "MODEL.BACKBONE.NAME", "build_resnet_deeplab_backbone"])
    assert plain.MODEL.RESNETS.STEM_TYPE == defaults().MODEL.RESNETS.STEM_TYPE
    assert deeplab.MODEL.RESNETS.STEM_TYPE == "basic"


def test_detectron2s_own_models_keep_their_optimizer(write):
    assert load_config(write("MODEL: {META_ARCHITECTURE: GeneralizedRCNN}")).SOLVER.OPTIMIZER == "SGD"


@pytest.mark.parametrize(("crops", "expected"), [("True", "crop_resize"), ("False", "resize_crop")])
def test_detectron2s_own_models_crop_before_they_resize(write, crops, expected):
    cfg = load_config(write("MODEL: {META_ARCHITECTURE: GeneralizedRCNN}"), ["INPUT.CROP.ENABLED", crops])
    assert (cfg.INPUT.AUGMENTATION, str(cfg.INPUT.CROP.ENABLED)) == (expected, crops)


every_table = pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)


@every_table
def test_every_upstream_key_is_honoured_or_known_to_be_unused_and_not_both(table):
    ours = defaults()
    added = {key for key, _ in leaves(upstream_keys(table)) if get_key(get_cfg(), key, ...) is ...}
    head = {key for key, _ in leaves(upstream_keys(table)) if key.startswith("MODEL.SEM_SEG_HEAD.")}
    joint = {key for keys in table.joint for key in keys}
    kinds = [table.renamed.keys(), joint, table.required.keys(), table.decides, table.unused]
    for key in added | head:
        passes = key in added and get_key(ours, key, ...) is not ...
        assert sum(key in kind for kind in kinds) + passes == 1, key


@every_table
def test_every_translated_key_is_one_of_ours(table):
    targets = [target for rules in table.renamed.values() for target, _ in rules]
    assert [key for key in [*targets, *table.constants] if get_key(defaults(), key, ...) is ...] == []


@every_table
def test_every_key_of_the_table_is_upstreams(table):
    named = {
        *table.renamed,
        *(key for keys in table.joint for key in keys),
        *table.required,
        *table.decides,
        *table.unused,
    }
    assert [key for key in named if get_key(upstream_keys(table), key, ...) is ...] == []


ONEFORMER = """
MODEL:
  META_ARCHITECTURE: OneFormer
  SEM_SEG_HEAD: {NAME: OneFormerHead, PIXEL_DECODER_NAME: MSDeformAttnPixelDecoder}
  ONE_FORMER: {TRANSFORMER_IN_FEATURE: multi_scale_pixel_decoder, DROPOUT: 0.2}
  IS_TRAIN: False
DATASETS: {TEST_PANOPTIC: [pictures_panoptic], TEST_INSTANCE: [pictures_instance]}
"""


@pytest.mark.parametrize(
    ("thresholds", "probabilities"),
    [((0.33, 0.66), (0.33, 0.33, 0.34)), ((0.5, 0.5), (0.5, 0.0, 0.5)), ((0.6, 0.2), (0.6, 0.0, 0.4))],
)
def test_thresholds_of_tasks_become_probabilities(write, thresholds, probabilities):
    semantic, instance = thresholds
    overrides = ["INPUT.TASK_PROB.SEMANTIC", semantic, "INPUT.TASK_PROB.INSTANCE", instance]
    node = load_config(write(ONEFORMER), overrides).INPUT.TASK_PROBABILITIES
    assert (node.SEMANTIC, node.INSTANCE, node.PANOPTIC) == pytest.approx(probabilities)


def test_a_threshold_of_tasks_beyond_1_is_named(write):
    with pytest.raises(ValueError, match=r"TASK_PROB holds thresholds in \[0, 1\], got SEMANTIC 33.0, INSTANCE 0.66"):
        load_config(write(ONEFORMER), ["INPUT.TASK_PROB.SEMANTIC", 33])


def test_the_panoptic_set_of_an_oneformer_is_the_one_to_test_on(write):
    assert list(load_config(write(ONEFORMER)).DATASETS.TEST) == ["pictures_panoptic"]
    assert list(load_config(write(ONEFORMER), ["DATASETS.TEST", ("mine",)]).DATASETS.TEST) == ["mine"]


def test_an_oneformer_that_is_not_to_train_has_no_text_part(write):
    node = load_config(write(ONEFORMER)).MODEL.ONEFORMER
    assert not node.TEXT_ENCODER.ENABLED
    assert (node.QUERY_DROPOUT, node.PIXEL_DECODER.ENCODER_DROPOUT) == (0.2, 0.2)


def test_an_oneformer_without_norm_of_the_task_is_refused(write):
    with pytest.raises(ValueError, match="USE_TASK_NORM is False; OneFormer needs True"):
        load_config(write(ONEFORMER), ["MODEL.ONE_FORMER.USE_TASK_NORM", False])


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
