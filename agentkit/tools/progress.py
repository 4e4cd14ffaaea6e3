"""What a running tool reports, on its way to the watchers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["ROOM", "Progress"]

ROOM = 256
"""Reports of one call that may wait for the watchers."""


class Progress:
    """The reports of one tool call. Any thread adds them, and a task of the run's event loop passes them on in order.

    `report` never blocks, never raises, and holds at most `ROOM` reports. A report that finds no room replaces the newest
    that waits: so the last one always arrives, and each is passed on with the number of reports that it replaced.
    """

    def __init__(self, tell: Callable[[Any, int], Awaitable[None]]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()  # a finalizer or a signal handler may report in the middle of a report
        self._waiting: deque[tuple[Any, int]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_awake = self._is_over = False
        self._raised: Exception | None = None

    def report(self, data: Any) -> None:
        """Take one report; dropped if the call has ended."""
        with self._lock:
            if self._is_over:
                return
            replaced = self._waiting.pop()[1] + 1 if len(self._waiting) >= ROOM else 0
            self._waiting.append((data, replaced))
            if self._is_awake:
                return
            self._is_awake = True
        if asyncio._get_running_loop() is self._loop:  # at once, so that it comes before the end of the call
            self._start()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the run with it
                self._loop.call_soon_threadsafe(self._start)

    async def end(self) -> None:
        """Wait until the watchers have all reports so far, and drop later ones. Raises the first error of a watcher."""
        self._is_over = True
        if self._task is not None:
            await self._task
        await self._pass_on()
        if self._raised is not None:
            raise self._raised

    def drop(self) -> None:
        """Forget what waits, and drop later reports."""
        self._is_over = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        if not self._is_over:
            self._task = self._loop.create_task(self._pass_on())

    async def _pass_on(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_awake = False
                    return
                data, replaced = self._waiting.popleft()
            try:
                await self._tell(data, replaced)
            except Exception as error:  # noqa: BLE001  raised at the end of the call, which goes on
                self._raised = self._raised or error
            await asyncio.sleep(0)  # a thread that reports without a pause must not keep the loop from its other tasks
