"""Deadline for a whole reply. Time spent in observers does not count."""

from __future__ import annotations

import asyncio
from types import TracebackType

from ..._sync import Blocking
from ...events import Delta
from ...model import DeltaSink

__all__ = ["Deadline"]


class Deadline:
    """`async with Deadline(60) as deadline: ...` raises TimeoutError after 60 seconds, and `expired` is then true.

    Time in the callback of `deadline.pausing_for(on_delta)` does not count: a slow observer is not a slow server.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._scope = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._paused_since: float | None = None
        self._callback = Blocking()

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self._scope.expired()

    async def __aenter__(self) -> Deadline:
        self._loop = asyncio.get_running_loop()
        await self._scope.__aenter__()
        if self._seconds is not None:
            self._deadline = self._loop.time() + self._seconds
            self._timer = self._loop.call_at(self._deadline, self._check)
        self._callback.__enter__()
        self._callback.is_active = False  # only inside a callback
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._callback.__exit__()
        if self._timer is not None:
            self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def _check(self) -> None:
        """End the scope if the deadline has passed, else schedule the next check."""
        now = self._loop.time()
        deadline = self._deadline + (0.0 if self._paused_since is None else now - self._paused_since)
        if deadline <= now:
            self._scope.reschedule(now)
        else:
            self._timer = self._loop.call_at(max(deadline, now + 0.01), self._check)

    def pausing_for(self, on_delta: DeltaSink) -> DeltaSink:
        """`on_delta`, with its time excluded. Model calls inside it do not wait for this one."""

        async def call_on_delta(delta: Delta) -> None:
            self._paused_since = began = self._loop.time()
            self._callback.is_active = True
            try:
                await on_delta(delta)
            finally:
                self._callback.is_active = False
                self._deadline += self._loop.time() - began
                self._paused_since = None

        return call_on_delta
