"""CfgNode: fvcore's, plus reading of files of older configuration versions. yaml is always read safely."""

from __future__ import annotations

import ast
import io
import logging
import operator
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import yaml
from detectron2.utils.file_io import PathManager
from fvcore.common.config import CfgNode as _CfgNode

_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.USub: operator.neg,
    ast.Pow: lambda base, exponent: base**exponent if abs(exponent) < 64 else _refuse("this large a power"),
}
_FUNCTIONS: dict[str, Callable] = {
    "int": int,
    "float": float,
    "round": round,
    "range": lambda *bounds: _bounded(range(*bounds)),
}


def _refuse(what: str) -> Any:
    known = "numbers, + - * / // **, int, float, round, range and [.. for ..]"
    raise ValueError(f"the expression contains {what}; it may contain {known}")


def _bounded(numbers: range) -> range:
    return numbers if len(numbers) <= 10_000 else _refuse(f"a range of {len(numbers)} numbers")


def _arithmetic(node: ast.expr, names: dict[str, Any]) -> Any:
    """Value of an expression of numbers, lists, tuples, arithmetic and one-loop list comprehensions."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.List(elts=items):
            return [_arithmetic(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_arithmetic(item, names) for item in items)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_arithmetic(operand, names))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            operands = _arithmetic(left, names), _arithmetic(right, names)
            if not all(isinstance(operand, (int, float)) for operand in operands):
                _refuse("arithmetic on something else than numbers")
            return _OPERATORS[type(op)](*operands)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_arithmetic(argument, names) for argument in arguments))
        case ast.ListComp(
            elt=element, generators=[ast.comprehension(target=ast.Name(id=name), iter=source, ifs=[], is_async=0)]
        ):
            return [_arithmetic(element, {**names, name: value}) for value in _arithmetic(source, names)]
    return _refuse(f"`{ast.unparse(node)}`")


class _Loader(yaml.SafeLoader):
    """yaml without code. Published files use two Python tags; what these mean is worked out without Python's eval."""


def _tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> tuple:
    return tuple(loader.construct_sequence(node, deep=True))


def _expression(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> Any:
    (text,) = loader.construct_sequence(node)
    try:
        return _arithmetic(ast.parse(text, mode="eval").body, {})
    except (SyntaxError, ValueError, TypeError) as error:
        raise yaml.constructor.ConstructorError(None, None, f"{text!r}: {error}", node.start_mark) from error


_Loader.add_constructor("!tuple", _tuple)
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)
_Loader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _expression)


class CfgNode(_CfgNode):
    """Configuration tree with attribute access; see yacs, and fvcore for `_BASE_` (one file, or a list of files)."""

    @classmethod
    def _open_cfg(cls, filename: str) -> io.StringIO:
        """The file as plain yaml: what fvcore reads next holds no tags any more."""
        with PathManager.open(filename, "r") as file:
            text = file.read()
        if "!!python/" in text:
            text = yaml.safe_dump(yaml.load(text, Loader=_Loader), sort_keys=False)
        return io.StringIO(text)

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """The file over its bases. `allow_unsafe` exists for the sake of callers: no file is ever read unsafely."""
        if allow_unsafe:
            logging.getLogger(__name__).debug("%s is read safely although allow_unsafe=True", filename)
        return super().load_yaml_with_base(filename, allow_unsafe=False)

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = True) -> None:
        """Merge a yaml file. One of an older version (its VERSION, or guessed by its keys) is translated."""
        from detectron2.config.compat import downgrade_config, guess_version, upgrade_config

        if not PathManager.isfile(cfg_filename):
            raise FileNotFoundError(f"config file {cfg_filename!r} does not exist")
        loaded = type(self)(self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe))
        latest = default_config().VERSION
        assert latest == self.VERSION, f"a file can be merged into a config of version {latest}, not {self.VERSION}"
        version = loaded.get("VERSION")
        if version is None:
            version = guess_version(loaded, cfg_filename)
        if version > latest:
            raise ValueError(f"{cfg_filename}: VERSION is {version}; the newest known is {latest}")
        if version == latest:
            self.merge_from_other_cfg(loaded)
            return
        logging.getLogger(__name__).warning("%s has version %s; translated to %s", cfg_filename, version, latest)
        old = downgrade_config(self, to_version=version)
        old.merge_from_other_cfg(loaded)
        new = upgrade_config(old)
        self.clear()
        self.update(new)


@cache
def default_config() -> CfgNode:
    """All keys with their defaults; shared, so clone it."""
    text = resources.files("detectron2.config").joinpath("defaults.yaml").read_text(encoding="utf-8")
    return CfgNode(yaml.load(text, Loader=_Loader))


def get_cfg() -> CfgNode:
    """A fresh config with all of Detectron2's keys at their defaults."""
    return default_config().clone()
