"""Faults of tools that end or outlive the run, or reach out of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, Limits, RunContext, RunResult, ScriptedModel, ToolFinished, tool
from agentkit.messages import Assistant, ToolResult
from agentkit.model import ModelRequest
from agentkit.testing import call
from agentkit.tools import tasks
from tests.models.raw_server import raw_server

from .conftest import Fault
from .play import is_taken
from .rows import answer, calls, history_is_valid
from .rows import call as tool_call

pytestmark = pytest.mark.faults


class Odd(BaseException):
    """No Exception, as those of some libraries: pytest's outcomes, a bridge to another language."""


def calling(*names: str) -> ScriptedModel:
    """A model that calls these tools in one reply, then answers."""

    def answer(request: ModelRequest) -> Any:
        return [call(name) for name in names] if request.messages[-1].role == "user" else "hello"

    return ScriptedModel(answer)


async def over_http(*names: str, tools: list[Any], requests: int = 2, **options: Any) -> RunResult[Any]:
    """A run over real HTTP whose model calls these tools in one reply, then answers; so many requests come of it."""
    asking = calls(*(tool_call(name, "{}", f"i{n}") for n, name in enumerate(names)))
    async with raw_server(lambda number: (answer() if number else asking)(False)) as server:
        model = server.model()
        try:
            result: RunResult[Any] = await Agent(model, tools=tools).run("go", **options)
            return result
        finally:
            await model.aclose()
            assert len(server.bodies) == requests
            for body in server.bodies:
                is_taken(body)


def last_state(seen: list[Any]) -> Any:
    return seen[-1].result.state


@pytest.mark.parametrize("in_thread", [False, True])
def test_tool_baseexception(fault: Fault, in_thread: bool) -> None:
    """It is the tool's failure as any other: the model is told, its siblings and the run go on."""
    fault("tool tool_baseexception")

    async def fails() -> str:
        """Fail."""
        raise Odd("out")

    def fails_in_a_thread() -> str:
        """Fail."""
        raise Odd("out")

    @tool
    async def sibling() -> str:
        """Wait."""
        await asyncio.sleep(0.01)
        return "late"

    failing = tool(fails_in_a_thread if in_thread else fails, name="fails", parallel=True)
    result = asyncio.run(over_http("fails", "sibling", tools=[failing, sibling]))
    assert [m.content for m in result.messages if m.role == "tool"] == ["error: Odd: out", "late"]
    assert result.stop_reason == "answer"


END = """
import sys, threading
from agentkit import Agent, ScriptedModel, tool
from agentkit.testing import call
from agentkit.tools import tasks

def ends() -> str:
    "End."
    raise {error}

async def ends_in_the_loop() -> str:
    "End."
    raise {error}

model = ScriptedModel(lambda request: call("ends") if request.messages[-1].role == "user" else "hello")
Agent(model, tools=[tool({function}, name="ends")]).{run}("go")
"""


@pytest.mark.parametrize("run", ["run_sync", "stream_sync"])
@pytest.mark.parametrize("function", ["ends", "ends_in_the_loop"])
@pytest.mark.parametrize(("name", "error", "code"), [
    ("tool_keyboard_interrupt", "KeyboardInterrupt()", (1, -2, 130)), ("tool_system_exit", "SystemExit(7)", (7,)),
])  # fmt: skip
def test_tool_ends_the_program(fault: Fault, name: str, error: str, code: tuple[int, ...], function: str, run: str) -> None:
    """The program ends as if the tool had been called by itself, at once."""
    fault(f"tool {name}")
    text = END.format(error=error, function=function, run=run)
    if run == "stream_sync":
        text = text.replace("Agent(", "for _event in Agent(", 1).rstrip() + ": pass\n"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in code, ended.stderr
    if name == "tool_keyboard_interrupt":
        assert "KeyboardInterrupt" in ended.stderr


def test_tool_timeout_ignores_cancel(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault("tool tool_timeout_ignores_cancel")
    monkeypatch.setattr(tasks, "GRACE", 0.05)

    async def main() -> tuple[RunResult[Any], list[str]]:
        let_go, notes = asyncio.Event(), list[str]()

        @tool(timeout=0.05)
        async def stubborn() -> str:
            """Not be stopped."""
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                notes.append("goes on")
            await let_go.wait()
            notes.append("ended")
            return "late"

        with pytest.warns(RuntimeWarning, match="goes on though it was cancelled"):
            result = await over_http("stubborn", tools=[stubborn])
        let_go.set()
        await asyncio.sleep(0.01)
        return result, notes

    result, notes = asyncio.run(main())
    (finished,) = [event for event in result.events if isinstance(event, ToolFinished)]
    assert finished.result.content == "error: TimeoutError: no result within 0.05 seconds"
    assert result.output == "hello" and notes == ["goes on", "ended"], "the late result is dropped"


def test_a_run_stays_cancelled_where_warnings_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "GRACE", 0.05)
    reported: list[Any] = []

    async def main() -> None:
        begun, let_go = asyncio.Event(), asyncio.Event()

        @tool
        async def stubborn() -> str:
            """Not be stopped."""
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await let_go.wait()
            return "late"

        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        run = asyncio.ensure_future(Agent(ScriptedModel([call("stubborn"), "never"]), tools=[stubborn]).run("go"))
        await begun.wait()
        run.cancel()
        await asyncio.wait([run])
        assert run.cancelled()
        let_go.set()

    asyncio.run(main())
    assert [type(error) for error in reported] == [RuntimeWarning]


