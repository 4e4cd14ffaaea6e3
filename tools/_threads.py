"""Work in a daemon thread of its own, awaited from an event loop, and given up when the caller is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["Slots", "in_own_loop", "in_thread"]

T = TypeVar("T")


class Slots:
    """Bounds how many threads run at once."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._free = threading.Semaphore(number)

    def take(self) -> None:
        """Take a slot; raises BlockingIOError when none is free."""
        if not self._free.acquire(blocking=False):
            raise BlockingIOError(f"{self.number} are running already")

    def release(self) -> None:
        """Give it back."""
        self._free.release()


async def in_thread(work: Callable[[], T], *, slots: Slots | None = None) -> T:
    """What `work()` returns or raises. A caller that is cancelled leaves the thread to itself, which keeps its slot."""
    if slots:
        slots.take()
    done: Future[T] = Future()

    def run() -> None:
        try:
            _settle(done, work)
        finally:
            if slots:
                slots.release()

    threading.Thread(target=run, name="agentkit-tools", daemon=True).start()
    return await asyncio.wrap_future(done)


async def in_own_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What the coroutine returns or raises; it runs in an event loop of its own, in a thread.

    It is for work that a stranger's input can make long: the caller's loop goes on meanwhile. When the caller is
    cancelled, so is the coroutine.
    """
    done: Future[T] = Future()

    async def main() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def cancel(future: Future[T]) -> None:
            if future.cancelled() and task:
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(task.cancel)

        done.add_done_callback(cancel)
        return await work()

    threading.Thread(target=lambda: _settle(done, lambda: asyncio.run(main())), name="agentkit-tools", daemon=True).start()
    return await asyncio.wrap_future(done)


def _settle(done: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  the caller gets it
        with suppress(InvalidStateError):  # cancelled: there is no caller any more
            done.set_exception(error)
    else:
        with suppress(InvalidStateError):
            done.set_result(result)
