"""Sync functions in threads: context, errors, cancellation, growth, reuse, fork."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.portal import Caller
from agentkit.threads import Threads, Waiting

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")


def in_threads(fn: Callable[[], object]) -> object:
    async def main() -> object:
        return await Threads().run(fn)

    return asyncio.run(main())


def raising(error: BaseException) -> Callable[[], None]:
    def fn() -> None:
        raise error

    return fn


def test_the_function_runs_in_a_daemon_thread_and_its_value_comes_back() -> None:
    def fn() -> tuple[bool, bool]:
        thread = threading.current_thread()
        return thread is threading.main_thread(), thread.daemon

    assert in_threads(fn) == (False, True)


def test_the_callers_context_variables_are_seen_and_not_changed() -> None:
    def fn() -> str:
        seen = NAME.get()
        NAME.set("changed in the thread")
        return seen

    async def main() -> None:
        threads = Threads()
        NAME.set("ann")
        assert await threads.run(fn) == "ann"
        assert NAME.get() == "ann"
        NAME.set("bob")
        assert await threads.run(fn) == "bob"  # the thread is used again, its context is not

    asyncio.run(main())


@pytest.mark.parametrize("error", [ValueError("x"), TimeoutError("mine"), asyncio.CancelledError("mine"), KeyError()])
def test_an_error_comes_back_as_it_is(error: BaseException) -> None:
    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await Threads().run(raising(error))
        assert caught.value is error

    asyncio.run(main())


@pytest.mark.parametrize("error", [StopIteration(3), GeneratorExit(3)])
def test_what_would_end_the_caller_becomes_a_runtime_error(error: BaseException) -> None:
    with pytest.raises(RuntimeError, match=rf"the function raised {type(error).__name__}\(3\)"):
        in_threads(raising(error))


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), SystemExit(3)])
def test_an_order_to_stop_reaches_the_caller(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        in_threads(raising(error))
    assert caught.value is error


def test_a_thread_is_used_again_and_survives_an_error() -> None:
    async def main() -> set[int]:
        threads = Threads()
        ids = set()

        def fail() -> None:
            ids.add(threading.get_ident())
            raise ValueError("x")

        for _ in range(20):
            ids.add(await threads.run(threading.get_ident))
            with pytest.raises(ValueError, match="x"):
                await threads.run(fail)
            while len(threads._waiting) < len(ids):  # noqa: ASYNC110  a worker puts itself back after its result is on the way
                await asyncio.sleep(0)
        return ids

    assert len(asyncio.run(main())) <= 2  # the second call of a round may come before the first worker is back


def test_fifty_calls_run_at_once() -> None:
    together = threading.Barrier(50, timeout=30)

    async def main() -> None:
        threads = Threads()
        places = await asyncio.gather(*(threads.run(together.wait) for _ in range(50)))
        assert sorted(places) == list(range(50))

    asyncio.run(main())


def test_an_idle_thread_ends() -> None:
    async def main() -> threading.Thread:
        return await Threads(idle=0.01).run(threading.current_thread)

    thread = asyncio.run(main())
    thread.join(10)
    assert not thread.is_alive()


class Contested(Waiting):
    """A deque in which a worker that wants to end comes second to a caller that takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.ending, self.taken = threading.Event(), threading.Event()

    def pop(self) -> Any:  # type: ignore[override]
        item = super().pop()
        self.taken.set()
        return item

    def remove(self, item: Any) -> None:
        self.ending.set()
        self.taken.wait(30)
        super().remove(item)


def test_a_call_that_takes_a_thread_at_its_end_is_run() -> None:
    async def main() -> str:
        threads, contested = Threads(idle=0.0), Contested()
        threads._waiting = contested
        await threads.run(lambda: "first")
        await asyncio.to_thread(contested.ending.wait, 30)
        return await asyncio.wait_for(threads.run(lambda: "second"), 10)

    assert asyncio.run(main()) == "second"


def test_calls_that_meet_the_end_of_idle_threads_are_all_run() -> None:
    async def main() -> list[int]:
        threads = Threads(idle=0.0)
        return [await asyncio.wait_for(threads.run(functools.partial(int, number)), 10) for number in range(300)]

    assert asyncio.run(main()) == list(range(300))


def test_a_cancelled_caller_goes_on_at_once_and_the_thread_to_its_end() -> None:
    started, release, ended = threading.Event(), threading.Event(), threading.Event()
    workers = []

    def hang() -> None:
        workers.append(threading.current_thread())
        started.set()
        release.wait(30)
        ended.set()
        raise ValueError("nobody hears this")

    wrong: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, details: wrong.append(details))
        threads = Threads(idle=0.0)
        task = asyncio.create_task(threads.run(hang))
        await asyncio.to_thread(started.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not ended.is_set()
        assert await threads.run(lambda: "another thread") == "another thread"
        release.set()
        await asyncio.to_thread(workers[0].join, 30)  # its late result is in the loop's queue by now, before what follows
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ended.is_set() and not wrong


def test_a_result_after_the_end_of_the_loop_harms_nothing() -> None:
    started, release = threading.Event(), threading.Event()
    workers = []

    def hang() -> None:
        workers.append(threading.current_thread())
        started.set()
        release.wait(30)

    async def main() -> None:
        task = asyncio.create_task(Threads(idle=0.01).run(hang))
        await asyncio.to_thread(started.wait, 30)
        task.cancel()

    asyncio.run(main())
    release.set()
    workers[0].join(10)  # an error in the thread would be a warning, and warnings are errors
    assert not workers[0].is_alive()


def test_one_set_of_threads_serves_several_loops() -> None:
    threads = Threads()

    async def main() -> int:
        return await threads.run(lambda: 3)

    assert [asyncio.run(main()) for _ in range(3)] == [3, 3, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_starts_threads_of_its_own() -> None:
    threads = Threads()

    async def main() -> int:
        return await threads.run(lambda: 7)

    assert asyncio.run(main()) == 7
    deadline = time.monotonic() + 10
    while not threads._waiting and time.monotonic() < deadline:
        time.sleep(0)
    assert threads._waiting  # a thread that the other process will not have
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a hanging child must not outlive the test
        os._exit(asyncio.run(main()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_threads_that_go_end_their_idle_threads() -> None:
    async def main() -> threading.Thread:
        return await Threads(idle=3600).run(threading.current_thread)

    thread = asyncio.run(main())
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_wait_that_is_over_is_not_cancelled() -> None:
    within, stopped = Caller(), list[int]()
    with within.waiting(lambda: stopped.append(1)):
        pass
    within.give_up()
    assert stopped == []
    for _ in range(2):
        with within.waiting(lambda: stopped.append(2)):
            pass
    assert stopped == [2], "the next one, and only that"
