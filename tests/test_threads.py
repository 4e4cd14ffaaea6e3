"""Sync functions in threads: context, errors, cancellation, growth, the same thread for all, and their end."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import (
    Agent,
    Limits,
    Middleware,
    RunContext,
    ScriptedModel,
    ToolCall,
    tool,
)
from agentkit._sync import Caller
from agentkit._threads import Threads
from agentkit.middleware import NextToolCall
from agentkit.testing import call
from tests.kit import tool_texts

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


def test_functions_one_after_another_run_in_one_thread_whatever_they_raise() -> None:
    async def main() -> set[int]:
        threads, ids = Threads(), set[int]()

        def fail(error: BaseException) -> None:
            ids.add(threading.get_ident())
            raise error

        for error in (ValueError("x"), asyncio.CancelledError("mine"), SystemExit(3), StopIteration(3)) * 5:
            ids.add(await threads.run(threading.get_ident))
            with pytest.raises((type(error), RuntimeError)):
                await threads.run(functools.partial(fail, error))
        return ids

    assert len(asyncio.run(main())) == 1


def test_after_functions_that_ran_together_it_is_the_first_thread_again() -> None:
    together = threading.Barrier(5, timeout=30)

    def meet() -> threading.Thread:
        together.wait()
        return threading.current_thread()

    async def main() -> None:
        threads = Threads()
        first = await threads.run(threading.current_thread)
        for _ in range(3):
            met = await asyncio.gather(*(threads.run(meet) for _ in range(5)))
            assert len({*met}) == 5 and met[0] is first
            assert [await threads.run(threading.current_thread) for _ in range(3)] == [first] * 3

    asyncio.run(main())


def test_fifty_calls_run_at_once() -> None:
    together = threading.Barrier(50, timeout=30)

    async def main() -> None:
        threads = Threads()
        places = await asyncio.gather(*(threads.run(together.wait) for _ in range(50)))
        assert sorted(places) == list(range(50))

    asyncio.run(main())


@pytest.mark.parametrize("end", ["close", "del"])
def test_idle_threads_end_with_their_run(end: str) -> None:
    async def main() -> list[threading.Thread]:
        threads, together = Threads(), threading.Barrier(3, timeout=30)

        def meet() -> threading.Thread:
            together.wait()
            return threading.current_thread()

        met = await asyncio.gather(*(threads.run(meet) for _ in range(3)))
        assert all(thread.is_alive() for thread in met)
        if end == "close":
            threads.close()
        else:
            del threads
        for thread in met:
            await asyncio.to_thread(thread.join, 10)
        return met

    assert not any(thread.is_alive() for thread in asyncio.run(main()))


def test_a_function_that_outlives_close_comes_back_and_its_thread_ends() -> None:
    started, release = threading.Event(), threading.Event()

    def work() -> threading.Thread:
        started.set()
        release.wait(30)
        return threading.current_thread()

    async def main() -> None:
        threads = Threads()
        task = asyncio.create_task(threads.run(work))
        await asyncio.to_thread(started.wait, 30)
        threads.close()
        release.set()
        thread = await task
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()

    asyncio.run(main())


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
        threads = Threads()
        task = asyncio.create_task(threads.run(hang))
        await asyncio.to_thread(started.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not ended.is_set()
        others = [await threads.run(threading.current_thread) for _ in range(3)]
        assert len({*others}) == 1 and others[0] not in workers, "the next functions share another thread"
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
        task = asyncio.create_task(Threads().run(hang))
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


# --- in a run -------------------------------------------------------------------------------------


class Calls:
    """Sync tools with each label, which note the threads that they run in."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        options: list[tuple[str, dict[str, bool]]] = [
            ("write", {}), ("read", {"read_only": True}), ("scan", {"parallel": True}), ("alone", {"sequential": True}),
        ]  # fmt: skip
        self.tools: list[Any] = [tool(self.query, name=name, **labels) for name, labels in options]  # type: ignore[call-overload]

    def query(self, n: int) -> int:
        """Ask for a number."""
        self.threads.append(threading.current_thread())
        return n


class Database(Calls):
    """The same with a SQLite connection that the first call opens. By SQLite's rule, it serves that call's thread only."""

    connection: sqlite3.Connection | None = None

    def query(self, n: int) -> int:
        """Ask for a number; 0 closes the connection."""
        if self.connection is None:
            self.connection = sqlite3.connect(":memory:")
        (found,) = self.connection.execute("select ?", (n,)).fetchone()
        if n == 0:
            self.connection.close()
        return super().query(int(found))


@tool(read_only=True)
def free(n: int) -> int:
    """Do something without the database, beside the others."""
    return n


@tool
async def elsewhere(n: int) -> int:
    """Do something else."""
    await asyncio.sleep(0)
    return n


def asked(names: str) -> list[ToolCall]:
    return [call(name, n=number) for number, name in enumerate(names.split(), 1)]


