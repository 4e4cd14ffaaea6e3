"""Passes the progress reports of running tools to the observers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["MAX_QUEUED", "Progress"]

MAX_QUEUED = 256
"""Reports of one call that may be queued for the observers."""


class Progress:
    """The reports of one tool call. Any thread adds reports, and a task of the run's event loop passes them on in order.

    `report` never blocks and never raises. At most `MAX_QUEUED` reports are queued. When the queue is full, a new report
    replaces the newest queued one, so the last report always arrives. Each is passed on with the number of reports that it
    replaced.
    """

    def __init__(self, notify: Callable[[Any, int], Awaitable[None]]) -> None:
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()  # a finalizer or a signal handler may report in the middle of a report
        self._queue: deque[tuple[Any, int]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_awake = self._has_ended = False
        self._raised: Exception | None = None

    def report(self, data: Any) -> None:
        """Queue a report. It is dropped if the call has ended."""
        with self._lock:
            if self._has_ended:
                return
            replaced = self._queue.pop()[1] + 1 if len(self._queue) >= MAX_QUEUED else 0
            self._queue.append((data, replaced))
            if self._is_awake:
                return
            self._is_awake = True
        if asyncio._get_running_loop() is self._loop:  # immediately, so that the report comes before the end of the call
            self._start()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the run with it
                self._loop.call_soon_threadsafe(self._start)

    async def end(self) -> None:
        """Wait until observers have all reports so far, and drop later ones. Raises the first error of an observer."""
        self._has_ended = True
        if self._task is not None:
            await self._task
        await self._pass_on()
        if self._raised is not None:
            raise self._raised

    def drop(self) -> None:
        """Drop queued and later reports."""
        self._has_ended = True
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        if not self._has_ended:
            self._task = self._loop.create_task(self._pass_on())

    async def _pass_on(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._is_awake = False
                    return
                data, replaced = self._queue.popleft()
            try:
                await self._notify(data, replaced)
            except Exception as error:  # noqa: BLE001  raised at the end of the call; the call goes on
                self._raised = self._raised or error
            await asyncio.sleep(0)  # a thread that reports without a pause must not block the loop's other tasks
