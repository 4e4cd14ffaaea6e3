"""The observers of a run: told of its events, and unable to break it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from .._sync import is_being_cancelled
from ..events import Event, LastingEvent, Nested, ReasoningDelta, RunInfo, TextDelta, ToolArgsDelta
from ..redact import redacted_traceback

__all__ = ["GRACE", "Grace", "Observer", "Observers", "required_arguments"]

log = logging.getLogger("agentkit")

GRACE = 5.0
"""Seconds that a cancelled run still gives its log and its observers."""
_PIECES = (TextDelta, ReasoningDelta, ToolArgsDelta)

Observer: TypeAlias = Callable[..., "Awaitable[None] | None"]
"""Called with each event before the run goes on, as `(event)` or, if it requires two arguments, `(event, run)`. May be async.

`run` is the `RunInfo` of the run that the event is of. Events of the runs inside come to `(event, run)` as they are, and to
`(event)` as `Nested`. An observer that raises is logged and dropped, and the run goes on. With an attribute `strict = True` its
error ends the run, as an AssertionError always does. With `deltas = False` it is not told of the pieces of a reply, and does
not make the run stream.
"""


class Grace:
    """Bounds what a cancelled run still waits for."""

    def __init__(self) -> None:
        self._ends_at: float | None = None

    def begin(self) -> None:
        """The run is cancelled."""
        if self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + GRACE

    async def finish(self, waiting: Awaitable[Any]) -> tuple[asyncio.Future[Any], asyncio.CancelledError | None]:
        """Wait for the end of `waiting`, also when this task is cancelled meanwhile.

        Gives its future, which is not done where the grace is over first, and the cancellation, to be raised by the caller.
        """
        future = asyncio.ensure_future(waiting)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            left = None if self._ends_at is None else self._ends_at - asyncio.get_running_loop().time()
            if left is not None and left <= 0:
                future.cancel()
                break
            try:
                await asyncio.wait((future,), timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
                self.begin()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # retrieved
        return future, cancelled


@dataclass(slots=True, eq=False)
class _Attached:
    """One observer, and what it asks for."""

    observer: Observer
    takes_run: bool
    deltas: bool
    strict: bool

    @classmethod
    def of(cls, observer: Observer) -> _Attached:
        flags = (getattr(observer, "deltas", True), getattr(observer, "strict", False))
        return cls(observer, required_arguments(observer) > 1, *flags)


class Observers:
    """The observers of one run, and those of the run around it, which are told of its events as well.

    `raised` is the error of a strict observer, with which the run has to end.
    """

    def __init__(self, observers: Iterable[Observer], run: RunInfo, around: Observers | None = None) -> None:
        self.run, self.grace = run, Grace()
        self._attached = tuple(map(_Attached.of, observers))
        self._around = around if around is not None and around else None
        self._loop = asyncio.get_running_loop()
        self._from_elsewhere: deque[tuple[Event, RunInfo]] = deque()
        """Events of runs in other event loops, which could not wait."""
        self._turn = asyncio.Lock()
        self.raised: BaseException | None = None

    def __bool__(self) -> bool:
        return bool(self._attached) or self._around is not None

    @property
    def want_deltas(self) -> bool:
        """Whether anybody wants the pieces of replies."""
        return any(one.deltas for one in self._attached) or (self._around is not None and self._around.want_deltas)

    def tell(self, event: Event) -> Awaitable[None]:
        """Tell all of an event of this run. Raises nothing but a cancellation of the run."""
        alone = self._around is None and not self._from_elsewhere
        return self._tell(event, event, self.run) if alone else self._tell_all(event)

    async def _tell_all(self, event: Event) -> None:
        if self._from_elsewhere:
            await self._tell_waiting()
        try:
            await self._tell(event, event, self.run)
        finally:  # a cancellation comes out when all have been told
            if self._around is not None:
                await self._around.tell_nested(event, self.run)

    async def tell_nested(self, event: Event, run: RunInfo) -> None:
        """Tell all of an event of a run inside this one; without waiting from another event loop."""
        try:
            if asyncio.get_running_loop() is self._loop:
                await self._tell(event, Nested(event, run), run)
            else:
                with contextlib.suppress(RuntimeError):  # the loop of this run is closed
                    self._from_elsewhere.append((event, run))
                    self._loop.call_soon_threadsafe(_start, self._tell_waiting)
        finally:
            if self._around is not None:
                await self._around.tell_nested(event, run)

    async def _tell_waiting(self) -> None:
        async with self._turn:  # in order
            while self._from_elsewhere:
                event, run = self._from_elsewhere.popleft()
                await self._tell(event, Nested(event, run), run)

    async def _tell(self, event: Event, alone: Event, run: RunInfo) -> None:
        """`alone` is what an observer gets that is not told of the run."""
        cancelled: asyncio.CancelledError | None = None
        is_piece = isinstance(event, _PIECES)
        for one in self._attached:
            if is_piece and not one.deltas:
                continue
            try:
                waiting = one.observer(event, run) if one.takes_run else one.observer(alone)
                if waiting is None:
                    continue
                if isinstance(event, LastingEvent):
                    cancelled = await self._finish(one, waiting) or cancelled
                else:
                    await waiting
            except asyncio.CancelledError as error:
                if is_being_cancelled():
                    cancelled = cancelled or error
                else:  # its own, which would pass for the run's
                    self._failed(one, RuntimeError("it was cancelled, and the run was not"))
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  pytest.fail() raises no Exception
                self._failed(one, error)
        if cancelled is not None:
            raise cancelled

    async def _finish(self, one: _Attached, waiting: Awaitable[None]) -> asyncio.CancelledError | None:
        """A lasting event is taken in also where the run is cancelled meanwhile. Gives the cancellation."""
        future, cancelled = await self.grace.finish(waiting)
        if future.done():
            future.result()
        else:
            self._drop(one)
            log.warning("the observer %.80r did not take an event in within %g s and lost it", one.observer, GRACE)
        return cancelled

    def _failed(self, one: _Attached, error: BaseException) -> None:
        """Drop an observer that has missed an event, so that it gets no later one."""
        if one not in self._attached:  # a parallel call has dropped it
            return
        self._drop(one)
        if one.strict or isinstance(error, AssertionError) or not isinstance(error, Exception):
            self.raised = self.raised or error
        else:
            log.warning("the observer %.80r failed, and is told of nothing more\n%s", one.observer, redacted_traceback(error))

    def _drop(self, one: _Attached) -> None:
        self._attached = tuple(other for other in self._attached if other is not one)


def _start(tell: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.ensure_future(tell())  # noqa: RUF006  it holds the loop, which holds it


def required_arguments(function: Callable[..., Any]) -> int:
    """How many arguments the function requires; 1 where that is not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in
        return 1
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
