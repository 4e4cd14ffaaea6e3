"""The context that a tool gets from the run that calls it."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Generic, Protocol, TypeVar

from .._dataclass import frozen_dataclass
from ..events import digest_of
from ..messages import ToolCall

__all__ = ["CallScope", "RunContext"]

DepsT = TypeVar("DepsT")


class CallScope(Protocol):
    """Connects child runs made `within` a call to the run of the call (`Scope` in run/run.py)."""

    def report(self, data: Any) -> None:
        """Report the progress of the call to the observers."""
        ...


@frozen_dataclass
class RunContext(Generic[DepsT]):
    """What a tool may know of the run that calls it. The framework fills a parameter that is annotated with it.

    `deps` is the value of `agent.run(deps=...)`. `position` counts the tool calls of the run from 0. If a tool runs another
    agent with `agent.run(task, within=ctx)`, that run is a child of this run: its spending counts here, and the limits of this
    run apply.
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
        """A key for this call, made of the run's id and the position. It is the same if the call runs again after a crash.

        After a resume from an earlier point, another call may have the same position. So the key of a call that the model made
        after a resume also has a digest of the call. In a fork, the run id differs.
        """
        key = f"{self.run_id}:{self.position if self.call.id or not self.call.name else self.call.name}"
        return f"{key}:{digest_of(self.call)[:8]}" if self.attempt else key

    def progress(self, data: Any) -> None:
        """Report the progress of the tool to the observers: text, or any value that JSON can hold.

        Any thread may call it at any time: it never blocks and never raises. Up to 256 reports of a call are queued for slow
        observers. When the queue is full, each new report replaces the newest queued one, so observers always get the last
        report; `ToolProgress.replaced` counts the replaced ones. Reports after the end of the call are dropped.
        """
        if self.scope is not None:
            self.scope.report(data)
