"""Calls async code from sync code, on one event loop in a background thread. The first call starts it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import os
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import Any, TypeVar

__all__ = ["Blocking", "Caller", "caller", "check_loop", "finish", "is_being_cancelled", "may_wait", "run"]

T = TypeVar("T")

_POLL = 0.1 if sys.platform == "win32" else 1.0
"""Seconds after which the main thread looks for signals again while it waits.

On Windows, nothing else interrupts the wait. Elsewhere, a signal does, but not one that comes just before
it, or to another thread.
"""


def check_loop() -> None:
    """Raise RuntimeError, with the remedy, where no event loop of asyncio runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "agentkit runs on asyncio, and no asyncio loop is running here. In sync code call run_sync; under trio call "
            "`await anyio.to_thread.run_sync(agent.run_sync, prompt)`"
        ) from None


class _Portal:
    """A running event loop and its thread. After a fork, the child process makes its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._ended = False
        self.thread = threading.Thread(target=self._serve, name="agentkit-portal", daemon=True)
        self.thread.start()
        atexit.register(self.close)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._ended:
            with contextlib.suppress(KeyboardInterrupt, SystemExit):  # from a task: its caller gets it, the loop goes on
                self.loop.run_forever()

    def call(self, stop: Callable[[], object]) -> None:
        """Call `stop` in the loop. It does nothing while the program exits, which cancels all tasks anyway."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(stop)

    def close(self) -> None:
        """Cancel all tasks, close all asynchronous generators, and end the thread."""
        if self.pid != os.getpid() or self.loop.is_closed():
            return

        async def end() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            await self.loop.shutdown_asyncgens()
            for _ in range(3):  # a transport that was closed needs another turn of the loop to close its socket
                await asyncio.sleep(0)
            self._ended = True
            self.loop.stop()

        with contextlib.suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(end(), self.loop)
            self.thread.join(timeout=5)
            self.loop.close()


class Caller:
    """Cancel scope of a worker thread: cancels the sync call that the thread is blocked in, or the next one that it makes.

    As with a task, this happens once: the thread's cleanup is not cancelled.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a garbage collection during a sync call may make another one
        self._is_due = False
        self._stops: list[Callable[[], object]] = []

    def give_up(self) -> None:
        """Cancel the sync call in progress, or else the next one."""
        with self._lock:
            stops = [*self._stops]
            self._is_due = not stops
        for stop in stops:
            stop()

    @contextlib.contextmanager
    def waiting(self, stop: Callable[[], object]) -> Iterator[None]:
        """Register a sync call while it waits. `stop` cancels it: immediately, if the thread was given up before."""
        with self._lock:
            self._stops.append(stop)
            is_due, self._is_due = self._is_due, False
        if is_due:
            stop()
        try:
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)


caller: contextvars.ContextVar[Caller | None] = contextvars.ContextVar("agentkit_caller", default=None)
"""The cancel scope of this worker thread, or None in any other thread."""

_lock = threading.RLock()
_portal: _Portal | None = None


class Blocking:
    """Marks code that other code waits for: the callback of a delta, or a sync call inside a running event loop.

    Between `__enter__` and `__exit__`, `may_wait()` is False in the marked code and in the tasks and threads that it starts.
    Afterwards they may wait again. A `Blocking` can be entered several times, but not concurrently.
    """

    __slots__ = ("_token", "is_active", "parent")

    def __init__(self) -> None:
        self.parent: Blocking | None = None
        self.is_active = False

    def __enter__(self) -> None:
        parent = _blocking.get()
        if parent is not self:
            self.parent = parent
        self._token, self.is_active = _blocking.set(self), True

    def __exit__(self, *_: object) -> None:
        self.is_active = False
        with contextlib.suppress(ValueError):  # a garbage-collected coroutine is closed in another context
            _blocking.reset(self._token)


def is_being_cancelled() -> bool:
    """Whether this task is being cancelled. If not, a CancelledError comes from code that the task called."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


_blocking: contextvars.ContextVar[Blocking | None] = contextvars.ContextVar("agentkit_blocking", default=None)


def may_wait() -> bool:
    """Whether this code may wait until another model call ends.

    False if the other call may be waiting for this code: this code runs in its callback, or blocks its event loop.
    """
    blocking = _blocking.get()
    while blocking is not None and not blocking.is_active:
        blocking = blocking.parent
    return blocking is None


