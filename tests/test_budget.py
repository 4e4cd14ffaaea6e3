"""Budgets: what is ahead is estimated before a call, and a run pays for the runs that its tools make."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    ChatModel,
    Limits,
    ModelReplied,
    ModelReply,
    RunContext,
    RunFinished,
    RunResult,
    RunStarted,
    RunState,
    ScriptedModel,
    SettingsError,
    ToolCall,
    ToolFinished,
    ToolResult,
    ToolStarted,
    Usage,
    UsageAdded,
    User,
    tool,
)
from agentkit.budget import RunBudget
from agentkit.models.prices import DEEPSEEK_FLASH
from agentkit.testing import DeepSeekSimulator, call

How = Callable[..., RunResult[Any]]
Simulate = Callable[..., DeepSeekSimulator]
PRICE = DEEPSEEK_FLASH[-1]


def priced(item: Any, tokens: int = 100, cost: float | None = 0.01) -> ModelReply:
    message = (
        item if isinstance(item, Assistant) else Assistant(item) if isinstance(item, str) else Assistant(tool_calls=(item,))
    )
    finish = "tool_calls" if message.tool_calls else "stop"
    return ModelReply(message, Usage(1, tokens, 10), finish, "scripted", cost)


def asking(name: str, number: int = 0) -> ToolCall:
    return ToolCall(f"c{number}", name, '{"task": "x"}')


def told(result: RunResult[Any]) -> list[str]:
    return [m.content for m in result.messages if isinstance(m, ToolResult)]


# --- before a call ------------------------------------------------------------------------------------------------------


def test_the_first_prompt_is_estimated_from_its_bytes() -> None:
    state = RunState.replay([RunStarted("r", (User("é" * 200),))])
    assert state.added_bytes == 400
    assert Limits(input_tokens=100).before_model_call(state) == "limit:input_tokens"
    assert Limits(input_tokens=101).before_model_call(state) is None


def test_what_came_since_the_last_reply_is_added_to_what_the_server_counted() -> None:
    asked = ToolCall("a", "f", "{}")
    state = RunState.replay(
        [RunStarted("r", (User("x" * 4000),)), ModelReplied(Assistant(tool_calls=(asked,)), Usage(1, 50, 10))]
    )
    state.apply(ToolStarted(asked, 0))
    state.apply(ToolFinished(asked, ToolResult("a", "f", "y" * 80)))
    assert state.added_bytes == 80
    assert Limits(input_tokens=50 + 60 + 20).before_model_call(state) == "limit:input_tokens"
    assert Limits(input_tokens=50 + 60 + 20 + 1).before_model_call(state) is None


def test_a_prompt_that_alone_costs_more_than_is_left_is_not_sent() -> None:
    state = RunState.replay([RunStarted("r", (User("x" * 4_000_000),))])
    assert PRICE.of_prompt(0, 1_000_000) == PRICE.cache_miss
    assert Limits(cost=0.1).before_model_call(state, PRICE) == "limit:cost"
    assert Limits(cost=0.2).before_model_call(state, PRICE) is None
    assert Limits(cost=0.1).before_model_call(state) is None, "without a price nothing is known"
    state.apply(ModelReplied(Assistant("z"), Usage(1, 1_000_000, 0), cost=0.15))
    assert Limits(cost=0.154).before_model_call(state, PRICE) is None, "it is cached now"
    assert Limits(cost=0.152).before_model_call(state, PRICE) == "limit:cost"


def test_nothing_is_sent_where_the_first_prompt_breaks_the_budget(how: How, simulate: Simulate) -> None:
    sim = simulate(["never"])
    agent = Agent(ChatModel("deepseek-v4-flash", base_url=sim.base_url, profile="deepseek"), limits=Limits(cost=0.001))
    result = how(agent, "x" * 40_000)
    assert (result.stop_reason, result.output, sim.requests) == ("limit:cost", None, [])


# --- runs inside runs ---------------------------------------------------------------------------------------------------


def test_what_a_sub_agent_spends_counts_in_the_run_that_asked_it(how: How) -> None:
    inner = Agent(ScriptedModel([priced(asking("deep")), priced("found")]), tools=[deep()]).as_tool("inner", "Ask.")
    outer = Agent(ScriptedModel([priced(asking("inner")), priced("Done.")]), tools=[inner])
    result = how(outer, "go")
    assert result.output == "Done."
    assert (result.usage.requests, result.usage.input_tokens, result.usage.tool_calls) == (5, 500, 1)
    assert result.cost == pytest.approx(0.05)
    added = [event for event in result.events if isinstance(event, UsageAdded)]
    assert [(event.call_id, event.usage.input_tokens) for event in added] == [("c0", 100)] * 3
    assert RunState.from_json(result.state.to_json()).usage == result.usage


def deep() -> Any:
    return Agent(ScriptedModel([priced("deep down")])).as_tool("deep", "Ask deeper.")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(cost=0.025), "cost"), (Limits(input_tokens=400), "input_tokens"), (Limits(output_tokens=20), "output_tokens")],
)
def test_the_limits_of_a_run_bind_the_runs_inside_it(how: How, limits: Limits, reason: str) -> None:
    """Nothing is spent past the limit but the call in flight, however deep it is."""
    inner_model = ScriptedModel([priced(asking("again", n)) for n in range(50)])

    @tool
    async def again(task: str) -> str:
        return "once more"

    inner = Agent(inner_model, tools=[again], limits=Limits(max_steps=None)).as_tool("inner", "Ask.")
    middle = Agent(ScriptedModel([priced(asking("inner")), priced("never")]), tools=[inner]).as_tool("middle", "Ask.")
    result = how(Agent(ScriptedModel([priced(asking("middle")), priced("never")]), tools=[middle], limits=limits), "go")
    assert result.stop_reason == f"limit:{reason}"
    assert len(inner_model.requests) <= 1
    assert told(result) == [f"error: the agent middle gave no answer: limit:{reason}"]
    assert (result.cost or 0) <= 0.031


def test_several_sub_agents_at_once_share_one_budget(how: How) -> None:
    models = [ScriptedModel([priced(asking("again", n)) for n in range(50)]) for _ in range(3)]

    @tool
    async def again(task: str) -> str:
        await asyncio.sleep(0)
        return "once more"

    endless = Limits(max_steps=None)
    tools = [Agent(m, tools=[again], limits=endless).as_tool(f"a{n}", "Ask.") for n, m in enumerate(models)]
    first = ModelReply(
        Assistant(tool_calls=tuple(asking(f"a{n}", n) for n in range(3))), Usage(1), "tool_calls", "scripted", 0.0
    )
    result = how(Agent(ScriptedModel([first, priced("never")]), tools=tools, limits=Limits(cost=0.2)), "go")
    assert result.stop_reason == "limit:cost"
    asked = sum(len(model.requests) for model in models)
    assert 20 <= asked <= 20 + len(models) - 1, "the limit, and at most what was in flight beside the last call"
    assert result.cost == pytest.approx(asked * 0.01)


def test_an_unknown_price_inside_makes_the_cost_unknown(how: How) -> None:
    inner = Agent(ScriptedModel([priced("found", cost=None)])).as_tool("inner", "Ask.")
    result = how(Agent(ScriptedModel([priced(asking("inner")), priced("Done.")]), tools=[inner]), "go")
    assert result.cost is None and result.usage.requests == 3


def test_a_run_in_a_sync_tool_pays_from_its_own_thread(how: How) -> None:
    agent = Agent(ScriptedModel([priced("found")]))

    @tool
    def ask(ctx: RunContext[None], task: str) -> str:
        result = agent.run_sync(task, within=ctx)
        assert result.run_id == ctx.idempotency_key
        return result.output

    told_in: set[int] = set()
    outer = Agent(ScriptedModel([priced(asking("ask")), priced("Done.")]), tools=[ask])
    result = how(outer, "go", observers=[lambda event: told_in.add(threading.get_ident())])
    assert (result.output, result.usage.requests) == ("Done.", 3)
    assert len(told_in) == 1, "all events of a run are recorded on its own event loop"


def test_a_sub_agent_gets_the_deps_and_a_name_that_stays_over_a_crash() -> None:
    seen: list[Any] = []

    @tool(idempotent=True)
    async def look(ctx: RunContext[str], task: str) -> str:
        seen.append((ctx.deps, ctx.idempotency_key))
        return "seen"

    def outer() -> Agent[str]:
        inner = Agent(ScriptedModel([asking("look"), "ok"]), tools=[look], deps_type=str)
        return Agent(ScriptedModel([asking("inner"), "Done."]), tools=[inner.as_tool("inner", "Ask.", idempotent=True)])

    asyncio.run(outer().run("go", deps="house", run_id="r"))
    assert seen == [("house", "r:0:0")]
    done = asyncio.run(outer().run("go", deps="house", run_id="r"))
    started = [place for place, event in enumerate(done.events) if isinstance(event, ToolStarted)]
    crashed = RunState.replay(done.events[: started[0] + 1])
    again = Agent(ScriptedModel(["Done."]), tools=outer().spec.tools)
    asyncio.run(again.resume(crashed, deps="house"))
    assert seen == [("house", "r:0:0")] * 3


def test_an_agent_that_asks_itself_is_stopped_at_a_depth(how: How) -> None:
    model = ScriptedModel(lambda request: [call("self", task="x")] if not told_in(request) else told_in(request)[-1])

    @tool(name="self")
    async def itself(ctx: RunContext[None], task: str) -> str:
        return (await agent.run(task, within=ctx)).output

    agent = Agent(model, limits=Limits(depth=3), tools=[itself])
    result = how(agent, "go")
    assert "agents run inside agents 4 deep; Limits(depth=3) allows no more" in result.output
    assert len(model.requests) == 8


def told_in(request: Any) -> list[str]:
    return [m.content for m in request.messages if isinstance(m, ToolResult)]


def test_a_wrong_within_is_refused() -> None:
    with pytest.raises(SettingsError, match="within is a str; allowed: the RunContext of a tool, or None"):
        Agent(ScriptedModel([])).run_sync("go", within="r")  # type: ignore[arg-type]


def test_a_context_of_no_run_binds_nothing() -> None:
    result = Agent(ScriptedModel(["ok"])).run_sync("go", within=RunContext(None))
    assert (result.output, len(result.run_id)) == ("ok", 32)


def test_an_unknown_price_does_not_switch_a_cost_limit_off() -> None:
    def asked(n: int) -> Assistant:
        return Assistant("", "", (ToolCall(f"c{n}", "look"),))

    @tool
    async def look() -> str:
        """Look."""
        return "seen"

    costs = [0.01, None, 0.01, 0.01, 0.01, 0.01]
    replies = [ModelReply(asked(n), Usage(1, 10, 1), cost=cost) for n, cost in enumerate(costs)]
    result = Agent(ScriptedModel(replies), tools=[look], limits=Limits(cost=0.03)).run_sync("go")
    assert (result.stop_reason, result.cost, result.steps) == ("limit:cost", None, 4)


def test_a_run_that_has_ended_pays_for_nothing_more() -> None:
    state = RunState.replay([RunStarted("r", (User("go"),)), RunFinished("limit:seconds", None)])

    async def main() -> str | None:
        async def record(_event: Any) -> None:
            return None

        return RunBudget("c", state, Limits(), 0, record).reached(0, 0.0)

    assert asyncio.run(main()) == "limit:seconds"


def test_run_sync_in_an_async_tool_pays_and_does_not_wait_for_itself() -> None:
    inner = Agent(ScriptedModel([priced("found")]))

    @tool
    async def ask(ctx: RunContext[None], task: str) -> str:
        """Ask."""
        return inner.run_sync(task, within=ctx).output

    async def main() -> RunResult[str]:
        async with asyncio.timeout(20):
            return await Agent(ScriptedModel([priced(asking("ask")), priced("Done.")]), tools=[ask]).run("go")

    result = asyncio.run(main())
    assert (result.output, told(result)) == ("Done.", ["found"])
    assert result.usage.requests == 3
    assert result.cost == pytest.approx(0.03)


def test_a_limit_binds_what_another_loop_has_spent_meanwhile() -> None:
    @tool
    async def again(task: str) -> str:
        """Again."""
        return task

    replies = [priced(asking("again", n)) for n in range(50)]
    inner = Agent(ScriptedModel(replies), tools=[again], limits=Limits(max_steps=50))

    @tool
    async def ask(ctx: RunContext[None], task: str) -> str:
        """Ask."""
        return inner.run_sync(task, within=ctx).stop_reason

    outer = Agent(ScriptedModel([priced(asking("ask")), priced("Done.")]), tools=[ask], limits=Limits(cost=0.055))
    result = asyncio.run(outer.run("go"))
    assert told(result) == ["limit:cost"] and result.usage.requests <= 6


def test_a_loop_that_is_gone_is_not_waited_for() -> None:
    state = RunState.replay([RunStarted("r", (User("go"),))])

    async def made() -> RunBudget:
        async def record(_event: Any) -> None:
            return None

        return RunBudget("c", state, Limits(input_tokens=100), 0, record)

    budget = asyncio.run(made())
    asyncio.run(budget.add(Usage(1, 100, 1), 0.1))
    assert budget.reached(0, 0.0) == "limit:input_tokens"


def test_the_runs_of_one_call_have_keys_of_their_own() -> None:
    keys: list[str] = []

    @tool
    async def pay(ctx: RunContext[None], task: str) -> str:
        """Pay."""
        keys.append(ctx.idempotency_key)
        return "paid"

    @tool
    async def both(ctx: RunContext[None], task: str) -> str:
        """Pay two."""
        agents = [Agent(ScriptedModel([asking("pay"), "Done."]), tools=[pay]) for _ in range(2)]
        await asyncio.gather(*(agent.run("pay", within=ctx) for agent in agents))
        return "both"

    Agent(ScriptedModel([asking("both"), "Done."]), tools=[both]).run_sync("go", run_id="r")
    assert keys == ["r:0:0", "r:0.1:0"]
