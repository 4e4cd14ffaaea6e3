"""Sync calls: scripts, threads, running loops, forks, Ctrl-C, and the end of a program."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentkit import (
    Agent,
    Assistant,
    AuthError,
    ChatModel,
    ModelReply,
    ModelRequest,
    RunFinished,
    RunResult,
    ScriptedModel,
    TextDelta,
    ToolCall,
    ToolFinished,
    ToolResult,
    ToolStarted,
    tool,
)
from agentkit import _sync as portal
from agentkit.middleware import CancellableCalls
from agentkit.testing import Late, call
from tests.kit import Simulate, unmeasured

ROOT = Path(__file__).parent.parent
NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
PRELUDE = """
    import asyncio, logging, os, signal, sys, threading, time
    from agentkit import Agent, ChatModel, ScriptedModel, RunFinished, TextDelta, tool
    from agentkit.testing import DeepSeekSimulator, call
    logging.getLogger("asyncio").setLevel("ERROR")  # of the debug mode: slow callbacks are not what is tested
"""


@tool
def who() -> str:
    """Who is it?"""
    return NAME.get()


@tool
async def who_async() -> str:
    """Who is it?"""
    return NAME.get()


def command(code: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(code)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def script(code: str, expected: int = 0) -> list[str]:
    """The lines that a script prints; it must end soon, without a warning."""
    done = subprocess.run(command(code), capture_output=True, text=True, timeout=10, env=environment(), check=False)
    assert done.stderr == ""
    assert done.returncode == expected
    return done.stdout.splitlines()


def scripted(*script: Any, **options: Any) -> Agent[Any]:
    return Agent(ScriptedModel(list(script)), retry=None, **options)


# --- scripts: real processes, warnings as errors --------------------------------------------------


def test_a_script_with_runs_and_streams_over_http_ends_by_itself() -> None:
    assert script("""
        with DeepSeekSimulator("echo") as sim:
            agent = Agent(ChatModel(base_url=sim.base_url))
            for text in "abc":
                print(agent.run_sync(text).output)
            print("".join(e.text for e in agent.stream_sync("streamed") if isinstance(e, TextDelta)))
            print(threading.active_count() <= 3)
    """) == ["a", "b", "c", "streamed", "True"]


def test_a_stream_that_is_still_held_at_exit() -> None:
    assert script("""
        sim = DeepSeekSimulator(["a long answer"]).start()
        stream = Agent(ChatModel(base_url=sim.base_url)).stream_sync("go")
        print(type(next(stream)).__name__)
    """) == ["RunStarted"]


def test_a_sync_call_at_exit_is_refused() -> None:
    assert script("""
        import atexit
        agent = Agent(ScriptedModel(["a", "b"]))

        def late():
            try:
                agent.run_sync("x")
            except RuntimeError as error:
                print(error)

        atexit.register(late)
        print(agent.run_sync("x").output)
    """) == ["a", "a sync call while the program exits: agentkit's event loop has ended"]


def test_a_hanging_tool_does_not_keep_the_program_from_ending() -> None:
    assert script("""
        started = threading.Event()

        def hang() -> None:
            "Hang."
            started.set()
            threading.Event().wait()

        def work():
            try:
                Agent(ScriptedModel([call("hang")]), tools=[hang]).run_sync("go")
            except asyncio.CancelledError:
                pass

        threading.Thread(target=work, daemon=True).start()
        started.wait()
        print("end")
    """) == ["end"]


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("calls", [1, 2])
def test_sys_exit_in_a_tool_ends_the_program(kind: str, calls: int) -> None:
    assert script(f"""
        {kind} leave() -> None:
            "Leave."
            sys.exit(3)

        Agent(ScriptedModel([[call("leave")] * {calls}]), tools=[leave]).run_sync("go")
    """, expected=3) == []  # fmt: skip


def test_after_sys_exit_was_caught_sync_calls_go_on() -> None:
    assert script("""
        async def leave() -> None:
            "Leave."
            raise SystemExit(3)

        agent = Agent(ScriptedModel([call("leave"), call("leave"), "still here"]), tools=[leave])
        for way in (agent.run_sync, lambda text: list(agent.stream_sync(text))):
            try:
                way("go")
            except SystemExit as error:
                print(error.code)
        print(agent.run_sync("go").output)
    """) == ["3", "3", "still here"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_sync_calls_after_a_fork_in_parent_and_children() -> None:
    assert script("""
        with DeepSeekSimulator("echo") as sim:
            agent = Agent(ChatModel(base_url=sim.base_url), instructions="Be kind.")
            agent.run_sync("parent")
            children = []
            for number in range(3):
                pid = os.fork()
                if pid == 0:
                    right = all(agent.run_sync(f"{number} {turn}").output == f"{number} {turn}" for turn in range(3))
                    os._exit(0 if right else 1)
                children.append(pid)
            print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
            print(agent.run_sync("parent again").output)
    """) == ["[0, 0, 0]", "parent again"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_that_ends_as_usual_is_quiet() -> None:
    assert script("""
        agent = Agent(ScriptedModel(lambda request: request.messages[-1].content))
        agent.run_sync("parent")
        pid = os.fork()
        if pid == 0:
            print(agent.run_sync("child").output, flush=True)
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """) == ["child", "0"]


INTERRUPTED = """
    ended, begun = [], []

    def watch(event):
        if type(event).__name__ == "StepStarted":
            asyncio.get_running_loop().call_later(0.2, {signalled})
            begun.append(time.monotonic())
        if isinstance(event, RunFinished):
            ended.append(event)

    sim = DeepSeekSimulator(["late"], delay=60).start()
    agent = Agent(ChatModel(base_url=sim.base_url))
    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted", [event.stop_reason for event in ended], time.monotonic() - begun[0] < 5)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send SIGINT to one process")
