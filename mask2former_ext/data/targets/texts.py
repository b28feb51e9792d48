"""What OneFormer's queries are compared with in training: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def object_texts(task: str, classes: Iterable[int], class_names: Sequence[str], length: int) -> list[str]:
    """What OneFormer's queries are compared with in training (arXiv 2211.06220, section 3.1): `length` strings.

    "a photo with a CLASS" for each entry of `classes`, in class order, filled up with "a semantic photo" (or what the
    task is). What exceeds `length` is cut off. A name is taken as it is, with its commas and spaces.
    """
    named = [f"a photo with a {class_names[k]}" for k in sorted(classes)]
    filler = f"{'an' if task == 'instance' else 'a'} {task} photo"
    return (named + [filler] * length)[:length]
