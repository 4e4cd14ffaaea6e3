"""What is not copied with what holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["OfRun", "RunFunction"]


class OfRun:
    """Belongs to a run, on its event loop. A deep copy or a pickle of what holds it has None in its place."""

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()


class RunFunction(OfRun):
    """A function that belongs to a run."""

    __slots__ = ("_fn",)

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        return self._fn(*args)


def _nothing() -> None:
    return None
