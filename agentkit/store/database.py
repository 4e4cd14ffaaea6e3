"""What the stores need of a database's driver."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from .._threads import Threads
from ..errors import SettingsError
from ..events import LastingEvent

__all__ = ["ENDED", "Cursor", "Database", "Driven", "Lazy", "check_seconds"]

ENDED = ("finished", "failed", "cancelled")
"""The statuses of a run that has ended."""


class Cursor(Protocol):
    """What both drivers' cursors have."""

    rowcount: int

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...


class Database(Protocol):
    """A connection inside a transaction. Parameters are `?`."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Run one statement."""
        ...


class Lazy:
    """A connection outside of a transaction. What writes with it begins one, or makes one statement, which is its own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection


class Driven(Protocol):
    """What a drive needs of its store. `SqlStore` documents it."""

    lease: float
    noted: set[str]

    def note_parts(self, parts: Mapping[str, Any]) -> None:
        """Store parts of agents."""
        ...

    def part(self, name: str, digest: str) -> Any:
        """A part of an agent by its digest."""
        ...

    def write(self, work: Callable[[Database | Lazy], bool], threads: Threads) -> bool | Awaitable[bool]:
        """Do this work in a transaction."""
        ...

    @property
    def append_rows(self) -> Callable[..., bool]:
        """Store events of a drive."""
        ...

    @property
    def events_of(self) -> Callable[..., list[LastingEvent]]:
        """The events of the log of a drive."""
        ...

    def refuse_answers(self, run_id: str, owner: str, misfits: Mapping[str, str], error: str) -> None:
        """Forget answers that do not fit their calls."""
        ...

    def end_cancelled(self, drive: Any) -> None:
        """Write the end of a run that was cancelled before this drive of it."""
        ...

    def renew(self, run_id: str, owner: str) -> tuple[bool, bool]:
        """Renew the lease."""
        ...

    def release(self, run_id: str, owner: str) -> None:
        """Give the run back."""
        ...


def check_seconds(what: str, value: object, *, or_zero: bool = False) -> None:
    """Raise `SettingsError` unless this is a finite number above 0 or, with `or_zero`, 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (is_number and (value > 0 or (or_zero and value == 0))):  # type: ignore[operator]
        raise SettingsError(f"{what} is {value!r:.80}; allowed: seconds, {'at least' if or_zero else 'more than'} 0")