@pytest.mark.parametrize(
    "replies",
    [
        ["write", "write", "write"],
        ["write write write"],
        ["write", *["free write free free write", "write", "read", "free write free"] * 5],
        ["write", "read", "scan", "write"],
        ["read", "write", "alone", "read"],
        ["elsewhere write elsewhere", "elsewhere read", "read elsewhere"],
        ["write alone write", "read"],
        ["elsewhere", "elsewhere read elsewhere", "write write elsewhere"],
        ["no_such_tool write", "no_such_tool read", "write"],
    ],
)
def test_sync_calls_one_after_another_run_in_one_thread(replies: list[str]) -> None:
    database = Database()
    agent = Agent(
        ScriptedModel([*map(asked, replies), call("read", n=0), "Done."]),
        tools=[*database.tools, free, elsewhere],
        limits=Limits(steps=30),
    )
    wrong = [text for text in tool_texts(agent.run_sync("go")) if not text.isdecimal() and "no_such_tool" not in text]
    assert not wrong
    assert len({*database.threads}) == 1


def test_beside_labelled_calls_the_others_keep_the_runs_thread() -> None:
    together = threading.Barrier(3, timeout=30)
    threads: dict[str, list[threading.Thread]] = {"write": [], "read": []}

    def meet(name: str, wait: bool) -> None:
        """Meet the others."""
        threads[name].append(threading.current_thread())
        if wait:
            together.wait()

    write = tool(lambda wait: meet("write", wait), name="write", description="Write.")
    read = tool(lambda wait: meet("read", wait), name="read", description="Read.", read_only=True)
    mixed = [call("read", wait=True), call("write", wait=True), call("read", wait=True), call("write", wait=False)]
    script: list[Any] = [call("write", wait=False), mixed, call("read", wait=False), "Done."]
    Agent(ScriptedModel(script), tools=[write, read]).run_sync("go")
    own = threads["write"][0]
    assert threads["write"] == [own] * 3
    assert own not in threads["read"][:2] and threads["read"][2] is own


def test_after_a_call_that_timed_out_the_next_ones_share_another_thread() -> None:
    release, threads = threading.Event(), list[threading.Thread]()

    @tool(timeout=0.05)
    def work(hang: bool) -> None:
        """Work."""
        threads.append(threading.current_thread())
        if hang:
            release.wait(30)

    script = [call("work", hang=hang) for hang in (False, True, False, False)]
    try:
        result = Agent(ScriptedModel([*script, "Done."]), tools=[work]).run_sync("go")
        assert ["no result within" in text for text in tool_texts(result)] == [False, True, False, False]
        assert threads[0] is threads[1] and threads[2] is threads[3] and threads[1] is not threads[2]
        assert threads[1].is_alive()
    finally:
        release.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def tool_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "agentkit-tool"}


LAST: dict[str, Any] = {
    "answer": "Done.", "error": LookupError("broken"), "pending_approval": call("ask"), "limit:steps": call("write", n=1),
    "cancelled": call("hang"),
}  # fmt: skip


@pytest.mark.parametrize("ending", LAST)
def test_the_threads_of_a_run_end_with_it(ending: str) -> None:
    @tool(approval=True)
    def ask() -> None:
        """Wait for an approval."""

    @tool
    async def hang() -> None:
        """Hang."""
        hanging.set()
        await asyncio.Event().wait()

    before, calls, hanging = tool_threads(), Calls(), asyncio.Event()
    model = ScriptedModel([asked("write"), asked("read scan"), LAST[ending]])
    agent = Agent(model, tools=[*calls.tools, ask, hang], limits=Limits(steps=3), retry=None)

    async def main() -> set[threading.Thread]:
        task = asyncio.ensure_future(agent.run("go"))
        if ending == "cancelled":
            await hanging.wait()
            assert len(tool_threads() - before) == 2
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return tool_threads() - before

    left = asyncio.run(main())
    assert len({*calls.threads}) == 2
    for thread in left:
        thread.join(30)
        assert not thread.is_alive()


def test_an_agent_inside_a_sync_tool_has_a_thread_of_its_own() -> None:
    inner, outer = Calls(), Calls()
    model = ScriptedModel(lambda request: "Helped." if len(request.messages) > 1 else asked("write write"))
    helper = Agent(model, tools=inner.tools)

    @tool
    def ask(ctx: RunContext[None]) -> str:
        """Ask the helper, from the thread of this run."""
        outer.query(1)
        return helper.run_sync("go", within=ctx).output

    script: list[Any] = [asked("write"), call("ask"), call("helper", task="go"), asked("write"), "Done."]
    agent = Agent(ScriptedModel(script), tools=[*outer.tools, ask, helper.as_tool("helper", "Helps.")])
    assert tool_texts(agent.run_sync("go")) == ["1", "Helped.", "Helped.", "1"]
    assert len({*outer.threads}) == 1 and outer.threads[0] not in inner.threads


def test_a_middleware_that_makes_a_call_twice_at_once_does_not_wait_for_the_runs_thread() -> None:
    together, threads = threading.Barrier(2, timeout=30), list[threading.Thread]()

    class Twice(Middleware):
        async def tool_call(self, call: ToolCall, ctx: RunContext[Any], next: NextToolCall) -> Any:
            first, _ = await asyncio.gather(next(call), next(call))
            return first

    @tool
    def meet() -> None:
        """Meet the other call."""
        threads.append(threading.current_thread())
        together.wait()

    agent = Agent(ScriptedModel([call("meet"), call("meet"), "Done."]), tools=[meet], middleware=[Twice()])
    assert tool_texts(agent.run_sync("go")) == ["null", "null"]
    assert len(threads) == 4 and len({*threads}) == 2
