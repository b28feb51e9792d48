"""`@configurable`: one constructor that takes either plain arguments or a config."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from fvcore.common.config import CfgNode as _CfgNode


def _is_config(value: Any) -> bool:
    omegaconf = sys.modules.get("omegaconf")  # nobody can hold one of its objects without having imported it
    return isinstance(value, _CfgNode) or (omegaconf is not None and isinstance(value, omegaconf.DictConfig))


def _given_config(args: tuple, kwargs: dict[str, Any]) -> bool:
    return _is_config(args[0] if args else kwargs.get("cfg"))


def _arguments_from_config(from_config: Callable, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What `from_config` returns; keyword arguments that it does not know go past it and win."""
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        name = getattr(from_config, "__qualname__", repr(from_config))
        raise TypeError(f"{name} must take 'cfg' as its first argument")
    open_ended = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())
    known = {key: value for key, value in kwargs.items() if open_ended or key in parameters}
    arguments = from_config(*args, **known)
    return {**arguments, **{key: value for key, value in kwargs.items() if key not in known}}


def _bound_from_config(instance: Any) -> Callable:
    kind = type(instance)
    if not hasattr(kind, "from_config"):
        raise AttributeError(f"{kind.__name__} has a @configurable __init__ and needs a classmethod 'from_config'")
    if not inspect.ismethod(kind.from_config):
        raise TypeError(f"{kind.__name__}.from_config must be a classmethod")
    return kind.from_config


def configurable(init_func: Callable | None = None, *, from_config: Callable | None = None) -> Callable:
    """Let an `__init__`, or with `from_config=` a function, be called with a config instead of its arguments.

    Called with a config (first positional, or `cfg=`), it passes all arguments to `from_config`, and what that returns,
    overruled by the keyword arguments that `from_config` does not take, is what the decorated one gets.
    For an `__init__`, `from_config` is the classmethod of that name.
    """
    if init_func is not None:
        if not inspect.isfunction(init_func) or init_func.__name__ != "__init__" or from_config is not None:
            raise TypeError("@configurable without from_config=... decorates an __init__ only")

        @functools.wraps(init_func)
        def wrapped_init(self: Any, *args: Any, **kwargs: Any) -> None:
            build_arguments = _bound_from_config(self)
            if _given_config(args, kwargs):
                init_func(self, **_arguments_from_config(build_arguments, args, kwargs))
            else:
                init_func(self, *args, **kwargs)

        return wrapped_init

    if not inspect.isfunction(from_config) and not inspect.ismethod(from_config):
        raise TypeError("@configurable(from_config=...) needs a function")

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if _given_config(args, kwargs):
                return function(**_arguments_from_config(from_config, args, kwargs))
            return function(*args, **kwargs)

        wrapped.from_config = from_config  # type: ignore[attr-defined]
        return wrapped

    return decorate
