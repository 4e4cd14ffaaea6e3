"""What a run may spend together with the runs that its tools make: one sum, and limits that bind all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .events import Event, LastingEvent, ModelReplied, UsageAdded
from .limits import Limits
from .messages import Usage
from .state import RunState
from .tool import Budget

__all__ = ["Forward", "RunBudget"]


class RunBudget:
    """What the run may spend to which this call belongs. `record` takes an event into that run, on its event loop."""

    def __init__(
        self, call_id: str, state: RunState, limits: Limits, depth: int, record: Callable[[LastingEvent], Awaitable[None]]
    ) -> None:
        self.depth = depth
        self._call_id, self._state, self._limits, self._record = call_id, state, limits, record
        self._loop = asyncio.get_running_loop()

    def reached(self, tokens: int, cost: float) -> str | None:
        """The stop reason if a model call with so many prompt tokens, of this cost at least, would break a limit.

        A run that has ended pays for nothing more: its own stop reason.
        """
        if self._state.stop_reason is not None:
            return f"limit:{self._state.stop_reason.removeprefix('limit:')}"
        return self._limits.spending(self._state, tokens, cost)

    async def add(self, usage: Usage, cost: float | None) -> None:
        """Count what was spent, as an event of the run; one that has ended takes no more."""
        added = self._add(UsageAdded(self._call_id, usage, cost))
        if asyncio.get_running_loop() is self._loop:
            await added
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(added, self._loop))

    async def _add(self, event: UsageAdded) -> None:
        if self._state.stop_reason is None:
            await self._record(event)


class Forward:
    """An observer that counts what its run spends in the run that it is part of."""

    deltas = False

    def __init__(self, outer: Budget) -> None:
        self._outer = outer

    async def __call__(self, event: Event) -> None:
        """Count what the event spent."""
        if isinstance(event, ModelReplied | UsageAdded):
            await self._outer.add(event.usage, event.cost)
