"""What a tool may know of the run that calls it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..events import digest_of
from ..messages import ToolCall

__all__ = ["CallScope", "RunContext"]

DepsT = TypeVar("DepsT")


class CallScope(Protocol):
    """What binds the runs that a call makes `within` it (`Scope` in run/run.py)."""

    def report(self, data: Any) -> None:
        """Show the watchers how far the call is."""
        ...


@dataclass(frozen=True, slots=True)
class RunContext(Generic[DepsT]):
    """What a tool may know of the run that calls it; a parameter annotated with it is filled by the framework.

    `deps` is what was given to `agent.run(deps=...)`. `position` counts the tool calls of the run from 0. An agent that a
    tool runs is part of this run with `agent.run(task, within=ctx)`: what it spends counts here, and these limits hold.
    """

    deps: DepsT
    run_id: str = ""
    call: ToolCall = field(default_factory=lambda: ToolCall("", ""))
    position: int = 0
    scope: CallScope | None = field(default=None, repr=False)
    attempt: int = 0
    """How often the run had been resumed when the model asked for the call."""

    @property
    def idempotency_key(self) -> str:
        """A key for this very call: the run's id and the position, the same when the call is made again after a crash.

        Another call may come to stand at the same place: in a fork, which has another id, or where a run is resumed from before
        the call. The key of a call that the model made after a resume also has a digest of the call.
        """
        key = f"{self.run_id}:{self.position if self.call.id or not self.call.name else self.call.name}"
        return f"{key}:{digest_of(self.call)[:8]}" if self.attempt else key

    def progress(self, data: Any) -> None:
        """Show the watchers how far the tool is: text, or any value that JSON can hold.

        Any thread may call it at any time: it never blocks and never raises. Up to 256 reports of a call wait for slow
        watchers. After that, each new report replaces the newest that waits, so the watchers always get the last one;
        `ToolProgress.replaced` counts the others. Reports after the end of the call are dropped.
        """
        if self.scope is not None:
            self.scope.report(data)
