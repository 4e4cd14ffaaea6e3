"""Cancels single tool calls of a run."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from ..errors import ModelRetry
from ..messages import ToolCall
from ..run.middleware import Middleware, NextToolCall
from ..tools.context import RunContext

__all__ = ["CancellableCalls"]

_MAX_KEPT = 1000
"""Calls that are remembered: those to cancel when they start, and those that have ended."""


class CancellableCalls(Middleware):
    """Lets a program cancel one tool call of a run while the run goes on. The model is told about the cancellation.

        calls = CancellableCalls()
        result = await agent.run(..., run_id="r1")      # of an agent with middleware=[calls]
        calls.cancel(event.call.id, run_id="r1")        # of a ToolStarted event, from any thread

    An async tool is cancelled where it awaits. A sync tool cannot be stopped: its thread runs to the end, and its result is
    dropped.
    """

    changes_requests = False

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._cancel_on_start: deque[tuple[str, str]] = deque(maxlen=_MAX_KEPT)
        self._ended: deque[tuple[str, str]] = deque(maxlen=_MAX_KEPT)

    def cancel(self, call_id: str, *, run_id: str | None = None) -> bool:
        """Cancel the call. Returns False if no call with this id is in flight.

        With a `run_id`, a call that has not started yet is cancelled when it starts: an observer gets `ToolStarted` before the
        start. Without a `run_id`, raises ValueError if several runs have a call with this id in flight.
        """
        found = [
            (run, task)
            for (run, call), task in [*self._tasks.items()]
            if call == call_id and run_id in (None, run) and not task.done()
        ]
        if len(found) > 1:
            raise ValueError(f"the runs {', '.join(run for run, _ in found)} each have a call {call_id!r}; give a run_id")
        if not found and run_id is not None and (run_id, call_id) not in (*self._ended, *self._cancel_on_start):
            self._cancel_on_start.append((run_id, call_id))
        for _, task in found:
            task.get_loop().call_soon_threadsafe(task.cancel)
        return bool(found)

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """Run the call in a task of its own."""
        key = ctx.run_id, call.id
        if key in self._ended:  # the call is made again, as after a crash
            self._ended.remove(key)
        if key in self._cancel_on_start:
            self._cancel_on_start.remove(key)
            self._ended.append(key)
            raise ModelRetry("the call was cancelled before it began")
        task = self._tasks[key] = asyncio.ensure_future(next(call))
        try:
            return await task
        finally:
            if self._tasks.get(key) is task:
                del self._tasks[key]
            self._ended.append(key)
