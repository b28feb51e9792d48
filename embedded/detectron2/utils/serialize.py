"""Objects that plain pickle refuses."""

from __future__ import annotations

from typing import Any

import cloudpickle


class PicklableWrapper:
    """A callable (a lambda, a local function) that pickles, by cloudpickle, and otherwise acts as it would bare."""

    def __init__(self, obj: Any) -> None:
        self._obj: Any = obj._obj if isinstance(obj, PicklableWrapper) else obj

    def __reduce__(self) -> tuple:
        return _restored, (cloudpickle.dumps(self._obj),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "_obj":  # asked for before __init__ has run
            raise AttributeError(name)
        return getattr(self._obj, name)


def _restored(pickled: bytes) -> PicklableWrapper:
    return PicklableWrapper(cloudpickle.loads(pickled))