@pytest.mark.parametrize("count", [1, 3])
def test_tool_cancel_outer(fault: Fault, count: int) -> None:
    """A cancellation of the run comes out, however many tools it finds under way."""
    fault("tool tool_cancel_outer")
    seen: list[Any] = []

    async def main() -> list[str]:
        begun, ended = asyncio.Semaphore(0), list[str]()

        @tool
        async def waits(ctx: RunContext[None]) -> str:
            """Wait."""
            begun.release()
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(ctx.call.id)
            return "late"

        run = over_http(*["waits"] * count, tools=[waits], requests=1, observers=[seen.append])
        task = asyncio.create_task(run)
        for _ in range(count):
            await begun.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {task for task in asyncio.all_tasks() if "serve" not in repr(task)} == {asyncio.current_task()}
        return ended

    assert len(set(asyncio.run(main()))) == count
    state = last_state(seen)
    history_is_valid(state.messages)
    assert state.stop_reason == "cancelled"
    assert sum(isinstance(message, ToolResult) for message in state.messages) == count
    assert isinstance(state.messages[1], Assistant)


def test_tool_leaks_thread(fault: Fault) -> None:
    """A thread of the tool's stays its own; ours are gone when the agent is."""
    fault("tool tool_leaks_thread")
    go_on = threading.Event()
    own: list[threading.Thread] = []

    @tool
    def leaks() -> str:
        """Start a thread."""
        own.append(threading.Thread(target=go_on.wait, daemon=True))
        own[0].start()
        return "started"

    before = set(threading.enumerate())
    asyncio.run(over_http("leaks", tools=[leaks]))
    made = set(threading.enumerate()) - before - set(own)
    for thread in made:
        thread.join(timeout=30)
    assert own[0].is_alive() and not any(thread.is_alive() for thread in made)
    go_on.set()
    own[0].join(timeout=30)


def test_tool_changes_the_process(fault: Fault, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The working directory is the process's: a tool that changes it changes it for all. It is not put back."""
    fault("tool tool_closes_loop_or_signals")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()

    @tool
    def moves() -> str:
        """Change the directory."""
        os.chdir("below")
        return "moved"

    assert asyncio.run(over_http("moves", tools=[moves])).output == "hello"
    assert Path.cwd().name == "below"


def test_the_loop_stays_alive_while_tools_block(fault: Fault) -> None:
    fault("tool tool_timeout_sync_blocking")
    let_go = threading.Event()

    @tool(timeout=0.2)
    def blocks() -> str:
        """Block."""
        let_go.wait(60)
        return "late"

    async def main() -> tuple[Any, float]:
        worst, last, over = 0.0, time.perf_counter(), False

        async def beat() -> None:
            nonlocal worst, last
            while not over:
                await asyncio.sleep(0.005)
                now = time.perf_counter()
                worst, last = max(worst, now - last), now

        heart = asyncio.create_task(beat())
        result = await over_http("blocks", tools=[blocks])
        over = True
        await heart
        return result, worst

    result, worst = asyncio.run(main())
    let_go.set()
    assert result.output == "hello"
    assert worst < 5, "the loop was blocked for the minute of the tool"


HANGS = """
import threading
from agentkit import Agent, ScriptedModel, tool
from agentkit.testing import call
from agentkit.tools import tasks

@tool(timeout=0.1)
def blocks() -> str:
    "Block."
    threading.Event().wait()
    return "late"

model = ScriptedModel(lambda request: call("blocks") if request.messages[-1].role == "user" else "hello")
print(Agent(model, tools=[blocks]).run_sync("go").output)
"""


def test_a_blocked_thread_does_not_hold_the_exit_back(fault: Fault) -> None:
    fault("tool tool_timeout_sync_blocking")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", HANGS], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "hello\n"), ended.stderr


def test_agents_inside_agents_are_so_many_at_most(fault: Fault) -> None:
    fault("tool tool_reenters_agent")
    depths: list[int] = []

    @tool
    async def again(ctx: RunContext[None]) -> str:
        """Ask the agent that asks."""
        depths.append(len(depths))
        return str((await agent.run("go", within=ctx)).output) if len(depths) < 20 else "too deep"

    agent = Agent(calling("again"), tools=[again], limits=Limits(depth=3))
    result = asyncio.run(agent.run("go"))
    assert result.output == "hello" and depths == [0, 1, 2, 3]


def test_sync_tools_run_in_the_order_of_their_calls(fault: Fault) -> None:
    """Unless they are labelled: most functions are not safe in several threads."""
    fault("tool tool_sync_blocking_in_loop")
    other = threading.Event()
    notes: list[str] = []

    @tool
    def first() -> str:
        """Wait for the second, in vain."""
        notes.append("both" if other.wait(0.5) else "first")
        return "first"

    @tool
    def second() -> str:
        """Run after the first."""
        notes.append("second")
        other.set()
        return "second"

    assert asyncio.run(over_http("first", "second", tools=[first, second])).output == "hello"
    assert notes == ["first", "second"]
