"""A run that is watched: an asynchronous iterator over its events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic

from ._typing import OutputT
from .events import Event
from .run import RunResult
from .spec import Observer

__all__ = ["RunStream"]

_ROOM = 256
"""Events that may wait for a slow watcher; then the run waits for the watcher."""


class _Channel:
    """Events on their way from the run to whoever iterates. It knows neither of them, so both can go."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def __call__(self, event: Event) -> Awaitable[None] | None:
        self.events.append(event)
        self.wake()
        return None if len(self.events) < _ROOM else self._wait_for_room()

    async def _wait_for_room(self) -> None:
        while len(self.events) >= _ROOM:
            if self._writer is None or self._writer.done():
                self._writer = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writer)

    def wake(self, _task: Any = None) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def take(self) -> Event:
        event = self.events.popleft()
        if self._writer is not None and not self._writer.done() and len(self.events) < _ROOM // 2:
            self._writer.set_result(None)
        return event

    async def changed(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        await self._reader


class RunStream(Generic[OutputT]):
    """Iterate over it with `async for`; the run begins with the first event that is asked for.

    The last event is `RunFinished` or `RunPaused` and has `.result`, as has the stream. What ends the run with an error is
    raised in its place, after the events before it. Leaving the loop, or dropping the stream, cancels the run; to be sure
    that it has ended, use `async with agent.stream(...) as stream` or `await stream.aclose()`.
    """

    def __init__(self, start: Callable[[Observer], Awaitable[RunResult[OutputT]]]) -> None:
        self._start = start
        self._channel = _Channel()
        self._task: asyncio.Task[RunResult[OutputT]] | None = None
        self._closed = False

    def __aiter__(self) -> RunStream[OutputT]:
        return self

    async def __anext__(self) -> Event:
        """The next event."""
        event = await self.next_event()
        if event is None:
            raise StopAsyncIteration
        return event

    async def next_event(self) -> Event | None:
        """The next event, or None after the last."""
        channel = self._channel
        if self._task is None and not self._closed:
            self._task = asyncio.ensure_future(_await(self._start(channel)))
            self._task.add_done_callback(channel.wake)
        while not channel.events:
            if self._task is None or self._closed:
                return None
            if self._task.done():
                self._closed = True
                if not self._task.cancelled():
                    self._task.result()
                return None
            await channel.changed()
        return channel.take()

    @property
    def result(self) -> RunResult[OutputT]:
        """The run's result, once it has ended. Raises RuntimeError before, and what ended the run if it failed."""
        if self._task is None or not self._task.done():
            raise RuntimeError("the run has not ended yet; iterate over the stream to its end first")
        return self._task.result()

    async def cancel(self) -> None:
        """Cancel the run and wait until it has ended; the events so far, and its last, can still be iterated over."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Cancel the run if it is still going on, and drop the events that nobody has taken."""
        await self.cancel()
        self._closed = True
        self._channel.events.clear()
        if self._task is not None and not self._task.cancelled():
            self._task.exception()  # an error that nobody asked for is not reported as lost

    async def __aenter__(self) -> RunStream[OutputT]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        task = self._task
        if task is None:
            return
        if not task.done() and not task.get_loop().is_closed():
            task.add_done_callback(_take_error)
            task.get_loop().call_soon_threadsafe(task.cancel)
        elif task.done():
            _take_error(task)


def _take_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def _await(run: Awaitable[RunResult[OutputT]]) -> RunResult[OutputT]:
    return await run
