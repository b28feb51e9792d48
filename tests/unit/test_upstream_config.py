"""load_config translates the files of the published repositories, key by key."""

from __future__ import annotations

import pytest
from detectron2.config import get_cfg

from mask2former_ext.config import load_config
from mask2former_ext.interop.config_keys import get_key, leaves
from mask2former_ext.interop.upstream_config import upstream_keys
from mask2former_ext.interop.upstream_tables import TABLES
from tests.configs import UPSTREAM, defaults


def test_decoder_layers_are_counted_truly(write_yaml):
    assert load_config(write_yaml(UPSTREAM)).MODEL.MASK2FORMER.DECODER_LAYERS == 9


MASKFORMER = """
MODEL:
  META_ARCHITECTURE: MaskFormer
  SEM_SEG_HEAD: {NAME: MaskFormerHead, NUM_CLASSES: 7, TRANSFORMER_ENC_LAYERS: 6}
  MASK_FORMER: {DEC_LAYERS: 5, NUM_OBJECT_QUERIES: 30}
"""


def test_a_file_that_names_no_decoder_is_maskformers(write_yaml):
    cfg = load_config(write_yaml(MASKFORMER))
    node = cfg.MODEL.MASKFORMER
    assert (cfg.MODEL.META_ARCHITECTURE, node.DECODER_LAYERS, node.NUM_QUERIES) == ("MaskFormer", 5, 30)
    assert (cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES, cfg.MODEL.MASK_CLASSIFIER.MASK_WEIGHT) == (7, 20.0)


@pytest.mark.parametrize(("name", "expected"), [("BasePixelDecoder", False), ("TransformerEncoderPixelDecoder", True)])
def test_the_pixel_decoders_name_says_whether_it_has_an_encoder(write_yaml, name, expected):
    # COCO's Swin files keep the number of layers of the file that they build on, and name the decoder without them.
    decoder = load_config(write_yaml(MASKFORMER), ["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", name]).MODEL.MASKFORMER
    assert decoder.PIXEL_DECODER.ENCODER == expected


def test_the_head_of_a_semantic_segmentor_names_the_per_pixel_models(write_yaml):
    overrides = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.SEM_SEG_HEAD.NAME"]
    cfg = load_config(write_yaml(MASKFORMER), [*overrides, "PerPixelBaselineHead"])
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES) == ("PerPixelBaseline", 7)


def test_the_published_baseline_plus_has_as_many_classes_as_queries(write_yaml):
    cfg = load_config(write_yaml(MASKFORMER), ["MODEL.SEM_SEG_HEAD.NAME", "PerPixelBaselinePlusHead"])
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.MASK_CLASSIFIER.NUM_CLASSES) == ("PerPixelBaselinePlus", 30)


