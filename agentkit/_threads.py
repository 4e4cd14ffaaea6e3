"""Worker threads for the sync functions of one run.

asyncio's own executor has only cores + 4 threads, so twenty blocked tools would queue in it. At exit, it makes the interpreter
wait for a hung tool. The threads here are daemon threads. A run has its threads for itself until it ends. Then other runs use
them, since starting a thread costs as much as a step.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias, TypeVar

from ._sync import Caller, caller

__all__ = ["Threads"]

T = TypeVar("T")
_Inbox: TypeAlias = "SimpleQueue[Callable[[], None] | None]"
_KEPT = 5.0
"""Seconds that a spare thread waits for the next run."""
_MAX_SPARE = 32


class Threads:
    """The threads of one run: as many as functions run concurrently. It keeps idle threads until `close`.

    The oldest idle thread is used first, so functions that run one after another all run in the same thread. The pool is not
    thread-safe: use it from one event loop at a time.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[int, _Inbox]] = []
        """A heap of the idle threads: their numbers and inboxes."""
        self._started = 0
        self._closed = False

    async def run(self, fn: Callable[[], T]) -> T:
        """Call `fn()` in a thread, with the caller's context variables, and return its value.

        If the caller is cancelled, the function runs on, because a thread cannot be stopped. Its result is dropped, and the
        thread is not used again. But a `run_sync` in which the function waits is cancelled and raises CancelledError.
        """
        return await self.start(fn)

    def start(self, fn: Callable[[], T]) -> asyncio.Future[T]:
        """As `run`, but return the future instead of waiting for it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()
        scope = Caller()
        context.run(caller.set, scope)
        number, inbox = self._take()

        def settle(result: T | None, error: BaseException | None) -> None:
            if done.done():
                return
            self._give_back(number, inbox)
            if error is None:
                done.set_result(result)  # type: ignore[arg-type]
            else:
                done.set_exception(error)

        def job() -> None:
            result, error = _called(lambda: context.run(fn))
            with contextlib.suppress(RuntimeError):  # the loop has ended, so nothing waits for the result
                loop.call_soon_threadsafe(settle, result, error)

        def left(done: asyncio.Future[T]) -> None:
            if done.cancelled():  # else the function itself raised it
                scope.give_up()
                inbox.put(None)

        done.add_done_callback(left)
        inbox.put(job)
        return done

    def close(self) -> None:
        """Give the threads back: idle threads now, and each other thread when its function has returned."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].put(None)

    def __del__(self) -> None:
        self.close()

    def _take(self) -> tuple[int, _Inbox]:
        if self._idle:
            return heapq.heappop(self._idle)
        self._started += 1
        return self._started, _spare.take()

    def _give_back(self, number: int, inbox: _Inbox) -> None:
        if self._closed:
            inbox.put(None)
        else:
            heapq.heappush(self._idle, (number, inbox))


def _called(fn: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """The function's value, or its error as a future can pass it on."""
    try:
        return fn(), None
    except (StopIteration, GeneratorExit) as stop:
        error = RuntimeError(f"the function raised {stop!r}")
        error.__cause__ = stop
        return None, error
    except BaseException as raised:  # noqa: BLE001  the awaiting task gets it
        return None, raised


class _Spare:
    """Threads that no run has. A few are kept for some seconds."""

    def __init__(self) -> None:
        self.inboxes: deque[_Inbox] = deque()

    def take(self) -> _Inbox:
        """The inbox of a thread: the spare one that was used last, or a new one."""
        try:
            return self.inboxes.pop()
        except IndexError:
            inbox: _Inbox = SimpleQueue()
            threading.Thread(target=_work, args=(inbox, self.inboxes), name="agentkit-tool", daemon=True).start()
            return inbox


def _work(inbox: _Inbox, spare: deque[_Inbox]) -> None:
    """Run the jobs of an inbox. After None, which ends a run, the thread is spare for a while."""
    job = inbox.get()
    while True:
        while job is not None:
            job()
            job = None  # so that what it references is freed while this thread waits
            job = inbox.get()
        if len(spare) >= _MAX_SPARE:
            return
        spare.append(inbox)
        try:
            job = inbox.get(timeout=_KEPT)
        except Empty:
            try:
                spare.remove(inbox)
            except ValueError:  # a run has just taken it, and its job is on the way
                job = inbox.get()
            else:
                return


_spare = _Spare()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_spare.inboxes.clear)  # the threads are in the parent
