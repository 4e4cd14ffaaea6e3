"""Budgets: what is ahead is estimated before a call, and a run pays for the runs that its tools make."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    ChatModel,
    Fallback,
    Limits,
    Middleware,
    ModelReplied,
    ModelReply,
    ModelRequest,
    ModelSettings,
    Retry,
    RunContext,
    RunFinished,
    RunResult,
    RunStarted,
    RunState,
    ScriptedModel,
    SettingsError,
    StreamBroken,
    TextDelta,
    ToolCall,
    ToolFinished,
    ToolResult,
    ToolStarted,
    Usage,
    UsageAdded,
    User,
    tool,
)
from agentkit.budget import CallBudget, Ledger, OverBudget
from agentkit.messages import Spent
from agentkit.models.prices import DEEPSEEK_FLASH
from agentkit.models.profiles import profile_named
from agentkit.testing import Cut, DeepSeekSimulator, Late, call

How = Callable[..., RunResult[Any]]
Simulate = Callable[..., DeepSeekSimulator]
PRICE = DEEPSEEK_FLASH[-1]
STREAMED = ModelSettings(stream=True)


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
    ledger = Ledger(Limits(), RunState(), None, Ledger(Limits(), state, None))
    with pytest.raises(OverBudget) as refused:
        asyncio.run(ledger.reserve(Spent(), None, None))
    assert (refused.value.stop_reason, refused.value.of_own) == ("limit:outer_run", False)


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
    state, written = RunState.replay([RunStarted("r", (User("go"),))]), []

    async def made() -> CallBudget:
        async def record(event: Any) -> None:
            written.append(event)

        return CallBudget("c", Ledger(Limits(), state, None), 0, record)

    budget = asyncio.run(made())
    asyncio.run(budget.add(Usage(1, 100, 1), 0.1, estimated=False))
    assert written == []


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


# --- calls at once ------------------------------------------------------------------------------------------------------


class Slow:
    """A model whose calls overlap: each gives way to the others before it answers."""

    def __init__(self, reply: ModelReply) -> None:
        self._reply = reply
        self.under_way = self.most_at_once = self.asked = 0
        self.begun = asyncio.Event()

    async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
        self.asked += 1
        self.under_way += 1
        self.begun.set()
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            for _ in range(5):
                await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        return self._reply


def all_at_once(inner: Any, limits: Limits, number: int = 64) -> RunResult[Any]:
    calls = tuple(asking("inner", n) for n in range(number))
    first = ModelReply(Assistant(tool_calls=calls), Usage(1, 1, 1), "tool_calls", "scripted", 0.0)
    return Agent(ScriptedModel([first, priced("Done.")]), tools=[inner], limits=limits).run_sync("go")


def test_sub_agents_side_by_side_do_not_spend_past_the_limit() -> None:
    model = Slow(priced("found"))
    result = all_at_once(Agent(model).as_tool("inner", "Ask."), Limits(cost=0.02))
    assert (model.asked, result.stop_reason) == (2, "limit:cost")
    assert result.cost == pytest.approx(0.02)


def test_a_short_first_answer_does_not_let_all_others_go_at_once() -> None:
    class Mixed(Slow):
        async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
            self._reply = priced("x", cost=0.02 if self.asked else 0.0001)
            return await super().reply(request, on_delta)

    model = Mixed(priced("x"))
    result = all_at_once(Agent(model).as_tool("inner", "Ask."), Limits(cost=0.05))
    assert result.stop_reason == "limit:cost" and result.state.known_cost < 0.05 + 2 * 0.02


def test_one_agents_short_answers_say_nothing_of_anothers() -> None:
    short, long = Slow(priced("x", cost=0.0001)), Slow(priced("x", cost=0.02))
    helpers = [Agent(short).as_tool("short", "Ask."), Agent(long).as_tool("long", "Ask.")]
    calls = [asking("short", n) for n in range(10)] + [asking("long", n) for n in range(10, 60)]
    first = ModelReply(Assistant(tool_calls=tuple(calls)), Usage(1, 1, 1), "tool_calls", "scripted", 0.0)
    result = Agent(ScriptedModel([first, priced("Done.")]), tools=helpers, limits=Limits(cost=0.05)).run_sync("go")
    assert result.stop_reason == "limit:cost" and result.state.known_cost < 0.07


def test_calls_on_a_loop_that_is_held_up_are_refused_where_there_is_no_room() -> None:
    """A call is under way on the loop that the sync run holds up: it cannot be waited for, and keeps its room."""
    inner = Agent(ScriptedModel([priced(asking("look", n)) for n in range(10)]), tools=[deep_look()])
    slow = Slow(priced("x"))
    stops: list[str] = []

    @tool
    async def hold(ctx: RunContext[None], task: str) -> str:
        """Hold the loop up."""
        await slow.begun.wait()
        stops.append(inner.run_sync(task, within=ctx).stop_reason)
        return "held"

    calls = (asking("slow"), asking("hold", 1))
    first = ModelReply(Assistant(tool_calls=calls), Usage(1, 1, 1), "tool_calls", "scripted", 0.0)
    tools = [Agent(slow).as_tool("slow", "Ask."), hold]
    agent = Agent(ScriptedModel([first, priced("Done.")]), tools=tools, limits=Limits(cost=0.055))
    result = asyncio.run(agent.run("go"))
    assert stops == ["limit:cost"]
    assert result.state.known_cost == pytest.approx(0.06), "five calls, and the one that was under way"


def test_near_the_limit_calls_wait_for_each_other() -> None:
    model = Slow(priced("found", tokens=0))
    result = all_at_once(Agent(model).as_tool("inner", "Ask."), Limits(output_tokens=45), 10)
    assert model.asked == 5, "four fit; the fifth began when the fourth had ended, below the limit"
    assert (result.usage.output_tokens, result.stop_reason) == (51, "limit:output_tokens")


def test_max_tokens_bounds_what_a_call_reserves() -> None:
    bounded, unbounded = Slow(priced("found")), Slow(priced("found"))
    limits = Limits(output_tokens=1_000)
    all_at_once(Agent(bounded, settings=ModelSettings(max_tokens=100)).as_tool("inner", "Ask."), limits, 8)
    all_at_once(Agent(unbounded).as_tool("inner", "Ask."), limits, 2)
    assert bounded.most_at_once == 8
    assert unbounded.most_at_once == 1


def test_a_call_that_is_held_up_does_not_hide_one_that_is_not() -> None:
    async def main() -> list[bool]:
        outer = Ledger(Limits(output_tokens=20), RunState(), None)
        ledgers = [Ledger(Limits(), RunState(), number, outer) for number in range(3)]
        stalled, healthy = [await ledger.reserve(Spent(), 9, None) for ledger in ledgers[:2]]
        stalled.shown_for = lambda: 10.0
        third = asyncio.create_task(ledgers[2].reserve(Spent(), 9, None))
        await asyncio.sleep(0)
        waited = not third.done()
        ledgers[1].end(healthy, Spent())
        ledgers[1].count([], [healthy])
        await third
        return [waited, bool(outer._tree.waiting)]

    assert asyncio.run(main()) == [True, False]


def test_who_finds_no_room_lets_those_behind_look() -> None:
    async def main() -> bool:
        outer = Ledger(Limits(output_tokens=20), RunState(), None)
        ledgers = [Ledger(Limits(), RunState(), number, outer) for number in range(4)]
        long = await ledgers[0].reserve(Spent(), 10, None)
        short = await ledgers[1].reserve(Spent(), 5, None)
        large = asyncio.create_task(ledgers[2].reserve(Spent(), 19, None))
        await asyncio.sleep(0)
        small = asyncio.create_task(ledgers[3].reserve(Spent(), 9, None))
        await asyncio.sleep(0)
        ledgers[1].end(short, Spent())
        ledgers[1].count([], [short])
        place = await small
        assert not large.done() and long is not place
        large.cancel()
        return place.waited < 0.9

    assert asyncio.run(main()), "it did not wait until it looked by itself"


def test_who_waits_for_room_says_how_long() -> None:
    async def main() -> list[bool]:
        outer = Ledger(Limits(output_tokens=10), RunState(), None)
        first = await Ledger(Limits(), RunState(), None, outer).reserve(Spent(), 9, None)
        second = asyncio.create_task(Ledger(Limits(), RunState(), None, outer).reserve(Spent(), 9, None))
        await asyncio.sleep(0)
        outer.end(first, Spent())
        outer.count([], [first])
        return [first.waited > 0, (await second).waited > 0]

    assert asyncio.run(main()) == [False, True]


def test_a_call_may_cost_what_it_costs_in_peak_hours_without_a_cache() -> None:
    assert PRICE.most(1_000_000, 1_000_000) == pytest.approx((PRICE.cache_miss + PRICE.output) * 2)
    assert replace(PRICE, peak=0.5).most(0, 1_000_000) == pytest.approx(PRICE.output)


def test_who_waits_for_room_and_is_cancelled_takes_none() -> None:
    async def main() -> tuple[int, int]:
        outer = Ledger(Limits(output_tokens=10), RunState(), None)
        ledgers = [Ledger(Limits(), RunState(), None, outer) for _ in range(3)]
        first = await ledgers[0].reserve(Spent(), 9, None)
        waiting = [asyncio.create_task(ledger.reserve(Spent(), 9, None)) for ledger in ledgers[1:]]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        for number, made in ((0, first), (2, waiting[1])):
            place = await made if isinstance(made, asyncio.Task) else made
            ledgers[number].end(place, Spent(Usage(1, 0, 1)))
            ledgers[number].count([Spent(Usage(1, 0, 1))], [place])
        return len(outer._reserved) + len(outer._tree.waiting), outer._spent.usage.output_tokens

    assert asyncio.run(main()) == (0, 2)


def test_runs_of_several_threads_share_the_limit() -> None:
    models = Slow(priced("found"))
    inner = Agent(models)

    @tool(name="inner", parallel=True)
    def ask(ctx: RunContext[None], task: str) -> str:
        """Ask."""
        return inner.run_sync(task, within=ctx).stop_reason

    result = all_at_once(ask, Limits(cost=0.02), 16)
    assert models.asked == 2
    assert sorted(told(result)) == ["answer"] * 2 + ["limit:cost"] * 14


def test_a_call_on_a_loop_that_stands_still_is_not_waited_for() -> None:
    """An async tool that makes a sync call holds up its own event loop, and the calls under way there with it."""
    model, inner = Slow(priced("found")), Agent(ScriptedModel([priced("at once")]))

    @tool
    async def hold_up(ctx: RunContext[None], task: str) -> str:
        """Ask without giving way."""
        await model.begun.wait()
        return inner.run_sync(task, within=ctx).output

    calls = (asking("slow", 0), asking("hold_up", 1))
    first = ModelReply(Assistant(tool_calls=calls), Usage(1), "tool_calls", "scripted", 0.0)
    slow = Agent(model).as_tool("slow", "Ask.")

    async def main() -> RunResult[str]:
        async with asyncio.timeout(20):
            agent = Agent(ScriptedModel([first, priced("Done.")]), tools=[slow, hold_up], limits=Limits(cost=0.5))
            return await agent.run("go")

    assert told(asyncio.run(main())) == ["found", "at once"]


def test_a_last_answer_does_not_pass_the_limit_of_the_run_around_it() -> None:
    model = ScriptedModel([priced(asking("again", n)) for n in range(50)])

    @tool
    async def again(task: str) -> str:
        return "once more"

    agent = Agent(model, tools=[again], limits=Limits(max_steps=None, cost=0.02, on_limit="answer"))
    result = all_at_once(agent.as_tool("inner", "Ask."), Limits(cost=0.02), 1)
    assert len(model.requests) == 2
    assert told(result) == ["error: the agent inner gave no answer: limit:cost"]


# --- what the server does not count -------------------------------------------------------------------------------------


def test_a_call_whose_reply_broke_off_is_counted_by_estimate(simulate: Simulate) -> None:
    thought = "x" * 4_000
    sim = simulate([Cut(Assistant("Yes.", thought), 300), Cut(Assistant("Yes.", thought), 300), "Yes."])
    model = ChatModel("deepseek-flash", base_url=sim.base_url, profile="deepseek")
    agent = Agent(model, retry=Retry(first=0, longest=0), settings=STREAMED)
    result = agent.run_sync("y" * 4_000)
    assert result.usage.requests == 1
    assert result.uncounted.input_tokens == pytest.approx(2_000, rel=0.2)
    assert 0 < result.uncounted.output_tokens < 2_000
    assert result.state.known_cost > (result.cost or 0) > 0
    assert RunState.from_json(result.state.to_json()).uncounted == result.uncounted


def test_what_all_attempts_used_is_in_the_state_of_a_run_that_failed(simulate: Simulate) -> None:
    sim = simulate([Cut(Assistant("x" * 400), 50)] * 3)
    retry = Retry(attempts=3, first=0, longest=0)
    agent = Agent(ChatModel(base_url=sim.base_url), retry=retry, limits=Limits(cost=1), settings=STREAMED)
    with pytest.raises(StreamBroken) as failed:
        agent.run_sync("y" * 4_000)
    assert failed.value.state.uncounted.input_tokens == pytest.approx(3_000, rel=0.2)


def test_a_server_that_counts_nothing_is_held_to_limits_by_bytes(simulate: Simulate) -> None:
    @tool
    def look() -> str:
        """Look."""
        return "y" * 2_000

    sim = simulate([call("look")] * 20, usage_place="alone")
    counts_nothing = replace(profile_named("deepseek"), stream_usage=False)
    model = ChatModel("deepseek-flash", base_url=sim.base_url, profile=counts_nothing)
    agent = Agent(model, tools=[look], limits=Limits(input_tokens=5_000), settings=STREAMED)
    result = agent.run_sync("go")
    assert result.stop_reason == "limit:input_tokens"
    assert (result.usage.input_tokens, result.cost) == (0, None)
    assert 2_000 < result.uncounted.input_tokens < 5_000
    assert result.state.known_cost > 0


def test_each_request_of_a_middleware_counts(how: How) -> None:
    class Twice(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            first: ModelReply = await next(request)
            await next(request)
            return replace(first, message=Assistant("Yes."))

    result = how(Agent(ScriptedModel([priced("a", 100), priced("b", 30)]), middleware=[Twice()]), "go")
    assert (result.usage.requests, result.usage.input_tokens) == (2, 130)
    assert result.cost == pytest.approx(0.02)
    (replied,) = [event for event in result.events if isinstance(event, ModelReplied)]
    assert replied.usage.input_tokens == 100


def test_a_reply_of_a_middlewares_own_does_not_hide_what_was_spent(how: How) -> None:
    class Guard(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            await next(request)
            return ModelReply(Assistant("I cannot say that."), Usage())

    result = how(Agent(ScriptedModel([priced("secret")]), middleware=[Guard()]), "go")
    assert (result.output, result.usage, result.state.known_cost) == ("I cannot say that.", Usage(1, 100, 10), 0.01)


def test_what_a_middleware_adds_to_a_reply_is_held_by_the_limits_around(how: How) -> None:
    class Judge(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            reply: ModelReply = await next(request)
            return replace(reply, usage=reply.usage + Usage(1, 1_000, 10), cost=0.11)

    model = ScriptedModel([priced(asking("look", n)) for n in range(20)])
    inner = Agent(model, tools=[deep_look()], middleware=[Judge()], limits=Limits(max_steps=20)).as_tool("inner", "Ask.")
    outer = Agent(ScriptedModel([priced(asking("inner")), priced("Done.")]), tools=[inner], limits=Limits(cost=0.3))
    result = how(outer, "go")
    assert (len(model.requests), result.stop_reason) == (3, "limit:cost")
    assert result.usage.input_tokens == 100 + 3 * 1_100
    assert result.cost == pytest.approx(0.34)


def test_what_a_middleware_got_elsewhere_and_was_not_counted_is_held_too() -> None:
    class Router(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            return replace(priced("x", 0, None), uncounted=Spent(Usage(0, 500, 50), 0.2))

    result = Agent(ScriptedModel([]), middleware=[Router()]).run_sync("go")
    assert (result.uncounted, result.state.known_cost) == (Usage(0, 500, 50), 0.2)


class Twice(Middleware):
    """Asks again, and takes the second reply."""

    async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
        await next(request)
        reply: ModelReply = await next(request)
        return reply


@pytest.mark.parametrize("fails", ["observer", "cancelled"])
def test_a_reply_that_was_paid_for_is_kept_whatever_becomes_of_the_run(fails: str) -> None:
    states: list[RunState] = []

    def keep(event: Any) -> None:
        if isinstance(event, RunFinished):
            states.append(event.result.state)

    async def main() -> None:
        async def watch(event: Any) -> None:
            if isinstance(event, ModelReplied | UsageAdded):
                if fails == "observer":
                    raise LookupError("meter")
                task.cancel()
                await asyncio.sleep(0)

        agent = Agent(ScriptedModel([priced("a", 100), priced("b", 1_000)]), middleware=[Twice()])
        task = asyncio.ensure_future(agent.run("go", observers=[watch, keep]))
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert (states[-1].usage.input_tokens, states[-1].cost) == (1_100, 0.02)


@pytest.mark.parametrize("cut_off", ["time", "tool"])
def test_a_call_that_is_cancelled_in_its_answer_counts_by_what_came(simulate: Simulate, cut_off: str) -> None:
    sim = simulate([Late("word " * 400, 30.0, after=300)] * 9)
    model = ChatModel("deepseek-flash", base_url=sim.base_url, profile="deepseek")
    if cut_off == "time":
        writer = Agent(model, limits=Limits(seconds=0.5), settings=STREAMED)
        result: RunResult[Any] = writer.run_sync("go", observers=[lambda event: None])
    else:
        inner = Agent(model, settings=STREAMED).as_tool("inner", "Ask.", timeout=0.5)
        result = Agent(ScriptedModel([asking("inner"), "Done."]), tools=[inner]).run_sync("go")
    assert result.uncounted.output_tokens > 200
    assert result.state.known_cost > 0


def test_what_broken_attempts_cost_is_known_though_a_later_one_is_cancelled() -> None:
    class Breaks:
        async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
            if self.asked:
                await asyncio.Event().wait()
            self.asked = True
            error = StreamBroken("cut")
            error.uncounted = Spent(Usage(0, 5_000, 50), 0.5)
            raise error

        asked = False

    for model in (Breaks(), Fallback(Breaks(), ScriptedModel([]))):
        agent = Agent(model, retry=Retry(first=0), limits=Limits(seconds=0.2))
        result = agent.run_sync("go")
        assert (result.stop_reason, result.uncounted) == ("limit:seconds", Usage(0, 5_000, 50))
        assert result.state.known_cost == 0.5


@pytest.mark.parametrize("model", ["retried", "fallback"])
def test_no_attempt_is_made_past_the_limit(model: str) -> None:
    def broken() -> StreamBroken:
        error = StreamBroken("cut")
        error.uncounted = Spent(Usage(0, 10, 400), 0.01)
        return error

    script = ScriptedModel([broken() for _ in range(9)])
    asked = script if model == "retried" else Fallback(script, ScriptedModel(["never"]), retry=Retry(attempts=9, first=0))
    agent = Agent(asked, retry=Retry(attempts=9, first=0), limits=Limits(output_tokens=500))
    result = agent.run_sync("go")
    assert (result.stop_reason, len(script.requests)) == ("limit:output_tokens", 2)
    assert result.uncounted.output_tokens == 800


def test_the_last_answer_is_asked_for_where_the_ledger_refuses(how: How) -> None:
    replies = [priced(asking("look", n)) for n in range(3)] + [priced("a"), priced("LAST")]
    limits = Limits(cost=0.03, on_limit="answer")
    result = how(Agent(ScriptedModel(replies), tools=[deep_look()], middleware=[Twice()], limits=limits), "go")
    assert (result.stop_reason, result.output) == ("limit:cost", "LAST")


def test_what_was_spent_counts_once_while_observers_are_told_of_it() -> None:
    """A sibling's call, meanwhile, has the room that is left."""
    slow, begun = asyncio.Event(), asyncio.Event()

    async def watch(event: Any) -> None:
        if isinstance(event, ModelReplied):
            begun.set()
            await slow.wait()

    large, small = Agent(ScriptedModel([priced("x", cost=0.6)])), Agent(ScriptedModel([priced("y", cost=0.01)]))

    @tool
    async def first(ctx: RunContext[None], task: str) -> str:
        """Ask the dear one."""
        return (await large.run(task, within=ctx, observers=[watch])).output

    @tool
    async def second(ctx: RunContext[None], task: str) -> str:
        """Ask the cheap one, when the other has answered."""
        await begun.wait()
        try:
            return (await small.run(task, within=ctx)).stop_reason
        finally:
            slow.set()

    asked = ModelReply(Assistant(tool_calls=(asking("first"), asking("second", 1))), Usage(1, 1, 1), cost=0.0)
    agent = Agent(ScriptedModel([asked, priced("Done.")]), tools=[first, second], limits=Limits(cost=1))
    result = asyncio.run(agent.run("go"))
    assert told(result) == ["x", "answer"] and result.cost == pytest.approx(0.62)


