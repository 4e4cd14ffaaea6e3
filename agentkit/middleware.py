"""Ready-made middleware."""

from __future__ import annotations

import asyncio
from typing import Any

from .messages import ToolCall
from .spec import Middleware, NextToolCall
from .tool import RunContext

__all__ = ["CancellableCalls"]


class CancellableCalls(Middleware):
    """Lets a program cancel one tool call of a run while the run goes on; the model is told that it was cancelled.

        calls = CancellableCalls()
        agent = Agent(..., middleware=[calls])
        calls.cancel(event.call.id)  # of a ToolStarted event, from any thread

    An async tool is cancelled where it awaits. A sync one cannot be stopped: its thread goes on to its end, and what it
    comes to is dropped.
    """

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], asyncio.Task[Any]] = {}

    def cancel(self, call_id: str, *, run_id: str | None = None) -> bool:
        """Cancel the call; False if no such call is under way. `run_id` tells equal ids of several runs apart."""
        found = [
            task
            for (run, call), task in [*self._tasks.items()]
            if call == call_id and run_id in (None, run) and not task.done()
        ]
        for task in found:
            task.get_loop().call_soon_threadsafe(task.cancel)
        return bool(found)

    async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
        """Run the call in a task of its own."""
        key = ctx.run_id, call.id
        task = self._tasks[key] = asyncio.ensure_future(next(call))
        try:
            return await task
        finally:
            del self._tasks[key]