def test_a_pixel_decoder_that_the_per_pixel_models_lack_is_named(write_yaml):
    names = ["MODEL.SEM_SEG_HEAD.NAME", "PerPixelBaselineHead"]
    names += ["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "MSDeformAttnPixelDecoder"]
    with pytest.raises(ValueError, match="PIXEL_DECODER_NAME is 'MSDeformAttnPixelDecoder'; known here: Base"):
        load_config(write_yaml(MASKFORMER), names)


def test_constants_of_upstreams_code_are_set(write_yaml):
    # Upstream's pixel decoder is 1024 wide and samples 4 points, whatever the file says of the other decoder's width.
    decoder = load_config(write_yaml(UPSTREAM)).MODEL.MASK2FORMER.PIXEL_DECODER
    assert (decoder.ENCODER_FEEDFORWARD_DIM, decoder.ENCODER_POINTS) == (1024, 4)


def test_what_an_upstream_file_leaves_out_has_upstreams_default(write_yaml):
    cfg = load_config(write_yaml(UPSTREAM))
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
def test_mapper_names_say_targets_and_augmentation(write_yaml, mapper, expected):
    node = load_config(write_yaml(UPSTREAM), ["INPUT.DATASET_MAPPER_NAME", mapper]).INPUT
    assert (node.TARGETS, node.AUGMENTATION) == expected


@pytest.mark.parametrize(("theirs", "padded"), [("512", 512), ("-1", 0)])
def test_size_divisibility_of_the_input_is_the_padded_side(write_yaml, theirs, padded):
    assert load_config(write_yaml(UPSTREAM), ["INPUT.SIZE_DIVISIBILITY", theirs]).INPUT.PAD_SIZE == padded


@pytest.mark.parametrize("mapper", ["mask_former_semantic", "detr_panoptic"])
def test_mappers_that_always_flip_flip_whatever_the_key_says(write_yaml, mapper):
    overrides = ["INPUT.RANDOM_FLIP", "none", "INPUT.DATASET_MAPPER_NAME", mapper]
    assert load_config(write_yaml(UPSTREAM), overrides).INPUT.RANDOM_FLIP == "horizontal"


def test_the_mapper_that_reads_neither_color_nor_padding_has_none(write_yaml):
    overrides = ["INPUT.DATASET_MAPPER_NAME", "detr_panoptic", "INPUT.COLOR_AUG_SSD", "True"]
    node = load_config(write_yaml(UPSTREAM), overrides).INPUT
    assert (node.COLOR_AUG_SSD, node.PAD_SIZE) == (False, 0)


@pytest.mark.parametrize("key", ["INPUT.COLOR_AUG_SSD", "INPUT.CROP.ENABLED"])
def test_the_mapper_of_large_scale_jitter_reads_neither_color_nor_crop(write_yaml, key):
    cfg = load_config(write_yaml(UPSTREAM), ["INPUT.DATASET_MAPPER_NAME", "coco_instance_lsj", key, "True"])
    assert not get_key(cfg, key)


@pytest.mark.parametrize("name", ["D2DiNAT", "D2ConvNeXt"])
def test_a_published_backbone_that_is_not_here_is_named(write_yaml, name):
    with pytest.raises(ValueError, match=rf"config\.yaml: MODEL.BACKBONE.NAME is '{name}', a backbone that this"):
        load_config(write_yaml(ONEFORMER), ["MODEL.BACKBONE.NAME", name])


def test_keys_of_detectron2s_optimizer_do_not_reach_a_mask_classifier(write_yaml):
    overrides = ["SOLVER.BIAS_LR_FACTOR", "2.0", "SOLVER.WEIGHT_DECAY_BIAS", "0.3"]
    solver = load_config(write_yaml(UPSTREAM), overrides).SOLVER
    assert (solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS) == (1.0, None)


def test_a_published_swin_is_trained_whole(write_yaml):
    # Upstream's Swin does not know FREEZE_AT, whose default would freeze the first stage of ours.
    overrides = ["MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.BACKBONE.FREEZE_AT", "2"]
    cfg = load_config(write_yaml(UPSTREAM), overrides)
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0


def test_overrides_may_be_in_either_language(write_yaml):
    overrides = ["MODEL.MASK_FORMER.DEC_LAYERS", "4", "MODEL.MASK2FORMER.NUM_POINTS", "100", "SEED", "1"]
    cfg = load_config(write_yaml(UPSTREAM), overrides)
    assert (cfg.MODEL.MASK2FORMER.DECODER_LAYERS, cfg.MODEL.MASK2FORMER.NUM_POINTS, cfg.SEED) == (3, 100, 1)


def test_overrides_decide_the_architecture_too(write_yaml):
    names = ["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "TransformerEncoderPixelDecoder"]
    names += ["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "StandardTransformerDecoder"]
    assert load_config(write_yaml(UPSTREAM), names).MODEL.META_ARCHITECTURE == "MaskFormer"


def test_decoders_that_no_architecture_joins_are_refused(write_yaml):
    with pytest.raises(ValueError, match="no architecture has BasePixelDecoder with MultiScaleMasked"):
        load_config(write_yaml(UPSTREAM), ["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "BasePixelDecoder"])


def test_a_decoder_for_videos_is_refused_by_its_key(write_yaml):
    message = r"VideoMultiScaleMaskedTransformerDecoder \(.*TRANSFORMER_DECODER_NAME\); known are"
    with pytest.raises(ValueError, match=message):
        decoder = "VideoMultiScaleMaskedTransformerDecoder"
        load_config(write_yaml(UPSTREAM), ["MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", decoder])


def test_a_value_that_upstreams_decoder_cannot_run_is_refused(write_yaml):
    with pytest.raises(ValueError, match="TRANSFORMER_IN_FEATURE is 'res5'; Mask2Former needs"):
        load_config(write_yaml(UPSTREAM), ["MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "res5"])


def test_the_stem_type_counts_for_the_deeplab_backbone_alone(write_yaml):
    stem = ["MODEL.RESNETS.STEM_TYPE", "basic"]
    plain = load_config(write_yaml(UPSTREAM), stem)
    deeplab = load_config(write_yaml(UPSTREAM), [*stem, "MODEL.BACKBONE.NAME", "build_resnet_deeplab_backbone"])
    assert plain.MODEL.RESNETS.STEM_TYPE == defaults().MODEL.RESNETS.STEM_TYPE
    assert deeplab.MODEL.RESNETS.STEM_TYPE == "basic"


def test_detectron2s_own_models_keep_their_optimizer(write_yaml):
    assert load_config(write_yaml("MODEL: {META_ARCHITECTURE: GeneralizedRCNN}")).SOLVER.OPTIMIZER == "SGD"


@pytest.mark.parametrize(("crops", "expected"), [("True", "crop_resize"), ("False", "resize_crop")])
def test_detectron2s_own_models_crop_before_they_resize(write_yaml, crops, expected):
    cfg = load_config(write_yaml("MODEL: {META_ARCHITECTURE: GeneralizedRCNN}"), ["INPUT.CROP.ENABLED", crops])
    assert (cfg.INPUT.AUGMENTATION, str(cfg.INPUT.CROP.ENABLED)) == (expected, crops)


every_table = pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)


@every_table
def test_every_upstream_key_is_honored_or_known_to_be_unused_and_not_both(table):
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
def test_thresholds_of_tasks_become_probabilities(write_yaml, thresholds, probabilities):
    semantic, instance = thresholds
    overrides = ["INPUT.TASK_PROB.SEMANTIC", semantic, "INPUT.TASK_PROB.INSTANCE", instance]
    node = load_config(write_yaml(ONEFORMER), overrides).INPUT.TASK_PROBABILITIES
    assert (node.SEMANTIC, node.INSTANCE, node.PANOPTIC) == pytest.approx(probabilities)


def test_a_threshold_of_tasks_beyond_1_is_named(write_yaml):
    with pytest.raises(ValueError, match=r"TASK_PROB holds thresholds in \[0, 1\], got SEMANTIC 33.0, INSTANCE 0.66"):
        load_config(write_yaml(ONEFORMER), ["INPUT.TASK_PROB.SEMANTIC", 33])


def test_the_panoptic_set_of_an_oneformer_is_the_one_to_test_on(write_yaml):
    assert list(load_config(write_yaml(ONEFORMER)).DATASETS.TEST) == ["pictures_panoptic"]
    assert list(load_config(write_yaml(ONEFORMER), ["DATASETS.TEST", ("mine",)]).DATASETS.TEST) == ["mine"]


def test_an_oneformer_that_is_not_to_train_has_no_text_part(write_yaml):
    node = load_config(write_yaml(ONEFORMER)).MODEL.ONEFORMER
    assert not node.TEXT_ENCODER.ENABLED
    assert (node.QUERY_DROPOUT, node.PIXEL_DECODER.ENCODER_DROPOUT) == (0.2, 0.2)


def test_an_oneformer_without_norm_of_the_task_is_refused(write_yaml):
    with pytest.raises(ValueError, match="USE_TASK_NORM is False; OneFormer needs True"):
        load_config(write_yaml(ONEFORMER), ["MODEL.ONE_FORMER.USE_TASK_NORM", False])
