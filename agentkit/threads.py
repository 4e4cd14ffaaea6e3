"""Threads for sync tools: as many as run at once, kept a while for the next call, never joined at exit.

asyncio's own executor has cores + 4 threads, which makes twenty waiting tools queue, and holds the interpreter back at
exit until a hung tool returns. These are daemon threads, and a tool that overran its time blocks nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias, TypeVar

from .portal import Caller, caller

__all__ = ["Threads", "Waiting"]

T = TypeVar("T")
_Job: TypeAlias = Callable[[], None]
_Inbox: TypeAlias = SimpleQueue[_Job | None]


class Waiting(deque[_Inbox]):
    """The inboxes of idle threads; `is_over` when nobody will give them a job any more."""

    is_over = False


class Threads:
    """A set of worker threads that grows with the calls under way and shrinks after `idle` seconds without work."""

    def __init__(self, *, idle: float = 5.0) -> None:
        self._idle_seconds = idle
        self._waiting = Waiting()
        self._pid = os.getpid()

    async def run(self, fn: Callable[[], T]) -> T:
        """What `fn()` returns or raises, run in a thread with the caller's context variables.

        When the caller is cancelled the thread goes on to its end (a thread cannot be stopped) and its result is dropped.
        Only a run that it waits for ends: `run_sync` raises CancelledError in it.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()
        within = Caller()
        context.run(caller.set, within)

        def settle(result: T | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)  # type: ignore[arg-type]
            else:
                done.set_exception(error)

        def job() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = context.run(fn)
            except (StopIteration, GeneratorExit) as stop:  # a future cannot hold the one, and the other would end who awaits
                error = RuntimeError(f"the function raised {stop!r}")
                error.__cause__ = stop
            except BaseException as raised:  # noqa: BLE001  the awaiting task gets it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        self._start(job)
        try:
            return await done
        except asyncio.CancelledError:
            within.give_up()
            raise

    def _start(self, job: _Job) -> None:
        if self._pid != os.getpid():  # after a fork the other process's threads are not here
            self._waiting, self._pid = Waiting(), os.getpid()
        try:
            self._waiting.pop().put(job)
        except IndexError:
            inbox: _Inbox = SimpleQueue()
            inbox.put(job)
            arguments = (inbox, self._waiting, self._idle_seconds)
            threading.Thread(target=_work, args=arguments, name="agentkit-tool", daemon=True).start()

    def __del__(self) -> None:
        waiting = self._waiting
        waiting.is_over = True
        while self._pid == os.getpid() and waiting:
            with contextlib.suppress(IndexError):
                waiting.pop().put(None)


def _work(inbox: _Inbox, waiting: Waiting, idle: float) -> None:
    """Do the jobs of an inbox until none comes for `idle` seconds, or None, which ends the thread.

    It does not know the `Threads`, so that these can go, and end their idle threads.
    """
    job = inbox.get()
    while job is not None:
        job()
        job = None  # what it holds is free while this thread waits
        waiting.append(inbox)
        if waiting.is_over:
            return
        try:
            job = inbox.get(timeout=idle)
        except Empty:
            try:
                waiting.remove(inbox)
            except ValueError:  # taken by a caller just now: its job is on the way
                job = inbox.get()
