"""What a run needs of a store: the right to drive it, and its log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..messages import Message
from .journal import Log
from .result import RunResult

__all__ = ["RunStore", "StoredDrive"]

T = TypeVar("T")


class StoredDrive(Protocol):
    """The right to drive one stored run. Other processes cannot drive it meanwhile."""

    @property
    def log(self) -> Log:
        """The log of the run."""
        ...

    @property
    def history(self) -> Sequence[Message]:
        """The conversation of its session so far."""
        ...

    @property
    def answers(self) -> Mapping[str, Mapping[str, Any]]:
        """Stored answers to its calls, by "approval" or "result", and by the call's id."""
        ...

    @property
    def ended(self) -> RunResult[Any] | None:
        """The result with which the run has ended, if it has ended in this drive."""
        ...

    async def describe(self, fingerprint: Mapping[str, str], parts: Mapping[str, Any]) -> None:
        """Keep the parts of the agent that are in no event, by their digests."""
        ...

    async def part(self, name: str, digest: str) -> Any:
        """A part of an agent that was kept, by its digest; None if it is not known."""
        ...

    async def refuse(self, misfits: Mapping[str, str], error: str) -> None:
        """Forget stored answers that do not fit their calls, for the reasons in `misfits`. The run waits for others."""
        ...

    def is_set(self) -> bool:
        """Whether the right was lost, so that the run must be left."""
        ...

    def give_back(self) -> None:
        """Give the right back without using it. Blocks."""
        ...

    async def run(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do the work and give the right back. None if the run was cancelled through the store."""
        ...


class RunStore(Protocol):
    """A store of runs, such as `agentkit.store.SQLiteStore`. Both calls may block, and are made in a thread."""

    def begin(self, run_id: str, *, session: str | None = None) -> StoredDrive:
        """Make a new run. Raises `RunExists`, and `RunBusy` if another run of the session has not ended."""
        ...

    def reopen(self, run_id: str) -> StoredDrive:
        """Drive a run that is there. Raises `StoreError` if there is none, and `RunBusy` if another process drives it."""
        ...
