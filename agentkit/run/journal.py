"""The journal: the only way in which the state of a run changes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .._threads import Threads
from ..errors import LogFailed
from ..events import LastingEvent, decode_event, encode_event, stamp
from .observers import GRACE, Grace, Observers
from .state import RunState

__all__ = ["Journal", "JsonLinesLog", "Log", "MemoryLog", "TreeLog", "state_of"]


class Log(Protocol):
    """Stores the events of one run, in order and without gaps."""

    def append(self, seq: int, events: Sequence[LastingEvent]) -> Awaitable[Any] | None:
        """Store these events: all of them, or none and raise. The first is event number `seq` of the run, from 0.

        It is async as a rule, but may also store them at once and return None. It must raise if `seq` is not the number of
        stored events, because then another process drives the run. It is called again only after it has ended, and never after
        it has raised.
        """
        ...

    async def load(self) -> Sequence[LastingEvent]:
        """All events so far, in order."""
        ...


@runtime_checkable
class BlockingLog(Log, Protocol):
    """A log that can also be read in the thread in which its events are folded."""

    def read(self) -> Sequence[LastingEvent]:
        """As `load`. It may block."""
        ...


async def state_of(log: Log) -> RunState:
    """The state of the run in this log. It is folded in a thread, since a long one would stop the event loop."""
    read = log.read if isinstance(log, BlockingLog) else partial(list, await log.load())
    threads = Threads()
    try:
        return await threads.run(lambda: RunState.replay(read()))
    finally:
        threads.close()


@runtime_checkable
class TreeLog(Log, Protocol):
    """A log that also has the logs of child runs. With it, an agent used as a tool can continue after a crash."""

    def child(self, run_id: str) -> Log:
        """The log of the child run with this id; the same log each time."""
        ...


class MemoryLog:
    """A log in memory. `children` are the logs of child runs, by run id."""

    def __init__(self) -> None:
        self.events: list[LastingEvent] = []
        self.children: dict[str, MemoryLog] = {}

    def child(self, run_id: str) -> MemoryLog:
        """The log of a child run."""
        return self.children.setdefault(run_id, MemoryLog())

    async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
        """Store these events. Raises ValueError if `seq` is not the next number."""
        _check_next(seq, len(self.events))
        self.events += events

    async def load(self) -> Sequence[LastingEvent]:
        """All events so far."""
        return tuple(self.events)


class JsonLinesLog:
    """A log in a file, with one event a line, as JSON. The logs of child runs are files next to it.

    It survives the end of the program, but does not force the operating system's buffers to disk. A last line that a crash cut
    off is ignored and overwritten. If two processes drive one run, the second fails at its first append. There is no lock: two
    appends at exactly the same time are not detected.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._count: int | None = None
        self._size = 0

    def child(self, run_id: str) -> JsonLinesLog:
        """The log of a child run. For `runs/a.jsonl` it is `runs/a.0123456789abcdef.jsonl`, with a digest of the id."""
        name = sha256(run_id.encode()).hexdigest()[:16]
        return JsonLinesLog(self.path.with_name(f"{self.path.stem}.{name}{self.path.suffix}"))

    async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
        """Store these events. Raises ValueError if `seq` is not the next number, and OSError."""
        if self._count is None:
            await self.load()
        _check_next(seq, self._count or 0)
        data = b"".join(encode_event(event) + b"\n" for event in events)
        with self.path.open("a+b") as file:
            file.seek(self._size)
            if b"\n" in file.read():
                raise ValueError(f"{self.path} has events after number {seq - 1} already: another run has written them")
            file.truncate(self._size)  # remove what an interrupted append left
            file.write(data)
        self._size += len(data)
        self._count = seq + len(events)

    async def load(self) -> Sequence[LastingEvent]:
        """All events so far; none if the file does not exist. Raises ValueError for a line that is not an event."""
        whole, end, _cut = self.path.read_bytes().rpartition(b"\n") if self.path.exists() else (b"", b"", b"")
        events = [decode_event(line) for line in whole.split(b"\n")] if end else []
        self._count, self._size = len(events), len(whole) + len(end)
        return events