def _current() -> _Portal:
    global _portal, _lock
    if _portal is not None and _portal.pid != os.getpid():
        _lock = threading.RLock()  # another thread may have held it when the process was forked
        _portal = None
    with _lock:
        if _portal is None:
            _portal = _Portal()
        return _portal


def run(coroutine: Coroutine[Any, Any, T], blocking: Blocking | None = None) -> T:
    """Run the coroutine in the background loop, with the caller's context variables, and return its value.

    It works in scripts, in threads, after a fork, and inside a running event loop. It blocks that loop until the coroutine
    ends, with a RuntimeWarning except in notebooks. `blocking` then marks the coroutine and its tasks; several calls for one
    task share it. Ctrl-C, or an exception of another signal handler, cancels the coroutine and is raised after the coroutine
    has ended. In a worker thread that is given up, the coroutine is cancelled and CancelledError is raised.
    Raises RuntimeError in the background loop itself, where it would wait forever, and while the program exits.
    """
    portal = _current()
    if threading.current_thread() is portal.thread or portal.loop.is_closed():
        coroutine.close()
        if portal.loop.is_closed():
            raise RuntimeError("a sync call while the program exits: agentkit's event loop has ended")
        raise RuntimeError("a sync call inside agentkit's own event loop would wait for itself; use the async method")
    mark: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if asyncio._get_running_loop() is not None:
        _warn_of_blocked_loop(coroutine)
        mark = blocking or Blocking()
    with mark:
        return _run(portal, coroutine)


def _run(portal: _Portal, coroutine: Coroutine[Any, Any, T]) -> T:
    done: Future[T] = Future()
    context = contextvars.copy_context()
    tasks: list[asyncio.Task[T]] = []

    def start() -> None:
        if done.done():  # cancelled before it began
            return
        task = portal.loop.create_task(coroutine, context=context)
        tasks.append(task)
        task.add_done_callback(lambda ended: _hand_over(ended, done))

    def stop() -> None:
        for task in tasks:
            task.cancel()
        if not tasks:  # `start` has not run yet
            coroutine.close()
            with contextlib.suppress(InvalidStateError):  # stopped twice
                done.set_exception(asyncio.CancelledError())

    cancel = partial(portal.call, stop)
    try:
        with (caller.get() or Caller()).waiting(cancel):
            portal.loop.call_soon_threadsafe(start)
            return _wait(done)
    except BaseException:
        if not done.done():
            cancel()
            with contextlib.suppress(BaseException):
                _wait(done)
        raise


def _warn_of_blocked_loop(coroutine: Coroutine[Any, Any, object]) -> None:
    """Warn the caller of the sync method, except in a notebook, whose cells always run inside a loop."""
    notebook = sys.modules.get("IPython")
    if notebook is not None and notebook.get_ipython() is not None:
        return
    text = "a sync call inside a running event loop blocks that loop until it returns; use the async method and await it"
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=4)
    except RuntimeWarning:  # the program turns warnings into errors
        coroutine.close()
        raise


def finish(coroutine: Coroutine[Any, Any, object], seconds: float) -> None:
    """Run a cleanup coroutine in the background loop, and wait for its end, for at most `seconds`.

    A garbage collection may call this, in any thread and at any time. So it never raises the coroutine's errors. It does not
    wait where that could not end: in the background loop itself, in a forked process, and while the program exits.
    """
    portal = _portal
    if portal is None or portal.pid != os.getpid() or portal.loop.is_closed():
        coroutine.close()
        return
    ended = threading.Event()

    def start() -> None:
        portal.loop.create_task(coroutine).add_done_callback(end)

    def end(task: asyncio.Task[object]) -> None:
        ended.set()
        if not task.cancelled():
            task.exception()

    try:
        portal.loop.call_soon_threadsafe(start)
    except RuntimeError:  # the loop was closed just now
        coroutine.close()
        return
    if threading.current_thread() is not portal.thread:
        ended.wait(seconds)


def _hand_over(task: asyncio.Task[T], done: Future[T]) -> None:
    if task.cancelled():
        done.set_exception(asyncio.CancelledError())
        return
    error = task.exception()
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


def _wait(done: Future[T]) -> T:
    while True:
        try:
            return done.result(_POLL)
        except TimeoutError:
            if done.done():
                raise
