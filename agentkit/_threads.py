"""Worker threads for the sync functions of one run.

asyncio's own executor has cores + 4 threads, so twenty blocked tools would queue in it, and it holds the interpreter back at
exit until a hung tool returns. These are daemon threads. They belong to one run, and end with it.
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
    """As many threads as functions run at the same time. Each is kept for the next function until `close`.

    The oldest idle thread comes first, so functions that run one after another all run in the same thread. Not thread-safe:
    it is used from one event loop at a time.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[int, _Inbox]] = []
        """A heap: the inboxes of idle threads, by the number of their thread."""
        self._started = 0
        self._closed = False

    async def run(self, fn: Callable[[], T]) -> T:
        """What `fn()` returns or raises, run in a thread with the caller's context variables.

        When the caller is cancelled, the thread goes on to its end (a thread cannot be stopped), its result is dropped, and
        it gets no other function. Only a `run_sync` that it waits in ends: it raises CancelledError there.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()
        within = Caller()
        context.run(caller.set, within)
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
            except (StopIteration, GeneratorExit) as stop:  # a future cannot hold the one, and the other would end who awaits
                error = RuntimeError(f"the function raised {stop!r}")
                error.__cause__ = stop
            except BaseException as raised:  # noqa: BLE001  the awaiting task gets it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        inbox.put(job)
        try:
            return await done
        except asyncio.CancelledError:
            if done.cancelled():  # else the function itself raised it
                within.give_up()
                inbox.put(None)
            raise

    def close(self) -> None:
        """End the idle threads now, and each of the others when its function has returned."""
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
    """Do the jobs of an inbox until None comes. It does not reference the `Threads`, so these can be garbage-collected."""
    job = inbox.get()
    while job is not None:
        job()
        job = None  # what it holds is free while this thread waits
        job = inbox.get()
