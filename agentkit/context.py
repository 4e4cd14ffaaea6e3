"""What a tool may know of the run that calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar

from .messages import ToolCall, Usage

__all__ = ["Budget", "RunContext"]

DepsT = TypeVar("DepsT")


class Budget(Protocol):
    """What a run may spend, for the runs that one of its calls makes."""

    @property
    def depth(self) -> int:
        """How many runs it stands in: 0 for one that is part of no other."""
        ...

    @property
    def ledger(self) -> Any:
        """What the run has spent, and may spend (`Ledger` in budget.py)."""
        ...

    async def add(self, usage: Usage, cost: float | None, *, estimated: bool) -> None:
        """Write down what was spent, as an event of the run. It may come from another event loop."""
        ...

    def next_run(self) -> int:
        """How many runs of this call began before: their ids, and the keys of their calls, must differ."""
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
    report: Callable[[Any], None] | None = field(default=None, repr=False)
    budget: Budget | None = field(default=None, repr=False)

    @property
    def idempotency_key(self) -> str:
        """A key for this very call: the same when the call is made again after a crash.

        It is another one for another call at the same place (another tool, other arguments), and after `RunState.fork`.
        """
        call = self.call
        digest = sha256(f"{call.name}\0{call.arguments}".encode("utf-8", "replace")).hexdigest()[:8]
        return f"{self.run_id}:{self.position}:{digest}"

    def progress(self, data: Any) -> None:
        """Show the watchers how far the tool is: text, or any value that JSON can hold.

        Any thread may call it at any time: it never blocks and never raises. Up to 256 reports of a call wait for slow
        watchers. After that, each new report replaces the newest that waits, so the watchers always get the last one;
        `ToolProgress.replaced` counts the others. Reports after the end of the call are dropped.
        """
        if self.report:
            self.report(data)
