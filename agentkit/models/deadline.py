"""The most seconds of a reply, without those in which a watcher holds it up."""

from __future__ import annotations

import asyncio
from types import TracebackType

from ..events import Delta
from ..model import DeltaSink

__all__ = ["Deadline"]


class Deadline:
    """`async with Deadline(60) as deadline: ...` raises TimeoutError after 60 seconds, and `expired` is then true.

    What is awaited through `deadline.showing(on_delta)` does not count: a slow watcher is no slow server.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._ends = 0.0
        self._shown_since: float | None = None

    @property
    def expired(self) -> bool:
        """Whether the time was over."""
        return self._scope.expired()

    async def __aenter__(self) -> Deadline:
        self._loop = asyncio.get_running_loop()
        await self._scope.__aenter__()
        if self._seconds is not None:
            self._ends = self._loop.time() + self._seconds
            self._timer = self._loop.call_at(self._ends, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def _look(self) -> None:
        """End it if the time is over; else look again when it would be."""
        now = self._loop.time()
        held_up = self.shown_for()
        if self._ends + held_up <= now:
            self._scope.reschedule(now)
        else:
            self._timer = self._loop.call_at(max(self._ends + held_up, now + 0.01), self._look)

    def shown_for(self) -> float:
        """For how many seconds the watcher has been at the same piece."""
        since = self._shown_since  # once, as others ask from their threads
        return 0.0 if since is None else self._loop.time() - since

    def showing(self, on_delta: DeltaSink) -> DeltaSink:
        """`on_delta`, whose time does not count."""

        async def shown(delta: Delta) -> None:
            self._shown_since = began = self._loop.time()
            try:
                await on_delta(delta)
            finally:
                self._ends += self._loop.time() - began
                self._shown_since = None

        return shown
