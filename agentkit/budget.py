"""What a run may spend together with the runs that its tools make: one sum, and limits that bind all of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
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
        self._lock = threading.Lock()
        self._tokens, self._cost = 0, 0.0
        """Spent on other event loops, and not an event of the run yet."""
        self._runs = 0
        self._under_way: set[asyncio.Task[None]] = set()

    def reached(self, tokens: int, cost: float) -> str | None:
        """The stop reason if a model call with so many prompt tokens, of this cost at least, would break a limit.

        A run that has ended pays for nothing more: its own stop reason.
        """
        if self._state.stop_reason is not None:
            return f"limit:{self._state.stop_reason.removeprefix('limit:')}"
        return self._limits.spending(self._state, tokens + self._tokens, cost + self._cost)

    def next_run(self) -> int:
        """How many runs of this call began before."""
        with self._lock:
            self._runs += 1
            return self._runs - 1

    async def add(self, usage: Usage, cost: float | None) -> None:
        """Count what was spent, as an event of the run; one that has ended takes no more.

        From another event loop it is handed over without waiting: the run's own loop may be waiting for this one, or gone.
        """
        event = UsageAdded(self._call_id, usage, cost)
        if asyncio.get_running_loop() is self._loop:
            await self._add(event)
            return
        self._hold(event, 1)
        with contextlib.suppress(RuntimeError):  # the run's loop is closed
            self._loop.call_soon_threadsafe(self._take, event)

    def _hold(self, event: UsageAdded, sign: int) -> None:
        with self._lock:
            self._tokens += sign * event.usage.input_tokens
            self._cost += sign * (event.cost or 0.0)

    def _take(self, event: UsageAdded) -> None:
        task = self._loop.create_task(self._add(event))  # its first step, the count, comes before the call's end
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        task.add_done_callback(lambda _task: self._hold(event, -1))

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
