"""`classes.ClassTable`: numbers, names and ids by hand; its dict; what it reads from Detectron2's Metadata."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from detectron2.config import CfgNode

from mask2former_ext.classes import APART, ClassTable, from_metadata, name_of, to_metadata

# Together: grass 0, dog 1, sky 2, cat 3. Apart: dog 0, cat 1; any thing 0, grass 1, sky 2.
TABLE = ClassTable(
    names=("grass", "dog", "sky", "cat"),
    is_thing=(False, True, False, True),
    dataset_ids=(2, 4, 7, 9),
    colors=((0, 255, 0), (9, 9, 9), (0, 0, 255), (8, 8, 8)),
)


class Metadata(SimpleNamespace):
    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)


def test_classes_numbered_together_have_one_number():
    assert TABLE.thing_names == {1: "dog", 3: "cat"} and TABLE.label_names == ["grass", "dog", "sky", "cat"]
    assert TABLE.thing_of_id == {4: 1, 9: 3} and TABLE.id_of_stuff == {0: 2, 2: 7}
    assert TABLE.label_of_id == {2: 0, 4: 1, 7: 2, 9: 3}


def test_classes_numbered_apart_are_counted_by_their_kind():
    apart = TABLE.apart()
    assert apart.thing_names == {0: "dog", 1: "cat"} and apart.label_names == ["things", "grass", "sky"]
    assert apart.thing_of_id == {4: 0, 9: 1} and apart.id_of_stuff == {1: 2, 2: 7}
    assert apart.label_of_id == {2: 1, 7: 2, 4: 0, 9: 0} and apart.id_of_label == {0: 0, 1: 2, 2: 7}


def test_a_number_numbered_apart_names_a_thing_and_a_label():
    apart = TABLE.apart()
    assert apart.name(1, is_thing=True) == "cat" and apart.name(1) == "grass"
    assert apart.color(1, is_thing=True) == (8, 8, 8) and apart.color(1) == (0, 255, 0)
    assert apart.color_key(1, is_thing=True) == 1 and apart.color_key(1) == 3


def test_a_number_that_no_class_has_is_shown():
    assert TABLE.name(4) == "class 4" and TABLE.color(4) is None and TABLE.dataset_id(4) is None
    assert TABLE.apart().name(2, is_thing=True) == "class 2" and name_of(None, 7) == "class 7"


def test_classes_without_ids_are_their_own_ids_in_label_files():
    table = ClassTable(("grass", "dog"))
    assert table.label_of_id == {0: 0, 1: 1} and table.id_of_label == {0: 0, 1: 1}
    assert table.dataset_id(1) is None and table.things == []


def test_a_thing_without_an_id_is_left_out_beside_one_that_has_it():
    table = ClassTable(("dog", "cat"), (True, True), (None, 5))
    assert table.id_of_thing == {1: 5} and table.thing_names == {0: "dog", 1: "cat"}


def test_things_alone_make_no_labels_apart():
    apart = ClassTable(("dog", "cat"), (True, True)).apart()
    assert apart.thing_names == {0: "dog", 1: "cat"} and apart.label_names == []


def test_numbers_apart_maps_the_numbers_of_the_table_to_those_apart():
    assert TABLE.numbers_apart() == ({1: 0, 3: 1}, {0: 1, 1: 0, 2: 2, 3: 0})
    assert TABLE.apart().numbers_apart() == ({0: 0, 1: 1}, {0: 0, 1: 1, 2: 2})


def test_only_things_keeps_their_ids_and_colors():
    things = TABLE.only_things()
    assert things.names == ("dog", "cat") and things.dataset_ids == (4, 9) and things.colors == ((9, 9, 9), (8, 8, 8))


@pytest.mark.parametrize("table", [TABLE, TABLE.apart(), ClassTable(("a",)), ClassTable(("a",), ignore_label=65)])
def test_a_table_is_the_same_after_to_dict_json_and_from_dict(table: ClassTable):
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": []}, r"names is \(\), but must hold one name"),
        ({"names": "dog"}, "names is 'dog', but must be a list"),
        ({"names": ["dog", 3, "a", "b"]}, "a name is 3, but must be a string"),
        ({"is_thing": [True]}, "the length of is_thing is 1, but must be 0 or that of names, 4"),
        ({"is_thing": [0, 1, 0, 1]}, "a value of is_thing is 0, but must be true or false"),
        ({"dataset_ids": [1, "2", 3, 4]}, "a dataset id is '2', but must be a whole number or null"),
        ({"dataset_ids": [1, 2, 1, 4]}, "a dataset id is 1, but stands at 2 classes of one kind"),
        ({"colors": [[0, 0, 256]] * 4}, r"a color is \(0, 0, 256\), but must be three whole numbers in 0..255"),
        ({"numbering": "both"}, "numbering is 'both', but must be 'together' or 'apart'"),
        ({"numbering": APART, "is_thing": []}, "is_thing is .* must say of each class"),
        ({"ignore_label": None}, "ignore_label is None, but must be a whole number"),
        ({"palette": []}, "the key 'palette' is not known; known are names, is_thing"),
    ],
)
def test_from_dict_names_key_value_and_rule(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ClassTable.from_dict({**TABLE.to_dict(), **change})


def test_from_dict_wants_a_mapping_with_names():
    with pytest.raises(ValueError, match="classes are 3, but must be a mapping"):
        ClassTable.from_dict(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the key names is missing"):
        ClassTable.from_dict({})


def test_metadata_of_things_alone_name_things():
    table = from_metadata(Metadata(thing_classes=["dog", "cat"], thing_dataset_id_to_contiguous_id={4: 0, 9: 1}))
    assert table == ClassTable(("dog", "cat"), (True, True), (4, 9))


def test_metadata_of_stuff_alone_do_not_say_what_is_a_thing():
    table = from_metadata(Metadata(stuff_classes=["sky", "dog"], stuff_colors=[[1, 2, 3], [4, 5, 6]], ignore_label=65))
    assert table == ClassTable(("sky", "dog"), (), (None, None), ((1, 2, 3), (4, 5, 6)), ignore_label=65)


@pytest.mark.parametrize("thing_classes", [["dog", "cat"], ["grass", "dog", "sky", "cat"]])
@pytest.mark.parametrize("stuff_ids", [{2: 0, 7: 2}, {2: 0, 4: 1, 7: 2, 9: 3}])
def test_metadata_of_both_are_together_by_the_things_numbers(thing_classes: list, stuff_ids: dict):
    known = {"thing_dataset_id_to_contiguous_id": {4: 1, 9: 3}, "stuff_dataset_id_to_contiguous_id": stuff_ids}
    table = from_metadata(Metadata(thing_classes=thing_classes, stuff_classes=["grass", "dog", "sky", "cat"], **known))
    assert table == ClassTable(TABLE.names, TABLE.is_thing, TABLE.dataset_ids)


def test_metadata_of_both_that_share_a_number_are_apart():
    known = {"thing_dataset_id_to_contiguous_id": {4: 0, 9: 1}, "stuff_dataset_id_to_contiguous_id": {0: 0, 2: 1, 7: 2}}
    table = from_metadata(Metadata(thing_classes=["dog", "cat"], stuff_classes=["things", "grass", "sky"], **known))
    assert table is not None and table.numbering == APART
    assert (table.id_of_thing, table.id_of_stuff) == ({0: 4, 1: 9}, {1: 2, 2: 7})


def test_metadata_of_both_without_numbers_are_two_lists():
    metadata = Metadata(thing_classes=["dog"], stuff_classes=["sky", "dog"])
    both = from_metadata(metadata)
    assert both is not None and both.name(0, is_thing=True) == "dog" and both.name(0) == "sky"
    assert from_metadata(metadata, unnumbered="things") == ClassTable(("dog",), (True,), (None,))
    assert from_metadata(metadata, unnumbered="stuff") == ClassTable(("sky", "dog"), (False, True), (None, None))


def test_metadata_without_classes_have_no_table():
    assert from_metadata(Metadata()) is None and from_metadata(None) is None


def test_a_number_beyond_the_names_is_named():
    with pytest.raises(ValueError, match="data set 'pets': its metadata number a class 1, but name 1 classes alone"):
        from_metadata(Metadata(name="pets", thing_classes=["dog"], thing_dataset_id_to_contiguous_id={4: 1}))


def test_our_own_metadata_carry_their_table():
    assert from_metadata(Metadata(class_table=TABLE, thing_classes=["other"])) is TABLE


@pytest.mark.parametrize("table", [TABLE, TABLE.only_things(), ClassTable(("sky", "dog"), ignore_label=65)])
def test_metadata_that_a_table_filled_say_the_same(table: ClassTable):
    filled = {key: value for key, value in to_metadata(table).items() if key != "class_table"}
    read = from_metadata(Metadata(**filled))
    assert read is not None and {**read.to_dict(), "dataset_ids": []} == {**table.to_dict(), "dataset_ids": []}
    assert read.id_of_label == table.id_of_label


def test_metadata_of_a_table_apart_are_as_detectron2_lists_them():
    filled = to_metadata(TABLE.apart())
    assert filled["thing_classes"] == ["dog", "cat"] and filled["stuff_classes"] == ["things", "grass", "sky"]
    assert filled["stuff_dataset_id_to_contiguous_id"] == {0: 0, 2: 1, 7: 2}


def test_a_table_of_which_some_colors_are_known_comes_back_from_a_file():
    table = ClassTable(("sky", "dog"), colors=(None, (1, 2, 3)))
    cfg = CfgNode(table.to_dict(), new_allowed=True)
    assert ClassTable.from_dict(CfgNode.load_cfg(cfg.dump())) == table
    assert table.color(0) is None and "stuff_colors" not in to_metadata(table)


def test_colors_of_one_kind_in_the_metadata_are_read_without_the_other():
    metadata = Metadata(thing_classes=["dog"], stuff_classes=["things", "sky"], thing_colors=[[1, 2, 3]])
    table = from_metadata(metadata)
    assert table.colors == ((1, 2, 3), None, None)