def test_a_router_that_asked_before_pays_for_both() -> None:
    class Router(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            await next(request)
            return priced("from elsewhere", 1_000, 1.0)

    result = Agent(ScriptedModel([priced("x", 500, 0.5)]), middleware=[Router()]).run_sync("go")
    assert (result.usage.input_tokens, result.usage.requests, result.cost) == (1_500, 2, 1.5)


def test_counts_that_a_middleware_puts_right_count_once() -> None:
    class Meter(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            reply: ModelReply = await next(request)
            return replace(reply, usage=Usage(1, 70, 7))

    for tokens in (0, 100):
        result = Agent(ScriptedModel([priced("x", tokens)]), middleware=[Meter()]).run_sync("go")
        assert result.usage == Usage(1, 70, 7)


def test_one_count_does_not_stand_for_two_replies() -> None:
    class Twice(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            await next(request)
            await next(request)
            return ModelReply(Assistant("both"), Usage(1, 100, 10), cost=0.01)

    result = Agent(ScriptedModel([priced("x"), priced("y")]), middleware=[Twice()]).run_sync("go")
    assert (result.usage, result.cost) == (Usage(2, 200, 20), 0.02)


def test_replies_that_share_one_count_are_counted_each() -> None:
    class Thrice(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            await next(request)
            await next(request)
            reply: ModelReply = await next(request)
            return reply

    result = Agent(ScriptedModel([priced("x")] * 3), middleware=[Thrice()]).run_sync("go")
    assert result.usage == Usage(3, 300, 30)


def test_a_sum_of_several_replies_counts_once() -> None:
    class Both(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            first, second = await next(request), await next(request)
            return ModelReply(Assistant("both"), first.usage + second.usage, cost=0.02)

    result = Agent(ScriptedModel([priced("x", 500), priced("y", 70)]), middleware=[Both()]).run_sync("go")
    assert (result.usage.input_tokens, result.usage.requests, result.cost) == (570, 2, 0.02)


def test_a_request_that_a_middleware_leaves_to_itself_counts_when_it_ends() -> None:
    go_on, left = asyncio.Event(), list[Any]()

    class Hedge(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            if not left:
                left.append(asyncio.ensure_future(next(request)))
                await asyncio.sleep(0)
            reply: ModelReply = await next(request)
            return reply

    class Slow(ScriptedModel):
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            reply = await super().reply(request, on_delta)
            if len(self.requests) == 1:
                await go_on.wait()
            return reply

    @tool
    async def wait(task: str) -> str:
        """Wait for the first request."""
        go_on.set()
        await left[0]
        return "waited"

    async def main() -> RunResult[str]:
        script = [priced("late", 700), priced(asking("wait"), 10), priced("Done.", 10)]
        return await Agent(Slow(script), tools=[wait], middleware=[Hedge()]).run("go")

    result = asyncio.run(main())
    assert (result.usage.requests, result.usage.input_tokens) == (3, 720)
    assert result.cost == pytest.approx(0.03)


def test_what_a_fallbacks_models_spent_is_known_where_a_limit_ends_it_between_them() -> None:
    error = StreamBroken("cut")
    error.uncounted = Spent(Usage(0, 10, 1_000), 0.5)
    model = Fallback(ScriptedModel([error]), ScriptedModel(["never"]), retry=None)
    result = Agent(model, limits=Limits(output_tokens=900)).run_sync("go")
    assert (result.uncounted.output_tokens, result.state.known_cost) == (1_000, 0.5)


def test_limits_bind_the_attempts_of_all_models_of_a_fallback_together() -> None:
    def broken() -> StreamBroken:
        error = StreamBroken("cut")
        error.uncounted = Spent(Usage(0, 10, 1_000), 0.01)
        return error

    scripts = [ScriptedModel([broken() for _ in range(3)]) for _ in range(2)]
    model = Fallback(*scripts, retry=Retry(attempts=3, first=0))
    result = Agent(model, limits=Limits(output_tokens=3_500)).run_sync("go")
    assert (result.stop_reason, result.uncounted.output_tokens) == ("limit:output_tokens", 4_000)


def test_usage_of_a_run_in_a_run_that_has_ended_goes_to_the_one_around() -> None:
    """The middle run is given up; the innermost, in a thread of its own, ends later."""
    ended = threading.Event()

    class Waits:
        async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                error.uncounted = Spent(Usage(0, 700, 70), 0.5)  # type: ignore[attr-defined]
                raise
            raise AssertionError

    innermost = Agent(Waits())

    @tool
    def ask(ctx: RunContext[None], task: str) -> str:
        """Ask, from a thread."""
        try:
            return innermost.run_sync(task, within=ctx).output
        finally:
            ended.set()

    @tool
    async def wait(task: str) -> str:
        """Wait for the innermost run."""
        await asyncio.to_thread(ended.wait, 10)
        await asyncio.sleep(0)
        return "waited"

    middle = Agent(ScriptedModel([asking("ask"), "never"]), tools=[ask]).as_tool("middle", "Ask.", timeout=0.2)
    script = ScriptedModel([asking("middle"), asking("wait"), priced("Done.")])
    result = Agent(script, tools=[middle, wait], limits=Limits(cost=9)).run_sync("go")
    assert (result.output, result.uncounted.input_tokens) == ("Done.", 700)


@pytest.mark.parametrize("kind", ["observer", "stream"])
def test_a_watcher_may_make_a_run_beside_the_one_that_it_watches(kind: str) -> None:
    """The call under way cannot end before its watcher goes on, which waits for room: nobody waits for such a call."""
    with DeepSeekSimulator(lambda request: "ok" if request.messages[-1]["content"] == "judge" else "word " * 700) as sim:
        model = ChatModel("deepseek-flash", base_url=sim.base_url, profile="deepseek")
        writer, judge = Agent(model), Agent(model)

        @tool
        async def write(ctx: RunContext[None], task: str) -> str:
            """Write."""
            judged: list[str] = []

            async def watch(event: Any) -> None:
                if isinstance(event, TextDelta) and not judged:
                    judged.append((await judge.run("judge", within=ctx)).output)

            if kind == "observer":
                await writer.run(task, within=ctx, observers=[watch])
            else:
                async for event in writer.stream(task, within=ctx):
                    await watch(event)
            return judged[0]

        async def main() -> RunResult[str]:
            outer = Agent(ScriptedModel([asking("write"), "Done."]), tools=[write], limits=Limits(output_tokens=20_000))
            result = await asyncio.wait_for(outer.run("go"), 60)
            await model.aclose()
            return result

        assert told(asyncio.run(main())) == ["ok"]


def test_a_middleware_that_asks_again_is_stopped_by_the_limit(how: How) -> None:
    class Endless(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            while True:
                await next(request)

    model = ScriptedModel([priced("again") for _ in range(50)])
    result = how(Agent(model, middleware=[Endless()], limits=Limits(cost=0.045)), "go")
    assert (result.stop_reason, len(model.requests)) == ("limit:cost", 5)
    assert result.cost == pytest.approx(0.05)


def test_the_first_prompt_has_the_tools_in_it() -> None:
    @tool
    def long() -> None:
        """Long."""

    tools = [replace(long, name=f"t{n}", description="x" * 400) for n in range(100)]
    model = ScriptedModel(["never"])
    result = Agent(model, tools=tools, limits=Limits(input_tokens=1_000)).run_sync("go")
    assert (result.stop_reason, model.requests) == ("limit:input_tokens", [])


# --- observers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_thread", [False, True])
def test_an_observers_error_ends_the_run_and_is_not_told_to_the_model(from_thread: bool) -> None:
    model = ScriptedModel([priced("never")] * 5)
    inner = Agent(ScriptedModel([priced(asking("look")), priced("found")]), tools=[deep_look()])

    @tool(name="inner")
    def ask(ctx: RunContext[None], task: str) -> str:
        """Ask."""
        return inner.run_sync(task, within=ctx).output

    def watch(event: Any) -> None:
        if isinstance(event, UsageAdded):
            raise LookupError("the meter is broken")

    watch.strict = True  # type: ignore[attr-defined]
    told_by = ask if from_thread else inner.as_tool("inner", "Ask.")
    outer = Agent(ScriptedModel([priced(asking("inner")), priced("never")]), tools=[told_by])
    with pytest.raises(LookupError, match="the meter is broken"):
        outer.run_sync("go", observers=[watch])
    assert len(model.requests) == 0


def deep_look() -> Any:
    @tool
    async def look(task: str) -> str:
        """Look."""
        return "seen"

    return look


# --- a last answer ------------------------------------------------------------------------------------------------------


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

    @tool
    async def again(task: str) -> str:
        """Again."""
        return "once more"

    said_before = Assistant("I will look.", "", (asking("again"),))
    model = ScriptedModel([said_before, last])
    inner = Agent(model, tools=[again], limits=Limits(max_steps=1, on_limit="answer")).as_tool("inner", "Ask.")
    result = Agent(ScriptedModel([asking("inner"), "Done."]), tools=[inner]).run_sync("go")
    assert told(result)[0].startswith(told_outer)


def test_a_typed_last_answer_counts_as_one() -> None:
    @tool
    async def again(task: str) -> str:
        """Again."""
        return "once more"

    model = ScriptedModel([asking("again"), call("final_answer", answer=7)])
    agent = Agent(model, tools=[again], output_type=int, limits=Limits(max_steps=1, on_limit="answer"))
    result = Agent(ScriptedModel([asking("inner"), "Done."]), tools=[agent.as_tool("inner", "Ask.")]).run_sync("go")
    assert told(result) == ["7"]


def test_a_last_answer_may_pass_the_limit_of_its_own_run(how: How) -> None:
    @tool
    async def again(task: str) -> str:
        """Again."""
        return "once more"

    model = ScriptedModel([priced(asking("again")), priced("Half of it.")])
    result = how(Agent(model, tools=[again], limits=Limits(cost=0.01, on_limit="answer")), "go")
    assert (result.output, result.stop_reason, len(model.requests)) == ("Half of it.", "limit:cost", 2)


# --- what is written down -----------------------------------------------------------------------------------------------


def test_a_run_whose_observer_failed_pays_for_no_more_calls_inside_it() -> None:
    model = ScriptedModel([priced(asking("look", n)) for n in range(9)])
    inner = Agent(model, tools=[deep_look()]).as_tool("inner", "Ask.")

    def watch(event: Any) -> None:
        if isinstance(event, UsageAdded):
            raise LookupError("the meter is broken")

    watch.strict = True  # type: ignore[attr-defined]
    with pytest.raises(LookupError):
        Agent(ScriptedModel([priced(asking("inner"))]), tools=[inner]).run_sync("go", observers=[watch])
    assert len(model.requests) == 1


def test_what_a_sync_call_spent_is_written_down_before_the_run_ends() -> None:
    inner = Agent(ScriptedModel([priced("found")]))

    @tool
    async def ask(ctx: RunContext[None], task: str) -> str:
        """Ask without giving way."""
        return inner.run_sync(task, within=ctx).output

    agent = Agent(ScriptedModel([priced(asking("ask"))]), tools=[ask], limits=Limits(max_steps=1))
    result = asyncio.run(agent.run("go"))
    assert (result.stop_reason, result.usage.requests) == ("limit:steps", 2)


def test_what_a_middleware_answers_itself_binds_the_run_around_it() -> None:
    class Answers(Middleware):
        async def model_call(self, request: ModelRequest, next: Any) -> ModelReply:
            return priced("kept", tokens=0, cost=0.02)

    inner, asked = Agent(ScriptedModel([]), middleware=[Answers()]), ScriptedModel(["never"])

    @tool
    async def both(ctx: RunContext[None], task: str) -> str:
        """Ask two."""
        await inner.run(task, within=ctx)
        return (await Agent(asked).run(task, within=ctx)).stop_reason

    result = Agent(ScriptedModel([asking("both"), "never"]), tools=[both], limits=Limits(cost=0.02)).run_sync("go")
    assert (told(result), asked.requests) == (["limit:cost"], [])


def test_what_a_run_inside_could_not_count_is_not_counted_in_the_run_around_it(simulate: Simulate) -> None:
    sim = simulate([Cut(Assistant("x" * 400), 50), "found"])
    model = ChatModel("deepseek-flash", base_url=sim.base_url, profile="deepseek")
    inner = Agent(model, retry=Retry(first=0, longest=0), settings=STREAMED).as_tool("inner", "Ask.")
    result = Agent(ScriptedModel([asking("inner"), "Done."]), tools=[inner]).run_sync("go")
    assert result.usage.requests == 3
    assert result.uncounted.input_tokens > 0
    assert result.uncounted.requests == 0
