"""A run as an iterator over its events, for async and sync code."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import Any, Generic

from .. import _sync as portal
from .._typing import OutputT
from ..events import Event, LastingEvent, RunFinished
from .observers import Observer
from .result import RunResult

__all__ = ["RunStream", "SyncRunStream"]

_MAX_QUEUED = 256
"""Events that may be queued for a slow consumer. When the queue is full, the run waits for the consumer."""
_CLOSING = 5.0
"""Max seconds to wait for the end of a cancelled run. Calls in flight get the first `tasks.GRACE` seconds to clean up."""


class _Channel:
    """Bounded queue between a run and its consumer. It references neither, so both can be garbage-collected."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.last: Event | None = None
        self.is_released = False
        self._room: float = _MAX_QUEUED
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def __call__(self, event: Event) -> Awaitable[None] | None:
        self.events.append(event)
        self.last = event
        self.wake()
        is_lasting = isinstance(event, LastingEvent)  # the state holds these anyway, and a run must not wait when it ends
        return None if is_lasting or len(self.events) < self._room else self._wait_for_room()

    async def _wait_for_room(self) -> None:
        while len(self.events) >= self._room:
            if self._writer is None or self._writer.done():
                self._writer = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writer)

    def wake(self, _task: Any = None) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def release(self) -> None:
        """Let the run no longer wait for its consumer."""
        self.is_released, self._room = True, inf
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def take(self) -> Event:
        event = self.events.popleft()
        if self._writer is not None and not self._writer.done() and len(self.events) < _MAX_QUEUED // 2:
            self._writer.set_result(None)
        return event

    async def changed(self) -> None:
        if self._reader is not None and not self._reader.done():
            raise RuntimeError("two tasks iterate over one stream; give each its own run, or pass the events on to the second")
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader


