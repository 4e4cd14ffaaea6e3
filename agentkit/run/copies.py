"""Values that belong to a run and are never copied or pickled."""

from __future__ import annotations

import copy
import inspect
from typing import Any

__all__ = ["RunBound", "followed"]


class RunBound:
    """Base of values that belong to a run and its event loop. A deep copy or a pickle has None in their place."""

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()


def _nothing() -> None:
    return None


def followed(part: Any, memo: dict[int, Any], copied: bool) -> Any:
    """The part in a deep copy: a copy, or where it is not to be `copied` or cannot be, itself; a method with its object."""
    if type(part) in (tuple, list):
        return type(part)([followed(item, memo, copied) for item in part])
    if inspect.ismethod(part):
        return part.__func__.__get__(memo[id(part.__self__)]) if id(part.__self__) in memo else part
    if id(part) in memo or not copied or inspect.isroutine(part):
        return memo.get(id(part), part)
    try:
        return copy.deepcopy(part, memo)
    except Exception:  # noqa: BLE001  it holds a lock, a connection, a file
        return part
