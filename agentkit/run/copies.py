"""Values that belong to a run and are never copied or pickled."""

from __future__ import annotations

from typing import Any

__all__ = ["RunBound"]


class RunBound:
    """Base of values that belong to a run and its event loop. A deep copy or a pickle has None in their place."""

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()


def _nothing() -> None:
    return None
