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

_KEPT = 1000
"""How many calls are remembered: those that are to be cancelled when they begin, and those that have ended."""


class CancellableCalls(Middleware):
    """Lets a program cancel one tool call of a run while the run goes on; the model is told that it was cancelled.

        calls = CancellableCalls()
        result = await agent.run(..., run_id="r1")      # of an agent with middleware=[calls]
        calls.cancel(event.call.id, run_id="r1")        # of a ToolStarted event, from any thread

    An async tool is cancelled where it awaits. A sync one cannot be stopped: its thread goes on to its end, and what it
    comes to is dropped.
    """

    changes_requests = False

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], asyncio.Task[Any]] = {}
        self._beforehand: deque[tuple[str, str]] = deque(maxlen=_KEPT)
        self._over: deque[tuple[str, str]] = deque(maxlen=_KEPT)

    def cancel(self, call_id: str, *, run_id: str | None = None) -> bool:
        """Cancel the call; False if none of this id is under way.

        With a `run_id`, a call that has not begun yet is cancelled as soon as it does: an observer that is told of
        `ToolStarted` is told before. Without one, ids that several runs have under way are refused with a ValueError.
        """
        found = [
            (run, task)
            for (run, call), task in [*self._tasks.items()]
            if call == call_id and run_id in (None, run) and not task.done()
        ]
        if len(found) > 1:
            raise ValueError(f"the runs {', '.join(run for run, _ in found)} each have a call {call_id!r}; give a run_id")
        if not found and run_id is not None and (run_id, call_id) not in (*self._over, *self._beforehand):
            self._beforehand.append((run_id, call_id))
        for _, task in found:
            task.get_loop().call_soon_threadsafe(task.cancel)
        return bool(found)

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """Run the call in a task of its own."""
        key = ctx.run_id, call.id
        if key in self._over:  # it is made again, as after a crash
            self._over.remove(key)
        if key in self._beforehand:
            self._beforehand.remove(key)
            self._over.append(key)
            raise ModelRetry("the call was cancelled before it began")
        task = self._tasks[key] = asyncio.ensure_future(next(call))
        try:
            return await task
        finally:
            if self._tasks.get(key) is task:
                del self._tasks[key]
            self._over.append(key)
