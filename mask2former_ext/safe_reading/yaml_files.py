"""Read a yaml config with its `_BASE_` chain, without running anything that stands in it.

Published files compute lists by `!!python/object/apply:eval ["[int(x * 0.1 * 512) for x in range(5, 21)]"]`. Such a
list is worked out by a small arithmetic interpreter. Tuples are read, too; every other python tag or expression is
refused. Of the house this imports nothing; the embedded Detectron2 reads through `PublishedLoader` as well.
"""

from __future__ import annotations

import ast
import math
import operator
import os
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from detectron2.utils.file_io import PathManager

BASE_KEY = "_BASE_"
_EVAL_TAG = "tag:yaml.org,2002:python/object/apply:eval"
_TUPLE_TAG = "tag:yaml.org,2002:python/tuple"
_MAX_LIST_LENGTH = 10_000
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def _no_names(_: str) -> str | None:
    return None


def read_yaml(path: str, by_name: Callable[[str], str | None] = _no_names) -> dict[str, Any]:
    """The nested dict that `path` and its `_BASE_` files (one name or a list, relative to the naming file) amount to.

    A later base overrides an earlier one and the file itself overrides all. A base that is not there is asked for
    `by_name`, which gives the path of a file, or None for a name that is none.
    Raises ValueError for unsafe or malformed yaml, for a lazy configuration (a Python file) and for a file that is its
    own base, FileNotFoundError for a missing one.
    """
    if path.endswith(".py"):
        raise ValueError(
            f"{path}: lazy configurations are not read, since a Python file is a program and nothing in a configuration"
            " is executed. Use the model's yaml; only the real Detectron2's own lazyconfig_train_net.py runs this file"
        )
    return _read_with_bases(path, (), by_name)


def merge_trees(tree: dict[str, Any], changes: dict[str, Any], source: str) -> dict[str, Any]:
    """A new nested dict: `tree` with the leaves of `changes` put over it."""
    merged = dict(tree)
    for key, value in changes.items():
        old = merged.get(key)
        if key in merged and isinstance(old, dict) != isinstance(value, dict):
            kind = "a section" if isinstance(old, dict) else "a value"
            raise ValueError(f"{source}: {key} is {kind} in the file that it builds on, and cannot be set to {value!r}")
        merged[key] = merge_trees(old, value, source) if isinstance(old, dict) else value
    return merged


def _read_with_bases(path: str, seen: tuple[str, ...], by_name: Callable[[str], str | None]) -> dict[str, Any]:
    if path in seen:
        raise ValueError(f"{path}: the {BASE_KEY} chain comes back to this file: {' -> '.join((*seen, path))}")
    if not PathManager.isfile(path):
        raise FileNotFoundError(f"{path}: no such config file" + (f" (a {BASE_KEY} of {seen[-1]})" if seen else ""))
    tree = _parse(path)
    bases = tree.pop(BASE_KEY, [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        base_path = _resolve(base, path)
        if not PathManager.isfile(base_path):
            base_path = by_name(base) or base_path
        merged = merge_trees(merged, _read_with_bases(base_path, (*seen, path), by_name), base_path)
    return merge_trees(merged, tree, path)


def _resolve(base: str, path: str) -> str:
    base = os.path.expanduser(base)
    return base if os.path.isabs(base) or "://" in base else os.path.normpath(os.path.join(os.path.dirname(path), base))


def _parse(path: str) -> dict[str, Any]:
    with PathManager.open(path, "r") as file:
        try:
            tree = yaml.load(file, Loader=PublishedLoader)  # a subclass of SafeLoader
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: a config is a mapping of keys to values, not a {type(tree).__name__}")
    return tree


class PublishedLoader(yaml.SafeLoader):
    """SafeLoader, and the tuples and list comprehensions of published configs. All else is a YAMLError."""


def _construct_eval(loader: PublishedLoader, node: yaml.Node) -> list[Any]:
    arguments = loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
    try:
        if len(arguments) != 1 or not isinstance(arguments[0], str):
            raise ValueError(f"python eval tag with {arguments!r}: it must hold one list comprehension as a string")
        return evaluate_comprehension(arguments[0])
    except ValueError as error:
        raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


def _construct_tuple(loader: PublishedLoader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


PublishedLoader.add_constructor(_EVAL_TAG, _construct_eval)
PublishedLoader.add_constructor(_TUPLE_TAG, _construct_tuple)


def evaluate_comprehension(text: str) -> list[Any]:
    """The list that `[<arithmetic of x> for x in range(<integers>)]` denotes; anything else is a ValueError.

    The arithmetic knows numbers, the loop variable, + - * / //, a sign, powers whose exponent is no integer, and
    int(...). A list of numbers may stand for the range, and one of arithmetic for the arithmetic.
    """
    refusal = f"{text!r}: only '[<arithmetic of x> for x in range(<integers>)]' is worked out, nothing else is run"
    try:
        body = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(refusal) from error
    if not (isinstance(body, ast.ListComp) and len(body.generators) == 1):
        raise ValueError(refusal)
    loop = body.generators[0]
    if loop.ifs or loop.is_async or not isinstance(loop.target, ast.Name):
        raise ValueError(refusal)
    try:
        values = _range(loop.iter, refusal)
        if len(values) > _MAX_LIST_LENGTH:
            raise ValueError(f"{text!r}: a list of {len(values)} values; at most {_MAX_LIST_LENGTH} are worked out")
        return [_element(body.elt, {loop.target.id: value}, refusal) for value in values]
    except ArithmeticError as error:
        raise ValueError(f"{text!r}: {error}") from error


def _range(node: ast.expr, refusal: str) -> Sequence[int | float]:
    if isinstance(node, ast.List):
        return [_arithmetic(item, {}, refusal) for item in node.elts]
    arguments = _arguments_of(node, "range")
    if not 1 <= len(arguments) <= 3:
        raise ValueError(refusal)
    return range(*(_whole(_arithmetic(argument, {}, refusal)) for argument in arguments))


def _element(node: ast.expr, variables: dict[str, int | float], refusal: str) -> Any:
    if isinstance(node, ast.List):
        return [_arithmetic(item, variables, refusal) for item in node.elts]
    return _arithmetic(node, variables, refusal)


def _arithmetic(node: ast.expr, variables: dict[str, int | float], refusal: str) -> int | float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name) and node.id in variables:
        return variables[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_arithmetic(node.operand, variables, refusal)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = (_arithmetic(side, variables, refusal) for side in (node.left, node.right))
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, exponent = (_arithmetic(side, variables, refusal) for side in (node.left, node.right))
        if isinstance(exponent, float):  # of whole numbers a power can be endlessly long
            return math.pow(base, exponent)
    arguments = _arguments_of(node, "int")
    if len(arguments) == 1:
        return int(_arithmetic(arguments[0], variables, refusal))
    raise ValueError(refusal)


def _whole(value: int | float) -> int:
    if not isinstance(value, int):
        raise ValueError(f"range is of whole numbers, not of the float {value}")
    return value


def _arguments_of(node: ast.expr, function: str) -> list[ast.expr]:
    """The arguments of a call of `function` without keywords; none for any other node."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return node.args if node.func.id == function else []
    return []
