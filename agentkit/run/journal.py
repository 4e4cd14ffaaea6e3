"""The journal: the only way in which the state of a run changes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..errors import LogFailed
from ..events import LastingEvent, decode_event, encode_event, stamp
from .observers import GRACE, Grace, Observers
from .state import RunState

__all__ = ["Journal", "JsonLinesLog", "Log", "MemoryLog", "TreeLog"]


class Log(Protocol):
    """Where the events of one run are kept, in order and without gaps."""

    async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
        """Keep these events; the first is number `seq` of the run, from 0. All of them, or none and an error.

        It raises where `seq` is not the number of events that it has: somebody else drives the run. It is not called again
        before it has returned, and not at all after it has raised.
        """
        ...

    async def load(self) -> Sequence[LastingEvent]:
        """All events so far, in order."""
        ...


@runtime_checkable
class TreeLog(Log, Protocol):
    """A log that also has those of the runs inside: an agent that is a tool goes on after a crash where it was."""

    def child(self, run_id: str) -> Log:
        """The log of the run with this id, which a call of this run has made; the same one each time."""
        ...


class MemoryLog:
    """A log that lasts as long as the program. `children` are those of the runs inside, by run id."""

    def __init__(self) -> None:
        self.events: list[LastingEvent] = []
        self.children: dict[str, MemoryLog] = {}

    def child(self, run_id: str) -> MemoryLog:
        """The log of a run inside."""
        return self.children.setdefault(run_id, MemoryLog())

    async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
        """Keep these events. Raises ValueError where `seq` is not the next number."""
        _check_next(seq, len(self.events))
        self.events += events

    async def load(self) -> Sequence[LastingEvent]:
        """All events so far."""
        return tuple(self.events)


class JsonLinesLog:
    """A log in a file: one event a line, as JSON. The logs of runs inside are files beside it.

    It survives the end of the program; the operating system's own buffers are not forced to the disk. A last line that was cut
    off by a crash is no event, and is written over. A run that is driven twice fails at its first append here; two that append
    at the very same time are not told apart, as there is no lock.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._count: int | None = None
        self._size = 0

    def child(self, run_id: str) -> JsonLinesLog:
        """The log of a run inside: `runs/a.jsonl` has `runs/a.0123456789abcdef.jsonl`, with a digest of the id."""
        name = sha256(run_id.encode()).hexdigest()[:16]
        return JsonLinesLog(self.path.with_name(f"{self.path.stem}.{name}{self.path.suffix}"))

    async def append(self, seq: int, events: Sequence[LastingEvent]) -> None:
        """Keep these events. Raises ValueError where `seq` is not the next number, and OSError."""
        if self._count is None:
            await self.load()
        _check_next(seq, self._count or 0)
        data = b"".join(encode_event(event) + b"\n" for event in events)
        with self.path.open("a+b") as file:
            file.seek(self._size)
            if b"\n" in file.read():
                raise ValueError(f"{self.path} has events after number {seq - 1} already: another run has written them")
            file.truncate(self._size)  # what an append that was cut off has left
            file.write(data)
        self._size += len(data)
        self._count = seq + len(events)

    async def load(self) -> Sequence[LastingEvent]:
        """All events so far; none where there is no file. Raises ValueError for a line that is no event."""
        whole, end, _cut = self.path.read_bytes().rpartition(b"\n") if self.path.exists() else (b"", b"", b"")
        events = [decode_event(line) for line in whole.split(b"\n")] if end else []
        self._count, self._size = len(events), len(whole) + len(end)
        return events


def _check_next(seq: int, count: int) -> None:
    if seq != count:
        raise ValueError(f"event {seq} of a log that has {count} events: another run has written them, or drives this run")


class Journal:
    """Takes the events of a run into its state, its log and to its observers.

    Events are appended in the order in which they are recorded. Those recorded during an append go into the next one together.
    `record` returns when its events are in the log and the observers have been told. When an append fails, the state is cut
    back to what the log has, `failed` is set, and nothing more is recorded.
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
        self._told = self._stored
        self._turn = asyncio.Lock()

    def child(self, run_id: str) -> Log | None:
        """The log of a run inside, where this log has those."""
        return self._log.child(run_id) if isinstance(self._log, TreeLog) else None

    @property
    def grace(self) -> Grace:
        """What a cancelled run still waits for."""
        return self.observers.grace

    async def record(self, *events: LastingEvent) -> None:
        """Take these events in.

        Raises ValueError for one that cannot follow, and `LogFailed`.
        """
        if self.failed is not None:
            raise self.failed
        for event in events:
            self.state.apply(stamp(self._hide(event), self._clock()))
        if self._log is not None or self.observers:
            await self.flush()

    async def flush(self) -> None:
        """Append what is not in the log yet, and tell the observers; also what a cancelled `record` has left."""
        end = len(self.state.events)
        async with self._turn:
            await self._append()
            await self._tell(min(end, self._stored))
        if self.failed is not None:
            raise self.failed

    async def _append(self) -> None:
        batch = self.state.events[self._stored :]
        if self._log is None or not batch:
            self._stored += len(batch)
            return
        cancelled: asyncio.CancelledError | None = None
        try:
            waiting: Any = self._log.append(self._stored, batch)
            if inspect.isawaitable(waiting):
                future, cancelled = await self.grace.finish(waiting)
                if not future.done():
                    raise TimeoutError(f"the append did not end within {GRACE:g} s after the run was cancelled")
                future.result()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  of a log that is not ours
            self._fail(f"event {self._stored} of the run was not stored", error)
        else:
            self._stored += len(batch)
        if cancelled is not None and self.failed is None:
            raise cancelled

    async def fail_with(self, inner: LogFailed) -> None:
        """Record nothing more, as the log of a run inside has failed."""
        async with self._turn:
            self._fail("the log of a run inside failed", inner)

    def _fail(self, what: str, error: BaseException) -> None:
        self.state = RunState.replay(self.state.events[: self._stored])
        self.failed = LogFailed(f"{what}: {type(error).__name__}: {error}")
        self.failed.state, self.failed.__cause__ = self.state, error

    async def _tell(self, end: int) -> None:
        """Tell of the events before `end`; those after it are told by whoever has recorded them."""
        cancelled: asyncio.CancelledError | None = None
        while self._told < end:
            self._told += 1
            try:
                await self.observers.tell(self.state.events[self._told - 1])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
        if cancelled is not None:
            raise cancelled
