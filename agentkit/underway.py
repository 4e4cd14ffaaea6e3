"""A request under way, as one sees it who waits for its end: whether it can end without its own program doing something."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from . import portal
from .events import Delta
from .model import DeltaSink

__all__ = ["LOOK", "UnderWay", "as_run", "of_run"]

LOOK = 1.0
"""Seconds after which one who waits looks whether those under way are held up."""
_LONG = 0.5
"""Seconds of a standstill that holds a request up."""

of_run: ContextVar[object] = ContextVar("agentkit_run", default=None)
"""Something that stands for the outermost run that this code is part of."""


@contextlib.contextmanager
def as_run() -> Iterator[None]:
    """This code is a run, if it is not part of another."""
    if of_run.get() is not None:
        yield
        return
    token = of_run.set(object())
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the garbage collector ends it in a context of its own
            of_run.reset(token)


class UnderWay:
    """A request and its event loop. It is held up while its watcher is at one piece for long, or its loop stands still.

    What holds it up may be waiting for another request; so nobody else should wait for this one's end.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.shown_for: Callable[[], float] = self._shown_for
        """For how many seconds its watcher has been at one piece."""
        self._shown: dict[object, float] = {}
        self._asked_at: float | None = None
        self._has_slow_watcher = False

    @property
    def is_held_up(self) -> bool:
        """Whether it is; a loop is known to stand still by the second look, half a second after the first or later."""
        now, shown_for = time.monotonic(), self.shown_for()
        if shown_for > _LONG:
            self._has_slow_watcher = True  # which will be as slow at the next piece
        if portal.holds_up(self.loop) or (self._has_slow_watcher and shown_for > 0):
            return True
        asked_at = self._asked_at  # once, as the loop may answer meanwhile
        if asked_at is not None:
            return now - asked_at > _LONG
        self._asked_at = now
        try:
            self.loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # it is closed
            return True
        return False

    def _answer(self) -> None:
        self._asked_at = None

    def _shown_for(self) -> float:
        now = time.monotonic()
        return now - min(tuple(self._shown.values()), default=now)  # a copy, as others ask from their threads

    def showing(self, on_delta: DeltaSink) -> DeltaSink:
        """`on_delta`, which is seen to hold the request up where it takes long."""

        async def shown(delta: Delta) -> None:
            piece = object()  # a model may show several at a time
            self._shown[piece] = time.monotonic()
            try:
                await on_delta(delta)
            finally:
                del self._shown[piece]

        return shown