class _Consumer:
    """The task that iterates over a stream. If it is cancelled anywhere, the run is cancelled too."""

    def __init__(self, run: asyncio.Task[Any], channel: _Channel) -> None:
        self._run, self._channel = run, channel
        self._task: weakref.ref[asyncio.Task[Any]] | None = None  # the task's frames may hold the stream
        run.add_done_callback(self._forget_task)

    def set_task(self, task: asyncio.Task[Any] | None) -> None:
        """Remember the iterating task. Another task may continue with a stream."""
        if task is None or (self._task is not None and self._task() is task) or self._run.done():
            return
        self._forget_task()
        self._task = weakref.ref(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            _give_up(self._run, self._channel)

    def _forget_task(self, _run: object = None) -> None:
        task = self._task() if self._task is not None else None
        if task is not None:
            task.remove_done_callback(self._ended)


class RunStream(Generic[OutputT]):
    """Iterate over it with `async for`. The run begins when the first event is requested.

    The last event is `RunFinished` or `RunPaused`. It has `.result`, and so has the stream. If an error ends the run, it is
    raised after the last event before it.

    The run is cancelled when the iterating task is cancelled, and when the stream is dropped, as after a `break`. A cancelled
    task waits until the run has ended, for at most 5 seconds. After a `break`, only `async with agent.stream(...) as stream`
    and `await stream.aclose()` wait for the end.
    """

    def __init__(self, start: Callable[[Observer], Awaitable[RunResult[OutputT]]]) -> None:
        self._start = start
        self._channel = _Channel()
        self._task: asyncio.Task[RunResult[OutputT]] | None = None
        self._consumer: _Consumer | None = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return _Iteration(self)

    async def __anext__(self) -> Event:
        """The next event."""
        if self._consumer is not None:
            self._consumer.set_task(asyncio.current_task())
        if self._channel.events:
            return self._channel.take()
        event = await self.next_event()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next_event(self) -> Event | None:
        """The next event, or None after the last."""
        channel = self._channel
        if self._task is None and not self._closed:
            portal.check_loop()
            self._task = asyncio.ensure_future(_begin(self._start, channel))
            self._task.add_done_callback(channel.wake)
            self._consumer = _Consumer(self._task, channel)
            self._consumer.set_task(asyncio.current_task())
            # the finalizer references the task, so that a running task is not collected together with its stream
            weakref.finalize(self, _drop, self._task, channel).atexit = False
        while not channel.events:
            if self._task is None or self._closed:
                return None
            if self._task.done():
                self._closed = True
                if not self._task.cancelled():
                    self._task.result()
                return None
            try:
                await channel.changed()
            except asyncio.CancelledError:
                _give_up(self._task, channel)
                await asyncio.wait([self._task], timeout=_CLOSING)
                raise
        return channel.take()

    @property
    def result(self) -> RunResult[OutputT]:
        """The result of the run. Raises RuntimeError while the run goes on, and the run's own error if it failed."""
        if self._task is None or not self._task.done():
            raise RuntimeError("the run has not ended yet; iterate over the stream to its end first")
        last = self._channel.last
        if self._task.cancelled() and isinstance(last, RunFinished):
            result: RunResult[OutputT] = last.result
            return result
        return self._task.result()

    async def cancel(self) -> None:
        """Cancel the run and wait until it has ended. Its remaining events can still be iterated over."""
        if self._task is None:
            self._closed = True
        elif not self._task.done():
            _give_up(self._task, self._channel)
            await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Cancel the run unless it has ended, wait for its end, and drop its remaining events."""
        await self.cancel()
        self._closed = True
        self._channel.events.clear()
        if self._task is not None and not self._task.cancelled():
            self._task.exception()  # retrieved, so that asyncio does not warn that it was never retrieved

    async def __aenter__(self) -> RunStream[OutputT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Iteration:
    """One loop over a stream. Whoever leaves the loop drops it, and the run ends, also where the stream is still held."""

    def __init__(self, stream: RunStream[Any]) -> None:
        self._stream = stream

    def __aiter__(self) -> _Iteration:
        return self

    def __anext__(self) -> Awaitable[Event]:
        return self._stream.__anext__()

    def __del__(self) -> None:
        stream = self._stream
        if stream._task is not None:
            _drop(stream._task, stream._channel)


def _drop(task: asyncio.Task[Any], channel: _Channel) -> None:
    """Cancel the run of a garbage-collected stream. Any thread may call it."""
    if task.done():
        _take_error(task)
    else:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            task.get_loop().call_soon_threadsafe(_give_up, task, channel)


def _take_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _give_up(run: asyncio.Task[Any], channel: _Channel) -> None:
    """Cancel the run, but only once: a second cancellation would interrupt the cleanup of its calls.

    Its last events do not wait for the consumer, and asyncio does not warn about an error that it still raises.
    """
    if not channel.is_released and not run.done():
        channel.release()
        run.add_done_callback(_take_error)
        run.cancel()


async def _begin(start: Callable[[Observer], Awaitable[RunResult[OutputT]]], channel: _Channel) -> RunResult[OutputT]:
    return await start(channel)


class SyncRunStream(Generic[OutputT]):
    """A `RunStream` for sync code. Iterate over it with `for`; the run is driven in the background event loop.

    The run is cancelled when the stream is dropped, as after a `break`. `close` and `with` also wait for its end.
    """

    def __init__(self, stream: RunStream[OutputT]) -> None:
        self._stream = stream
        self._blocking = portal.Blocking()

    def __iter__(self) -> SyncRunStream[OutputT]:
        return self

    def __next__(self) -> Event:
        """The next event."""
        try:
            event = portal.run(self._stream.next_event(), self._blocking)
        except KeyboardInterrupt:
            self.close()
            raise
        if event is None:
            raise StopIteration
        return event

    @property
    def result(self) -> RunResult[OutputT]:
        """The result of the run, as `RunStream.result`."""
        return self._stream.result

    def close(self) -> None:
        """Cancel the run unless it has ended, and wait for its end for at most 5 seconds.

        Any thread may call it, and so may a garbage collection that closes a generator which uses the stream. In the thread of
        the background loop it does not wait, because the run could not end meanwhile.
        """
        self._stream._closed = True
        if self._stream._task is not None:
            portal.finish(self._stream.aclose(), _CLOSING)

    def __enter__(self) -> SyncRunStream[OutputT]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
