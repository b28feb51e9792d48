"""The classes of a data set or of a model: names, which are things, ids in files, colors, and how they are numbered.

A table arises where a data set is registered or where a checkpoint is read. All other code takes it as it is: nothing
rebuilds a map of classes. This module imports nothing of the house, so that every room may import it.

Letters: K classes, T things, S kinds of stuff. A *number* is what a model and a record call a class; a *dataset id* is
what the data set's json files call it; a *label* is the number of a pixel's class. There are two numberings:

"together"  Each class has one number, its place in the table, 0..K-1.
"apart"     Things have the numbers 0..T-1, and labels count the classes that are no things. Label 0 is `ANY_THING`;
            the kinds of stuff follow, 1..S (Mask R-CNN and Panoptic FPN, arXiv 1901.02446, section 3; Detectron2's
            data sets named *_separated).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

TOGETHER, APART = "together", "apart"
ANY_THING = 0  # the label of all things' pixels, where things and stuff are numbered apart
_ANY_THING_NAME = "things"

Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """K classes, a row each. A method takes `is_thing` for classes numbered apart: whether a number is that of a thing.

    Raises ValueError, naming key, value and rule, for a table that cannot be right.
    """

    names: tuple[str, ...]
    is_thing: tuple[bool, ...] = ()  # (): unknown which classes are things
    dataset_ids: tuple[int | None, ...] = ()  # None, or (): no json file names the class; label files hold its number
    colors: tuple[Color | None, ...] = ()  # RGB in 0..255; None, or (): not known
    numbering: str = TOGETHER
    ignore_label: int = 255  # what label files hold where a pixel has no class

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.names)

    # ---------------------------------------------------------------------------------------------------- numbers

    @cached_property
    def _row_of_thing(self) -> dict[int, int]:
        rows = [row for row, is_thing in enumerate(self.is_thing) if is_thing]
        return {row: row for row in rows} if self.numbering == TOGETHER else dict(enumerate(rows))

    @cached_property
    def _row_of_label(self) -> dict[int, int]:
        together = self.numbering == TOGETHER
        return dict(enumerate(row for row in range(len(self)) if together or not self.is_thing[row]))

    def _row(self, number: int, is_thing: bool) -> int | None:
        apart_thing = is_thing and self.numbering == APART
        return (self._row_of_thing if apart_thing else self._row_of_label).get(number)

    @property
    def things(self) -> list[int]:
        """The numbers of the things, ascending; empty where they are not known."""
        return list(self._row_of_thing)

    @property
    def thing_names(self) -> dict[int, str]:
        """Number -> name of each thing, ascending."""
        return {number: self.names[row] for number, row in self._row_of_thing.items()}

    @property
    def label_names(self) -> list[str]:
        """The name of each label, in order: of all K classes, or of any thing and the kinds of stuff (may be empty)."""
        return [self.names[row] for row in self._row_of_label.values()]

    @property
    def known_names(self) -> list[str]:
        """All names, the things' first, each once."""
        return list(dict.fromkeys([*self.thing_names.values(), *self.names]))

    def name(self, number: int, is_thing: bool = False) -> str:
        """The name of a class; "class NUMBER" where the table has no such class."""
        row = self._row(number, is_thing)
        return numbered_name(number) if row is None else self.names[row]

    def color(self, number: int, is_thing: bool = False) -> Color | None:
        """The data set's own RGB color of a class; None where it is not known."""
        row = self._row(number, is_thing)
        return self.colors[row] if self.colors and row is not None else None

    def color_key(self, number: int, is_thing: bool = False) -> int:
        """A number of the class that no other class has, also where things and stuff are numbered apart."""
        return number if is_thing or self.numbering == TOGETHER else number + len(self.things)

    # ------------------------------------------------------------------------------------------------ dataset ids

    def dataset_id(self, number: int, is_thing: bool = False) -> int | None:
        """The id of a class in json files; None where they have none for it, or the table has no such class."""
        row = self._row(number, is_thing)
        return self.dataset_ids[row] if self.dataset_ids and row is not None else None

    @cached_property
    def id_of_thing(self) -> dict[int, int]:
        """Number -> dataset id of each thing that has one; where none has one, numbers are ids."""
        return self._ids(self.things, is_thing=True)

    @cached_property
    def id_of_stuff(self) -> dict[int, int]:
        """Label -> dataset id of each class of stuff that has one; where none has one, labels are ids."""
        taken = self.things if self.numbering == TOGETHER else [ANY_THING]
        return self._ids([k for k in self._row_of_label if k not in taken], is_thing=False)

    @cached_property
    def id_of_label(self) -> dict[int, int]:
        """Label -> what files write for it: its dataset id, else itself."""
        return {k: k if (known := self.dataset_id(k)) is None else known for k in self._row_of_label}

    @cached_property
    def thing_of_id(self) -> dict[int, int]:
        """The inverse of `id_of_thing`."""
        return {i: k for k, i in self.id_of_thing.items()}

    @cached_property
    def number_of_id(self) -> dict[int, int]:
        """Dataset id -> what records hold: of a thing its number, of a class of stuff its label."""
        return {**{i: k for k, i in self.id_of_stuff.items()}, **self.thing_of_id}

    @cached_property
    def label_of_id(self) -> dict[int, int]:
        """Dataset id -> label of the pixels, of things and stuff."""
        things = self.thing_of_id if self.numbering == TOGETHER else dict.fromkeys(self.thing_of_id, ANY_THING)
        return {**self.number_of_id, **things}

    def _ids(self, numbers: Sequence[int], is_thing: bool) -> dict[int, int]:
        ids = {k: self.dataset_id(k, is_thing) for k in numbers}
        return {k: i for k, i in ids.items() if i is not None} or {k: k for k in numbers}

    # ------------------------------------------------------------------------------------------- other forms of it

    def apart(self) -> ClassTable:
        """The same classes numbered apart: things, any thing, stuff; each kind in its order here.

        A table that is numbered apart is given back as it is.
        """
        if self.numbering == APART:
            return self
        things = self.things
        stuff = [row for row in range(len(self)) if row not in self._row_of_thing]
        rows: list[int | None] = [*things, *([None, *stuff] if stuff else [])]
        return ClassTable(
            names=tuple(_ANY_THING_NAME if row is None else self.names[row] for row in rows),
            is_thing=tuple(place < len(things) for place in range(len(rows))),
            dataset_ids=tuple(None if row is None else self.dataset_id(row) for row in rows),
            colors=tuple((0, 0, 0) if row is None else self.colors[row] for row in rows) if self.colors else (),
            numbering=APART,
            ignore_label=self.ignore_label,
        )

    def numbers_apart(self) -> tuple[dict[int, int], dict[int, int]]:
        """(number of each thing here -> in `apart()`; label of each class here -> in `apart()`)."""
        if self.numbering == APART:
            return {k: k for k in self.things}, {k: k for k in self._row_of_label}
        things = {k: number for number, k in enumerate(self.things)}
        stuff = [k for k in range(len(self)) if k not in things]
        return things, {**dict.fromkeys(things, ANY_THING), **{k: label for label, k in enumerate(stuff, start=1)}}

    def only_things(self) -> ClassTable:
        """The things alone, numbered 0..T-1."""
        rows = list(self._row_of_thing.values())
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            is_thing=(True,) * len(rows),
            dataset_ids=tuple(self.dataset_ids[row] for row in rows) if self.dataset_ids else (),
            colors=tuple(self.colors[row] for row in rows) if self.colors else (),
            numbering=TOGETHER,
        )

    def to_dict(self) -> dict[str, Any]:
        """Lists, strings and numbers alone, for json, yaml and checkpoints: `from_dict` gives the table back."""
        return {
            "names": list(self.names),
            "is_thing": list(self.is_thing),
            "dataset_ids": list(self.dataset_ids),
            "colors": [None if color is None else list(color) for color in self.colors],
            "numbering": self.numbering,
            "ignore_label": self.ignore_label,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ClassTable:
        """The table that `to_dict` described. Raises ValueError naming key, value and rule."""
        if not isinstance(content, Mapping):
            raise ValueError(f"classes are {content!r}, but must be a mapping with the key names")
        known = [field.name for field in fields(cls)]
        for key in content:
            if key not in known:
                raise ValueError(f"classes: the key {key!r} is not known; known are {', '.join(known)}")
        if "names" not in content:
            raise ValueError("classes: the key names is missing, which every table has")
        lists = ("names", "is_thing", "dataset_ids", "colors")
        for key in lists:
            if not isinstance(content.get(key, ()), list | tuple):
                raise ValueError(f"classes: {key} is {content[key]!r}, but must be a list")
        values: dict[str, Any] = {key: tuple(content[key]) if key in lists else content[key] for key in content}
        values["colors"] = tuple(tuple(c) if isinstance(c, list) else c for c in values.get("colors", ()))
        return cls(**values)


def numbered_name(number: int) -> str:
    """What a class is called where no table names it."""
    return f"class {number}"


def name_of(classes: ClassTable | None, number: int, is_thing: bool = False) -> str:
    """`ClassTable.name`, also where there is no table: then numbers are shown."""
    return numbered_name(number) if classes is None else classes.name(number, is_thing)


def _check(table: ClassTable) -> None:
    def require(is_right: bool, key: str, value: Any, rule: str) -> None:
        if not is_right:
            raise ValueError(f"classes: {key} is {value!r}, but {rule}")

    count = len(table.names)
    require(count > 0, "names", table.names, "must hold one name at least")
    for name in table.names:
        require(isinstance(name, str) and bool(name), "a name", name, "must be a string that is not empty")
    for key in ("is_thing", "dataset_ids", "colors"):
        values = getattr(table, key)
        require(len(values) in (0, count), f"the length of {key}", len(values), f"must be 0 or that of names, {count}")
    for value in table.is_thing:
        require(isinstance(value, bool), "a value of is_thing", value, "must be true or false")
    for one in table.dataset_ids:
        require(one is None or _is_int(one), "a dataset id", one, "must be a whole number or null")
    for color in table.colors:
        is_color = isinstance(color, tuple) and len(color) == 3 and all(_is_int(c) and 0 <= c <= 255 for c in color)
        require(color is None or is_color, "a color", color, "must be three whole numbers in 0..255: red, green, blue")
    require(table.numbering in (TOGETHER, APART), "numbering", table.numbering, f"must be {TOGETHER!r} or {APART!r}")
    require(_is_int(table.ignore_label), "ignore_label", table.ignore_label, "must be a whole number")
    apart_is_known = table.numbering == TOGETHER or len(table.is_thing) == count
    require(apart_is_known, "is_thing", table.is_thing, f"must say of each class, as numbering is {APART!r}")
    kinds = table.is_thing or (False,) * count
    counts = Counter((i, kind) for i, kind in zip(table.dataset_ids, kinds, strict=False) if i is not None)
    for (dataset_id, _), times in counts.items():
        require(times == 1, "a dataset id", dataset_id, f"stands at {times} classes of one kind; it must stand at one")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# ------------------------------------------------------------------------------------------ the door to Detectron2

METADATA_KEY = "class_table"  # where Detectron2's Metadata of our data sets carries the table that it was filled from


def from_metadata(metadata: Any, *, unnumbered: str = "both") -> ClassTable | None:
    """The table of a data set from Detectron2's Metadata (or whatever has its `get`); None where that names no class.

    This is the only place that reads class names and class numbers out of Metadata. Of our own data sets it gives the
    table that Metadata was filled from. Of all others it reads, by the first of these rules that applies:

    1. Only `thing_classes`: all classes are things; their place is their number.
    2. Only `stuff_classes`: the same, and which of them are things is not known.
    3. Both, with `thing_dataset_id_to_contiguous_id`: where a thing and a class of stuff, by the two id maps, have the
       same number, things and stuff are numbered apart, and label 0 is any thing. Else `stuff_classes` names all
       classes, and the map's numbers are those of the things.
    4. Both, without that map: two lists that count on their own. `unnumbered` says what to take of them: "things";
       "stuff", where those that `thing_classes` names too are things; "both" numbers them apart, with
       stuff_classes[0] as label 0 whatever its name (this is how Detectron2's Visualizer reads them).

    Raises ValueError, naming the data set, for a number that has no name.
    """
    if metadata is None:
        return None
    table = metadata.get(METADATA_KEY)
    if table is not None:
        return table
    things, stuff = list(metadata.get("thing_classes") or []), list(metadata.get("stuff_classes") or [])
    thing_ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if things and stuff and thing_ids is None:
        if unnumbered == "both":
            return _numbered_apart(metadata, things, stuff)
        things, stuff = (things, []) if unnumbered == "things" else (things, stuff)
    if things and stuff and _share_a_number(metadata):
        return _numbered_apart(metadata, things, stuff)
    return _numbered_together(metadata, things, stuff) if things or stuff else None


def to_metadata(table: ClassTable, *, things_alone: bool = True, with_labels: bool | None = None) -> dict[str, Any]:
    """What Detectron2's Metadata say of the classes, for `MetadataCatalog.get(name).set(**...)`, and the table itself.

    As published: `thing_*` hold the things (or, with `things_alone` False, all classes of one numbering), `stuff_*` the
    classes by label, of which things are a part where all are numbered together. `with_labels`: whether `stuff_*` are
    there; None: unless all classes are things. Where things are not known there are no `thing_*`. The id map of stuff
    is there where all labels have ids, that of things holds those that have one.
    """
    content: dict[str, Any] = {METADATA_KEY: table}
    if with_labels is None:
        with_labels = not (table.is_thing and all(table.is_thing))
    labels = list(range(len(table.label_names))) if with_labels else []
    for kind, numbers in (("thing", table.things), ("stuff", labels)):
        is_thing = kind == "thing"
        if not numbers:
            continue
        named = numbers if things_alone or table.numbering == APART else range(len(table))
        content[f"{kind}_classes"] = [table.name(k, is_thing) for k in named]
        if table.colors and None not in table.colors:
            content[f"{kind}_colors"] = [list(table.color(k, is_thing) or ()) for k in named]
        ids = {k: table.dataset_id(k, is_thing) for k in numbers}
        if table.numbering == APART and not is_thing:
            ids[ANY_THING] = ANY_THING
        known = {i: k for k, i in ids.items() if i is not None}
        if known and (is_thing or len(known) == len(numbers)):
            content[f"{kind}_dataset_id_to_contiguous_id"] = known
    if labels:
        content["ignore_label"] = table.ignore_label
    return content


def _numbered_apart(metadata: Any, things: list[str], stuff: list[str]) -> ClassTable:
    name = metadata.get("name", "unnamed")
    stuff_ids = {i: k for i, k in _ids_of(metadata, "stuff").items() if k != ANY_THING}
    ids_of_things = _ids_by_number(_ids_of(metadata, "thing"), len(things), name)
    return ClassTable(
        names=(*things, *stuff),
        is_thing=(True,) * len(things) + (False,) * len(stuff),
        dataset_ids=(*ids_of_things, *_ids_by_number(stuff_ids, len(stuff), name)),
        colors=_colors(metadata, ("thing", len(things)), ("stuff", len(stuff))),
        numbering=APART,
        ignore_label=_ignore_label(metadata),
    )


def _numbered_together(metadata: Any, things: list[str], stuff: list[str]) -> ClassTable:
    kind, names = ("stuff", stuff) if stuff else ("thing", things)
    thing_ids = metadata.get("thing_dataset_id_to_contiguous_id")
    ids = {**_ids_of(metadata, "stuff"), **_ids_of(metadata, "thing")} if stuff else _ids_of(metadata, "thing")
    is_thing: tuple[bool, ...] = ()
    if not stuff:
        is_thing = (True,) * len(names)
    elif thing_ids is not None:
        numbers = set(thing_ids.values())
        is_thing = tuple(k in numbers for k in range(len(names)))
    elif things:
        is_thing = tuple(one in things for one in names)
    return ClassTable(
        names=tuple(names),
        is_thing=is_thing,
        dataset_ids=_ids_by_number(ids, len(names), metadata.get("name", "unnamed")),
        colors=_colors(metadata, (kind, len(names))),
        ignore_label=_ignore_label(metadata),
    )


def _ids_of(metadata: Any, kind: str) -> dict[int, int]:
    """Dataset id -> number, of "thing" or "stuff"; empty where the metadata have no such map."""
    return dict(metadata.get(f"{kind}_dataset_id_to_contiguous_id") or {})


def _ignore_label(metadata: Any) -> int:
    known = metadata.get("ignore_label")
    return ClassTable.ignore_label if known is None else int(known)


def _share_a_number(metadata: Any) -> bool:
    """Whether a thing and a class of stuff, two categories of the json, have the same number."""
    things, stuff = _ids_of(metadata, "thing"), _ids_of(metadata, "stuff")
    return bool({k for i, k in stuff.items() if i not in things} & set(things.values()))


def _ids_by_number(numbers: Mapping[int, int], count: int, name: str) -> tuple[int | None, ...]:
    """The dataset id of each of the numbers 0..count-1."""
    beyond = [k for k in numbers.values() if not 0 <= k < count]
    if beyond:
        raise ValueError(f"data set {name!r}: its metadata number a class {beyond[0]}, but name {count} classes alone")
    id_of = {k: int(i) for i, k in numbers.items()}
    return tuple(id_of.get(k) for k in range(count))


def _colors(metadata: Any, *parts: tuple[str, int]) -> tuple[Color | None, ...]:
    """The colors of the lists in `parts`, (kind, length) each, in their order, None where a list is not there."""
    colors: list[Color | None] = []
    for kind, count in parts:
        known = metadata.get(f"{kind}_colors") or []
        if len(known) == count:
            colors += [(int(red), int(green), int(blue)) for red, green, blue in known]
        else:
            colors += [None] * count
    return tuple(colors) if any(colors) else ()