@pytest.mark.parametrize("signalled", ["os.kill, os.getpid(), signal.SIGINT", "signal.raise_signal, signal.SIGINT"])
@pytest.mark.parametrize("call", [
    'agent.run_sync("go", observers=[watch])',
    'list(agent.stream_sync("go", observers=[watch]))',
    'asyncio.run(agent.run("go", observers=[watch]))',
])  # fmt: skip
def test_ctrl_c_cancels_the_run(call: str, signalled: str) -> None:
    """The loop sends the signal itself: `asyncio.run` of CPython misses one that comes just before it waits in `select`.

    `raise_signal` sends it to the thread that calls it, so the wait of the main thread is not interrupted.
    """
    started = command(INTERRUPTED.format(call=call, signalled=signalled))
    ended = subprocess.run(  # the model call would be a minute
        started, capture_output=True, text=True, env=unmeasured(environment()), timeout=30, check=False
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("interrupted ['cancelled'] True\n", "", 0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer signals")
def test_what_a_signal_handler_raises_cancels_the_run() -> None:
    assert script("""
        class TimeLimit(Exception): ...

        ended = []

        def expire(*_):
            raise TimeLimit

        async def wait() -> None:
            "Wait."
            os.kill(os.getpid(), signal.SIGALRM)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        signal.signal(signal.SIGALRM, expire)
        try:
            Agent(ScriptedModel([call("wait")]), tools=[wait]).run_sync("go")
        except TimeLimit:
            print(ended)
    """) == ["['cancelled']"]


# --- running loops, threads, nesting --------------------------------------------------------------


def test_sync_calls_inside_a_running_loop() -> None:
    async def cell() -> list[str]:
        agent = scripted("a", "b", "c")
        *_, streamed = agent.stream_sync("x")
        return [agent.run_sync("x").output, streamed.result.output, (await agent.run("x")).output]  # type: ignore[union-attr]

    with pytest.warns(RuntimeWarning, match="a sync call inside a running event loop blocks that loop") as caught:
        assert asyncio.run(cell()) == ["b", "a", "c"]
    assert {warning.filename for warning in caught} == {__file__}, "it names the caller"


def test_sync_calls_in_a_notebook_do_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for IPython, whose cells run inside an event loop."""
    notebook = types.ModuleType("IPython")
    shell: list[object] = [object()]
    notebook.get_ipython = lambda: shell[0]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", notebook)

    async def cell() -> str:
        return str(scripted("a").run_sync("x").output)

    assert asyncio.run(cell()) == "a"
    shell[0] = None  # it is imported, but nobody is in a notebook
    with pytest.warns(RuntimeWarning, match="blocks that loop"):
        asyncio.run(cell())


def test_a_warning_that_is_an_error_leaves_nothing_behind() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeWarning, match="use the async method and await it"):
            scripted("a").run_sync("x")

    asyncio.run(main())
    gc.collect()  # a coroutine that was never awaited would warn


@pytest.mark.filterwarnings("ignore:a sync call inside a running event loop")
def test_code_that_somebody_waits_for_may_not_wait_and_its_tasks_may_afterwards() -> None:
    seen: dict[str, bool] = {}

    async def later(name: str, go_on: asyncio.Event) -> None:
        seen[f"{name}, task"] = portal.may_wait()
        await go_on.wait()
        seen[f"{name}, task afterwards"] = portal.may_wait()

    async def main() -> None:
        go_on = asyncio.Event()
        seen["outside"] = portal.may_wait()
        with portal.Blocking():
            callback = asyncio.create_task(later("callback", go_on))
            await asyncio.sleep(0)
            with portal.Blocking():
                nested = asyncio.create_task(later("nested", go_on))
                await asyncio.sleep(0)
            seen["callback"] = portal.may_wait()
            seen["sync call"] = portal.run(_may_wait())
        go_on.set()
        await asyncio.gather(callback, nested)
        seen["thread of the loop"] = await asyncio.to_thread(lambda: portal.run(_may_wait()))

    asyncio.run(main())
    may = ("outside", "callback, task afterwards", "nested, task afterwards", "thread of the loop")
    assert {name for name, may_wait in seen.items() if may_wait} == {*may}


async def _may_wait() -> bool:
    return portal.may_wait()


def test_twenty_threads_at_once(simulate: Simulate) -> None:
    sim = simulate()
    agent = Agent(ChatModel(base_url=sim.base_url))
    barrier, outputs = threading.Barrier(20), dict[str, str]()

    def work(text: str) -> None:
        barrier.wait(5)
        outputs[text] = agent.run_sync(text).output

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert outputs == {f"thread {number}": f"thread {number}" for number in range(20)}


def test_the_threads_runs_are_under_way_at_the_same_time() -> None:
    together = threading.Barrier(5)

    @tool
    def meet() -> str:
        """Meet the others."""
        together.wait(5)
        return "met"

    def work() -> None:
        assert scripted(call("meet"), "Done.", tools=[meet]).run_sync("go").messages[2].content == "met"  # type: ignore[union-attr]

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not together.broken
    assert together.n_waiting == 0


@pytest.mark.parametrize("seen", [who, who_async])
def test_tools_see_the_callers_context_variables(seen: Any) -> None:
    def in_context(text: str) -> list[str]:
        NAME.set(text)
        agent = scripted(call(seen.name), "x", call(seen.name), "x", tools=[seen])
        last: Any = list(agent.stream_sync("go"))[-1]
        streamed: RunResult[Any] = last.result
        return [m.content for r in (agent.run_sync("go"), streamed) for m in r.messages if isinstance(m, ToolResult)]

    contexts = {name: contextvars.copy_context() for name in ("ann", "bob")}
    assert {name: context.run(in_context, name) for name, context in contexts.items()} == {
        "ann": ["ann"] * 2,
        "bob": ["bob"] * 2,
    }


def test_a_sync_call_in_a_sync_tool_of_a_sync_run() -> None:
    inner = scripted("inner answer")

    @tool
    def ask() -> str:
        """Ask another agent."""
        output: str = inner.run_sync("x").output
        return output

    result = scripted(call("ask"), "Done.", tools=[ask]).run_sync("go")
    assert [m.content for m in result.messages if m.role == "tool"] == ["inner answer"]


def test_a_sync_call_in_the_portals_own_loop_is_refused() -> None:
    inner = scripted("never")

    @tool
    async def ask() -> str:
        """Ask another agent."""
        output: str = inner.run_sync("x").output
        return output

    result = scripted(call("ask"), "Done.", tools=[ask]).run_sync("go")
    (told,) = [m.content for m in result.messages if m.role == "tool"]
    assert told == (
        "error: RuntimeError: a sync call inside agentkit's own event loop would wait for itself; use the async method"
    )


def test_what_the_coroutine_raises_comes_out() -> None:
    async def fail(error: BaseException) -> None:
        raise error

    for error in (LookupError("x"), TimeoutError("y"), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(2)):
        with pytest.raises(type(error)):
            portal.run(fail(error))

    async def fine() -> str:
        return "fine"

    assert portal.run(fine()) == "fine"


def test_many_runs_leave_no_tasks_and_no_threads() -> None:
    @tool
    def one() -> int:
        """One."""
        return 1

    async def tasks() -> int:
        return len(asyncio.all_tasks()) - 1

    def answer(request: ModelRequest) -> Any:
        return call("one") if request.messages[-1].role == "user" else "Done."

    portal.run(tasks())
    before = set(threading.enumerate())
    agent = Agent(ScriptedModel(answer), tools=[one])
    for _ in range(500):
        agent.run_sync("go")
        for _event in agent.stream_sync("go"):
            break
    assert portal.run(tasks()) == 0
    made = set(threading.enumerate()) - before
    assert len(made) < 50, "a run that was left while its tool was at work may cost a thread, not each run"
    del agent
    gc.collect()
    for thread in made:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in made)


# --- web handlers ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:a sync call inside a running event loop")
def test_fastapi_handlers_sync_and_async(simulate: Simulate) -> None:
    from fastapi import FastAPI

    sim = simulate()
    app, agent = FastAPI(), Agent(ChatModel(base_url=sim.base_url))

    @app.get("/sync")
    def sync_handler(text: str) -> str:
        output: str = agent.run_sync(text).output
        return output

    @app.get("/async")
    async def async_handler(text: str) -> str:
        return (await agent.run(text)).output

    @app.get("/sync-in-loop")
    async def sync_in_loop_handler(text: str) -> str:
        output: str = agent.run_sync(text).output
        return output

    async def main() -> list[Any]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            paths = [f"/{way}?text={way}{n}" for way in ("sync", "async", "sync-in-loop") for n in range(3)]
            return [response.json() for response in await asyncio.gather(*map(client.get, paths))]

    assert asyncio.run(main()) == [f"{way}{n}" for way in ("sync", "async", "sync-in-loop") for n in range(3)]


def test_a_cancelled_waiter_gives_its_connection_back(simulate: Simulate) -> None:
    sim = simulate([Late("late", 30), "on time"])
    agent = Agent(ChatModel(base_url=sim.base_url))

    async def hurried() -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(agent.run("a"), 0.1)
        return (await agent.run("b")).output

    hurry: Coroutine[Any, Any, str] = hurried()
    assert portal.run(hurry) == "on time"


def test_a_run_in_a_thread_ends_with_the_call_that_waits_for_it() -> None:
    calls, ended = CancellableCalls(), threading.Event()
    stops: list[str] = []
    raised: list[asyncio.CancelledError] = []

    @tool
    async def hanging() -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    def watch(event: Any) -> None:
        if isinstance(event, ToolStarted):
            calls.cancel("outer", run_id="r")
        if isinstance(event, RunFinished):
            stops.append(event.stop_reason)

    @tool
    def asking() -> str:
        """Ask another agent, and tidy up."""
        inner = Agent(ScriptedModel([call("hanging")] * 2), tools=[hanging])
        try:
            return inner.run_sync("hi", observers=[watch]).output
        except asyncio.CancelledError as error:
            raised.append(error)
            stops.append(Agent(ScriptedModel(["tidy"])).run_sync("hi").output)
            with inner.stream_sync("hi", observers=[watch]) as stream:
                while not isinstance(next(stream), ToolStarted):
                    pass
            raise
        finally:
            ended.set()

    asked = Assistant(tool_calls=(ToolCall("outer", "asking", "{}"),))
    result = Agent(ScriptedModel([asked, "late"]), tools=[asking], middleware=[calls]).run_sync("hi", run_id="r")
    assert ended.wait(30)
    told = result.new_messages[2]
    assert isinstance(told, ToolResult) and "the call was cancelled" in told.content
    assert stops == ["cancelled", "tidy", "cancelled"] and len(raised) == 1


def test_what_a_thread_waits_for_after_its_call_was_given_up_does_not_begin() -> None:
    calls, go_on, ended = CancellableCalls(), threading.Event(), threading.Event()
    inner = ScriptedModel(["never"])

    def watch(event: Any) -> None:
        if isinstance(event, ToolStarted):
            asyncio.get_running_loop().call_soon(calls.cancel, "outer")
        if isinstance(event, ToolFinished):
            go_on.set()

    @tool
    def asking() -> str:
        """Ask another agent, too late."""
        go_on.wait(30)
        try:
            return Agent(inner).run_sync("hi").output
        finally:
            ended.set()

    asked = Assistant(tool_calls=(ToolCall("outer", "asking", "{}"),))
    Agent(ScriptedModel([asked, "late"]), tools=[asking], middleware=[calls]).run_sync("hi", observers=[watch])
    assert ended.wait(30) and not inner.requests


def test_an_error_comes_out_of_a_sync_call_without_anothers_context() -> None:
    with pytest.raises(AuthError) as caught:
        Agent(ScriptedModel([AuthError("no")])).run_sync("hi")
    assert caught.value.__context__ is None


# --- streams that are abandoned -------------------------------------------------------------------


class Hanging:
    """A model that says one piece and then waits until it is cancelled."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
        try:
            await on_delta(TextDelta("piece"))
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        raise AssertionError


def by_loop(agent: Agent[Any]) -> Iterator[str]:
    for event in agent.stream_sync("go"):
        if isinstance(event, TextDelta):
            yield event.text


def by_with(agent: Agent[Any]) -> Iterator[str]:
    with agent.stream_sync("go") as stream:
        for event in stream:
            if isinstance(event, TextDelta):
                yield event.text


def by_finally(agent: Agent[Any]) -> Iterator[str]:
    stream = agent.stream_sync("go")
    try:
        yield from (event.text for event in stream if isinstance(event, TextDelta))
    finally:
        stream.close()


class InCycle:
    """Garbage that only a collection finds."""

    def __init__(self, held: Any) -> None:
        self.held, self.itself = held, self


def drop_here(garbage: list[Any]) -> None:
    garbage.clear()
    gc.collect()


def drop_in_a_thread(garbage: list[Any]) -> None:
    thread = threading.Thread(target=drop_here, args=(garbage,))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def drop_in_a_loop(garbage: list[Any]) -> None:
    async def drop() -> None:
        drop_here(garbage)

    asyncio.run(drop())


def drop_in_the_portal(garbage: list[Any]) -> None:
    async def drop() -> None:
        drop_here(garbage)

    portal.run(asyncio.wait_for(drop(), 10))


@pytest.mark.parametrize("drop", [drop_here, drop_in_a_thread, drop_in_a_loop, drop_in_the_portal])
@pytest.mark.parametrize("in_cycle", [False, True])
@pytest.mark.parametrize("texts", [by_loop, by_with, by_finally])
def test_a_generator_around_a_stream_can_be_collected_in_any_thread(texts: Any, in_cycle: bool, drop: Any) -> None:
    model = Hanging()
    generator = texts(Agent(model))
    assert next(generator) == "piece"
    garbage: list[Any] = [InCycle(generator) if in_cycle else generator]
    del generator
    drop(garbage)  # what a finalizer raises is a warning, and warnings are errors
    assert model.ended.wait(10)


def test_closing_a_generator_waits_for_the_end_of_the_run() -> None:
    ends: list[str] = []

    def watch(event: Any) -> None:
        if isinstance(event, RunFinished):
            ends.append(event.stop_reason)

    def texts() -> Iterator[str]:
        with Agent(Hanging()).stream_sync("go", observers=[watch]) as stream:
            for event in stream:
                if isinstance(event, TextDelta):
                    yield event.text

    generator = texts()
    next(generator)
    generator.close()  # type: ignore[attr-defined]
    assert ends == ["cancelled"]


def test_closing_a_stream_does_not_wait_for_a_background_loop_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.run.stream._CLOSING", 0.05)
    release, blocked = threading.Event(), threading.Event()

    def watch(event: Any) -> None:
        if isinstance(event, RunFinished):
            blocked.set()
            release.wait(30)

    stream = Agent(Hanging()).stream_sync("go", observers=[watch])
    while not isinstance(next(stream), TextDelta):
        pass
    stream.close()
    assert blocked.wait(10) and not release.is_set()
    release.set()


def test_a_stream_that_is_closed_before_it_began_does_not_begin() -> None:
    model = ScriptedModel(["never"])
    stream = Agent(model).stream_sync("go")
    stream.close()
    assert list(stream) == [] and model.requests == []


@pytest.mark.parametrize("form", ["for event in stream", "for event in open(stream)"])
def test_a_generator_that_is_still_held_at_exit(form: str) -> None:
    assert script(f"""
        def open(stream):
            with stream:
                yield from stream

        def texts(stream):
            {form}:
                yield type(event).__name__

        sim = DeepSeekSimulator(["a long answer"]).start()
        generator = texts(Agent(ChatModel(base_url=sim.base_url)).stream_sync("go"))
        print(next(generator))
    """) == ["RunStarted"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_drops_the_streams_of_its_parent_and_leaves_their_runs_alone() -> None:
    assert script("""
        import gc

        def texts(stream):
            with stream:
                yield from stream

        release = threading.Event()

        async def wait() -> str:
            "Wait."
            await asyncio.to_thread(release.wait, 10)
            return "waited"

        generator = texts(Agent(ScriptedModel([call("wait"), "Done."]), tools=[wait]).stream_sync("go"))
        while type(next(generator)).__name__ != "ToolStarted":
            pass
        pid = os.fork()
        if pid == 0:
            del generator
            gc.collect()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        release.set()
        *_, last = generator
        print(last.stop_reason)
    """) == ["0", "answer"]
