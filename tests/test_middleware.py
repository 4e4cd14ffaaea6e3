"""Ready-made middleware."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentkit import Agent, Assistant, ScriptedModel, ToolCall, ToolStarted, tool
from agentkit.middleware import CancellableCalls
from agentkit.testing import call
from tests.kit import How, tool_texts


@pytest.mark.parametrize("from_thread", [False, True])
def test_one_of_several_calls_is_cancelled_and_the_run_goes_on(how: How, from_thread: bool) -> None:
    cleaned = []

    @tool
    async def wait(name: str) -> str:
        """Wait, but b."""
        if name == "b":
            return "b is done"
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(name)
        return "never"

    calls = CancellableCalls()
    model = ScriptedModel([[call("wait", name="a"), call("wait", name="b")], "Done."])

    def watch(event: Any) -> None:
        if isinstance(event, ToolStarted) and '"a"' in event.call.arguments:
            stop = threading.Timer(0.02, lambda: calls.cancel(event.call.id))
            stop.start() if from_thread else asyncio.get_running_loop().call_later(0.02, calls.cancel, event.call.id)

    result = how(Agent(model, tools=[wait], middleware=[calls]), "go", observers=[watch])
    assert tool_texts(result) == ["error: the call was cancelled; it may or may not have taken effect", "b is done"]
    assert (result.output, cleaned) == ("Done.", ["a"])


def test_a_sync_tool_is_given_up_and_its_thread_goes_on(how: How) -> None:
    go_on, ended = threading.Event(), threading.Event()

    @tool
    def block() -> str:
        """Block."""
        go_on.wait(10)
        ended.set()
        return "late"

    calls = CancellableCalls()

    def watch(event: Any) -> None:
        if isinstance(event, ToolStarted):
            asyncio.get_running_loop().call_later(0.02, lambda: calls.cancel(event.call.id))

    result = how(Agent(ScriptedModel([call("block"), "Done."]), tools=[block], middleware=[calls]), "go", observers=[watch])
    assert tool_texts(result) == ["error: the call was cancelled; it may or may not have taken effect"]
    go_on.set()
    assert ended.wait(10)


def test_what_is_not_under_way_cannot_be_cancelled(how: How) -> None:
    calls, said = CancellableCalls(), []

    @tool
    async def quick() -> str:
        """Return at once."""
        said.append(calls.cancel("other"))
        said.append(calls.cancel("c1", run_id="another run"))
        return "quick"

    asked = call("quick")
    result = how(Agent(ScriptedModel([asked, "Done."]), tools=[quick], middleware=[calls]), "go", run_id="r")
    assert (tool_texts(result), said) == (["quick"], [False, False])
    assert not calls.cancel(asked.id)


def test_cancelling_the_run_cancels_its_calls() -> None:
    async def main() -> None:
        started, cleaned = asyncio.Event(), []

        @tool
        async def wait() -> None:
            """Wait."""
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append("wait")

        agent = Agent(ScriptedModel([call("wait"), "never"]), tools=[wait], middleware=[CancellableCalls()])
        task = asyncio.create_task(agent.run("go"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == ["wait"] and len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_call_is_cancelled_at_the_event_that_tells_of_it(how: How) -> None:
    """An observer is told of a call before it begins: it must not begin at all."""
    calls, ran = CancellableCalls(), []

    @tool
    async def pay() -> str:
        """Pay."""
        ran.append("pay")
        return "paid"

    def watch(event: Any) -> None:
        if isinstance(event, ToolStarted):
            calls.cancel(event.call.id, run_id="r")

    agent = Agent(ScriptedModel([call("pay"), "Done."]), tools=[pay], middleware=[calls])
    result = how(agent, "go", observers=[watch], run_id="r")
    assert (tool_texts(result), ran) == (["error: the call was cancelled before it began"], [])


def test_one_id_of_two_runs_is_refused_without_a_run_id() -> None:
    async def main() -> None:
        calls, go_on, begun = CancellableCalls(), asyncio.Event(), asyncio.Semaphore(0)

        @tool
        async def wait() -> str:
            """Wait."""
            begun.release()
            await go_on.wait()
            return "waited"

        agents = [Agent(ScriptedModel([call("wait"), "Done."]), tools=[wait], middleware=[calls]) for _ in "ab"]
        tasks = [asyncio.create_task(agent.run("go", run_id=name)) for name, agent in zip("ab", agents, strict=True)]
        await begun.acquire()
        await begun.acquire()
        with pytest.raises(ValueError, match="the runs a, b each have a call 'call_01_0'; give a run_id"):
            calls.cancel("call_01_0")
        assert calls.cancel("call_01_0", run_id="b")
        await asyncio.sleep(0)
        go_on.set()
        first, second = [tool_texts(await task) for task in tasks]
        assert first == ["waited"]
        assert second == ["error: the call was cancelled; it may or may not have taken effect"]

    asyncio.run(main())


def test_a_call_that_is_over_is_not_cancelled_when_it_is_made_again() -> None:
    calls, done = CancellableCalls(), []

    @tool(idempotent=True)
    async def pay() -> str:
        """Pay."""
        done.append("pay")
        return "paid"

    for _ in range(2):
        asked: list[Any] = [Assistant(tool_calls=(ToolCall("c1", "pay", "{}"),)), "Done."]
        Agent(ScriptedModel(asked), tools=[pay], middleware=[calls]).run_sync("go", run_id="r")
        assert not calls.cancel("c1", run_id="r")
    assert done == ["pay", "pay"]


def test_a_call_that_is_cancelled_beforehand_is_cancelled_once() -> None:
    calls, done = CancellableCalls(), []

    @tool(idempotent=True)
    async def pay() -> str:
        """Pay."""
        done.append("pay")
        return "paid"

    assert not any([calls.cancel("c1", run_id="r"), calls.cancel("c1", run_id="r")])
    for _ in range(2):
        asked: list[Any] = [Assistant(tool_calls=(ToolCall("c1", "pay", "{}"),)), "Done."]
        Agent(ScriptedModel(asked), tools=[pay], middleware=[calls]).run_sync("go", run_id="r")
        assert not calls.cancel("c1", run_id="r")
    assert done == ["pay"]
