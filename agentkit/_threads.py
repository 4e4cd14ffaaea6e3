"""Worker threads for the sync functions of one run.

asyncio's own executor has only cores + 4 threads, so twenty blocked tools would queue in it. At exit, it makes the interpreter
wait for a hung tool. The threads here are daemon threads that belong to one run and end with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

from ._sync import Caller, caller

__all__ = ["Threads"]

T = TypeVar("T")
_Inbox: TypeAlias = "SimpleQueue[Callable[[], None] | None]"


class Threads:
    """A pool with as many threads as functions run concurrently. Idle threads are kept for later functions until `close`.

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
            result: T | None = None
            error: BaseException | None = None
            try:
                result = context.run(fn)
            except (StopIteration, GeneratorExit) as stop:  # neither can be passed on through a future
                error = RuntimeError(f"the function raised {stop!r}")
                error.__cause__ = stop
            except BaseException as raised:  # noqa: BLE001  the awaiting task gets it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended, so nothing waits for the result
                loop.call_soon_threadsafe(settle, result, error)

        inbox.put(job)
        try:
            return await done
        except asyncio.CancelledError:
            if done.cancelled():  # else the function itself raised it
                scope.give_up()
                inbox.put(None)
            raise

    def close(self) -> None:
        """End idle threads now, and each other thread when its function has returned."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].put(None)

    def __del__(self) -> None:
        self.close()

    def _take(self) -> tuple[int, _Inbox]:
        if self._idle:
            return heapq.heappop(self._idle)
        self._started += 1
        inbox: _Inbox = SimpleQueue()
        threading.Thread(target=_work, args=(inbox,), name="agentkit-tool", daemon=True).start()
        return self._started, inbox

    def _give_back(self, number: int, inbox: _Inbox) -> None:
        if self._closed:
            inbox.put(None)
        else:
            heapq.heappush(self._idle, (number, inbox))


def _work(inbox: _Inbox) -> None:
    """Run the jobs of an inbox until None comes. It does not reference the `Threads`, which can be garbage-collected."""
    job = inbox.get()
    while job is not None:
        job()
        job = None  # so that what it references is freed while this thread waits
        job = inbox.get()
