"""Runs inside runs: their context, their names, and what their caller gets."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    Limits,
    RunContext,
    RunState,
    ScriptedModel,
    SettingsError,
    ToolStarted,
    tool,
)  # fmt: skip
from agentkit.testing import call
from tests.kit import How, tool_texts
from tests.spending import again, asking


def named(key: str) -> str:
    """An idempotency key without the digests of calls, and `x` for the one of a prompt."""
    return re.sub(r"\.[0-9a-f]{8}", ".x", re.sub(":[0-9a-f]{8}", "", key))


def test_a_sub_agent_gets_the_deps_and_a_name_that_stays_over_a_crash() -> None:
    seen: list[Any] = []

    @tool(idempotent=True)
    async def look(ctx: RunContext[str], task: str) -> str:
        seen.append((ctx.deps, named(ctx.idempotency_key)))
        return "seen"

    def outer() -> Agent[str]:
        inner = Agent(ScriptedModel([asking("look"), "ok"]), tools=[look], deps_type=str)
        return Agent(ScriptedModel([asking("inner"), "Done."]), tools=[inner.as_tool("inner", "Ask.", idempotent=True)])

    asyncio.run(outer().run("go", deps="house", run_id="r"))
    assert seen == [("house", "r:0.x:0")]
    done = asyncio.run(outer().run("go", deps="house", run_id="r"))
    started = [place for place, event in enumerate(done.events) if isinstance(event, ToolStarted)]
    crashed = RunState.replay(done.events[: started[0] + 1])
    again = Agent(ScriptedModel(["Done."]), tools=outer().spec.tools)
    asyncio.run(again.resume(crashed, deps="house"))
    assert seen == [("house", "r:0.x:0")] * 3


def test_an_agent_that_asks_itself_is_stopped_at_a_depth(how: How) -> None:
    model = ScriptedModel(lambda request: [call("self", task="x")] if not tool_texts(request) else tool_texts(request)[-1])

    @tool(name="self")
    async def itself(ctx: RunContext[None], task: str) -> str:
        return (await agent.run(task, within=ctx)).output

    agent = Agent(model, limits=Limits(depth=3), tools=[itself])
    result = how(agent, "go")
    assert "agents run inside agents 4 deep; Limits(depth=3) allows no more" in result.output
    assert len(model.requests) == 8


def test_a_wrong_within_is_refused() -> None:
    with pytest.raises(SettingsError, match="within is a str; allowed: the RunContext of a tool, or None"):
        Agent(ScriptedModel([])).run_sync("go", within="r")  # type: ignore[call-overload]


def test_a_context_of_no_run_binds_nothing() -> None:
    result = Agent(ScriptedModel(["ok"])).run_sync("go", within=RunContext(None))
    assert (result.output, len(result.run_id)) == ("ok", 32)


def test_the_runs_of_one_call_have_keys_of_their_own() -> None:
    keys: list[str] = []

    @tool
    async def pay(ctx: RunContext[None], task: str) -> str:
        """Pay."""
        keys.append(named(ctx.idempotency_key))
        return "paid"

    @tool
    async def both(ctx: RunContext[None], task: str) -> str:
        """Pay two."""
        agents = [Agent(ScriptedModel([asking("pay"), "Done."]), tools=[pay]) for _ in range(2)]
        await asyncio.gather(*(agent.run("pay", within=ctx) for agent in agents))
        return "both"

    Agent(ScriptedModel([asking("both"), "Done."]), tools=[both]).run_sync("go", run_id="r")
    assert keys == ["r:0.x:0", "r:0.x.1:0"]


@pytest.mark.parametrize(
    ("last", "told_outer"),
    [
        (Assistant("Half of it."), "Half of it."),
        (Assistant("", "", (asking("again", 9),)), "error: the agent inner gave no answer: limit:steps"),
        (
            Assistant("I go on.", "", (asking("again", 9),)),
            "error: the agent inner gave no answer: limit:steps",
        ),
    ],
)
def test_only_a_last_answer_counts_as_one(last: Assistant, told_outer: str) -> None:
    """What a sub-agent said beside its calls, before it was asked for an answer or after, is no answer."""

    said_before = Assistant("I will look.", "", (asking("again"),))
    model = ScriptedModel([said_before, last])
    inner = Agent(model, tools=[again], limits=Limits(steps=1, on_limit="answer")).as_tool("inner", "Ask.")
    result = Agent(ScriptedModel([asking("inner"), "Done."]), tools=[inner]).run_sync("go")
    assert tool_texts(result)[0].startswith(told_outer)


def test_a_typed_last_answer_counts_as_one() -> None:
    model = ScriptedModel([asking("again"), call("final_answer", answer=7)])
    agent = Agent(model, tools=[again], output_type=int, limits=Limits(steps=1, on_limit="answer"))
    result = Agent(ScriptedModel([asking("inner"), "Done."]), tools=[agent.as_tool("inner", "Ask.")]).run_sync("go")
    assert tool_texts(result) == ["7"]