def _check_next(seq: int, count: int) -> None:
    if seq != count:
        raise ValueError(f"event {seq} of a log that has {count} events: another run has written them, or drives this run")


class Journal:
    """Records the events of a run: applies them to its state, appends them to its log, and notifies its observers.

    Events are appended in the order in which they are recorded. Events recorded during an append go into the next append
    together. `record` returns after the events are in the log and the observers have got them. If an append fails, the state
    is reset to what the log has, `failed` is set, and nothing more is recorded.
    """

    def __init__(
        self,
        state: RunState,
        observers: Observers,
        log: Log | None = None,
        hide: Callable[[Any], Any] = lambda event: event,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.state, self.observers = state, observers
        self.failed: LogFailed | None = None
        self._log, self._hide, self._clock = log, hide, clock
        self._stored = len(state.events)
        self._notified = self._stored
        self._lock = asyncio.Lock()

    def child(self, run_id: str) -> Log | None:
        """The log of a child run, or None if this log has no child logs."""
        return self._log.child(run_id) if isinstance(self._log, TreeLog) else None

    @property
    def grace(self) -> Grace:
        """The time limit for the log and the observers of a cancelled run."""
        return self.observers.grace

    async def record(self, *events: LastingEvent) -> None:
        """Record these events. Raises ValueError for an event that does not fit the state, and `LogFailed`."""
        self._apply(events)
        if self._log is not None or self.observers:
            await self.flush()

    def _apply(self, events: Sequence[LastingEvent]) -> None:
        if self.failed is not None:
            raise self.failed
        for event in events:
            self.state.apply(stamp(self._hide(event), self._clock()))

    async def record_with_next(self, *events: LastingEvent) -> None:
        """Record these events. If nobody observes the run, they are appended with the next ones, or by `catch_up`."""
        if self.observers:
            await self.record(*events)
        else:
            self._apply(events)

    async def catch_up(self) -> None:
        """Append what waits for the next events, because something that depends on it comes first."""
        if self._log is not None and self._stored < len(self.state.events):
            await self.flush()

    async def flush(self) -> None:
        """Append the events that the log does not have yet, also those of a cancelled `record`, and notify the observers."""
        end = len(self.state.events)
        async with self._lock:
            await self._append()
            await self._notify(min(end, self._stored))
        if self.failed is not None:
            raise self.failed

    async def _append(self) -> None:
        batch = self.state.events[self._stored :]
        if self._log is None or not batch:
            self._stored += len(batch)
            return
        cancelled: asyncio.CancelledError | None = None
        try:
            append: Any = self._log.append(self._stored, batch)
            if append is not None and inspect.isawaitable(append):
                future, cancelled = await self.grace.finish(append)
                if not future.done():
                    raise TimeoutError(f"the append did not end within {GRACE:g} s after the run was cancelled")
                future.result()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  a log is the program's own code
            self._fail(f"event {self._stored} of the run was not stored", error)
        else:
            self._stored += len(batch)
        if cancelled is not None and self.failed is None:
            raise cancelled

    async def fail_with(self, error: LogFailed) -> None:
        """Record nothing more, because the log of a child run has failed."""
        async with self._lock:
            self._fail("the log of a child run failed", error)

    def _fail(self, what: str, error: BaseException) -> None:
        self.state = RunState.replay(self.state.events[: self._stored])
        self.failed = LogFailed(f"{what}: {type(error).__name__}: {error}")
        self.failed.state, self.failed.__cause__ = self.state, error

    async def _notify(self, end: int) -> None:
        """Notify the observers of the events before `end`. Whoever recorded the later ones notifies of those."""
        cancelled: asyncio.CancelledError | None = None
        while self._notified < end:
            self._notified += 1
            try:
                await self.observers.notify(self.state.events[self._notified - 1])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        if cancelled is not None:
            raise cancelled
