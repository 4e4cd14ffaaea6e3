"""The observers of a run: they get its events, and cannot break it."""

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
"""Max seconds that a cancelled run waits for its log and its observers."""
_PIECES = (TextDelta, ReasoningDelta, ToolArgsDelta)

Observer: TypeAlias = Callable[..., "Awaitable[None] | None"]
"""Called with each event before the run goes on, as `(event)` or, if it requires two arguments, `(event, run)`. May be async.

`run` is the `RunInfo` of the event's run. An observer `(event, run)` gets the events of child runs unchanged; an observer
`(event)` gets them as `Nested`. If an observer raises, this is logged, the observer is dropped, and the run goes on. Its error
ends the run if it has an attribute `strict = True`; an AssertionError always does. With `deltas = False` it gets no pieces of
replies, and does not make the run stream.
"""


class Grace:
    """The time limit for the log and the observers of a cancelled run."""

    def __init__(self) -> None:
        self._ends_at: float | None = None

    def begin(self) -> None:
        """Start the countdown, because the run is cancelled."""
        if self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + GRACE

    async def finish(self, awaitable: Awaitable[Any]) -> tuple[asyncio.Future[Any], asyncio.CancelledError | None]:
        """Wait for the awaitable, even if this task is cancelled meanwhile.

        Returns its future and the cancellation, which the caller must raise. The future is not done if the time ran out first.
        """
        future = asyncio.ensure_future(awaitable)
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
    """One observer and its options."""

    observer: Observer
    takes_run: bool
    deltas: bool
    strict: bool

    @classmethod
    def of(cls, observer: Observer) -> _Attached:
        flags = (getattr(observer, "deltas", True), getattr(observer, "strict", False))
        return cls(observer, required_arguments(observer) > 1, *flags)


class Observers:
    """The observers of one run. The observers of its parent get its events too.

    `raised` is the error of a strict observer: the run must end with it.
    """

    def __init__(self, observers: Iterable[Observer], run: RunInfo, parent: Observers | None = None) -> None:
        self.run, self.grace = run, Grace()
        self._attached = tuple(map(_Attached.of, observers))
        self._parent = parent if parent is not None and parent else None
        self._loop = asyncio.get_running_loop()
        self._from_other_loops: deque[tuple[Event, RunInfo]] = deque()
        """Events of child runs on other event loops, which must not wait for this loop."""
        self._lock = asyncio.Lock()
        self.raised: BaseException | None = None

    def __bool__(self) -> bool:
        return bool(self._attached) or self._parent is not None

    @property
    def want_deltas(self) -> bool:
        """Whether any observer wants the pieces of replies."""
        return any(one.deltas for one in self._attached) or (self._parent is not None and self._parent.want_deltas)

    def notify(self, event: Event) -> Awaitable[None]:
        """Pass an event of this run to all observers. Raises only a cancellation of the run."""
        only_own = self._parent is None and not self._from_other_loops
        return self._notify(event, event, self.run) if only_own else self._notify_all(event)

    async def _notify_all(self, event: Event) -> None:
        if self._from_other_loops:
            await self._notify_queued()
        try:
            await self._notify(event, event, self.run)
        finally:  # a cancellation comes out after all observers have the event
            if self._parent is not None:
                await self._parent.notify_nested(event, self.run)

    async def notify_nested(self, event: Event, run: RunInfo) -> None:
        """Pass an event of a child run to all observers. On another event loop, it does not wait for them."""
        try:
            if asyncio.get_running_loop() is self._loop:
                await self._notify(event, Nested(event, run), run)
            else:
                with contextlib.suppress(RuntimeError):  # the loop of this run is closed
                    self._from_other_loops.append((event, run))
                    self._loop.call_soon_threadsafe(_start, self._notify_queued)
        finally:
            if self._parent is not None:
                await self._parent.notify_nested(event, run)

    async def _notify_queued(self) -> None:
        async with self._lock:  # in order
            while self._from_other_loops:
                event, run = self._from_other_loops.popleft()
                await self._notify(event, Nested(event, run), run)

    async def _notify(self, event: Event, for_event_only: Event, run: RunInfo) -> None:
        """Observers that do not take the run get `for_event_only`."""
        cancelled: asyncio.CancelledError | None = None
        is_piece = isinstance(event, _PIECES)
        for one in self._attached:
            if is_piece and not one.deltas:
                continue
            try:
                awaitable = one.observer(event, run) if one.takes_run else one.observer(for_event_only)
                if awaitable is None:
                    continue
                if isinstance(event, LastingEvent):
                    cancelled = await self._finish(one, awaitable) or cancelled
                else:
                    await awaitable
            except asyncio.CancelledError as error:
                if is_being_cancelled():
                    cancelled = cancelled or error
                else:  # the observer's own cancellation, which must not look like the run's
                    self._failed(one, RuntimeError("it was cancelled, and the run was not"))
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  pytest.fail() raises no Exception
                self._failed(one, error)
        if cancelled is not None:
            raise cancelled

    async def _finish(self, one: _Attached, awaitable: Awaitable[None]) -> asyncio.CancelledError | None:
        """Let an observer finish a lasting event, even if the run is cancelled meanwhile. Returns the cancellation."""
        future, cancelled = await self.grace.finish(awaitable)
        if future.done():
            future.result()
        else:
            self._drop(one)
            log.warning("the observer %.80r did not take an event in within %g s and lost it", one.observer, GRACE)
        return cancelled

    def _failed(self, one: _Attached, error: BaseException) -> None:
        """Drop an observer that has missed an event, so that it gets no later ones."""
        if one not in self._attached:  # a concurrent call has dropped it
            return
        self._drop(one)
        if one.strict or isinstance(error, AssertionError) or not isinstance(error, Exception):
            self.raised = self.raised or error
        else:
            log.warning("the observer %.80r failed, and gets no more events\n%s", one.observer, redacted_traceback(error))

    def _drop(self, one: _Attached) -> None:
        self._attached = tuple(other for other in self._attached if other is not one)


def _start(notify: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.ensure_future(notify())  # noqa: RUF006  the loop references it through what it waits for


def required_arguments(function: Callable[..., Any]) -> int:
    """How many arguments the function requires; 1 if that is not known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in
        return 1
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
