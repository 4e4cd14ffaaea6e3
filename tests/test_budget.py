"""Budgets: what a run and the runs inside it spend, what their calls reserve, and the limits that bind both."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from agentkit import (
    Agent,
    Assistant,
    ChatModel,
    Limits,
    ModelReplied,
    ModelReply,
    ModelRequest,
    ModelSettings,
    RunContext,
    RunFinished,
    RunResult,
    RunStarted,
    RunState,
    ScriptedModel,
    TextDelta,
    ToolCall,
    ToolFinished,
    ToolResult,
    ToolStarted,
    Usage,
    UsageAdded,
    User,
    tool,
)  # fmt: skip
from agentkit._sync import Blocking
from agentkit.messages import Spending
from agentkit.models.prices import DEEPSEEK_FLASH
from agentkit.run.ledger import CallBudget, Ledger, OverBudget
from tests.kit import How, Simulate, tool_texts
from tests.spending import Twice, again, asking, endless, priced

PRICE = DEEPSEEK_FLASH[-1]
STREAMED = ModelSettings(stream=True)


def of_sub_agents(calls: list[ToolCall], tools: list[Any], limits: Limits, cost: float = 0.01) -> RunResult[Any]:
    """A run whose first reply makes these calls together."""
    first = ModelReply(Assistant(tool_calls=tuple(calls)), Usage(1, 1, 1), "tool_calls", "scripted", cost)
    return Agent(ScriptedModel([first, priced("Done.")]), tools=tools, limits=limits).run_sync("go")


class Slow:
    """A model whose calls overlap: each gives way to the others before it answers."""

    def __init__(self, reply: ModelReply) -> None:
        self.answer = reply
        self.in_flight = self.max_in_flight = self.asked = 0
        self.begun = asyncio.Event()

    async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
        self.asked += 1
        self.in_flight += 1
        self.begun.set()
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        for _ in range(5):
            await asyncio.sleep(0)
        self.in_flight -= 1
        return self.answer


# --- the next prompt ----------------------------------------------------------------------------------------------------

ASKED = ToolCall("a", "f", "{}")
AFTER_A_CALL = [
    RunStarted("r", (User("x" * 4000),)),
    ModelReplied(Assistant(tool_calls=(ASKED,)), Usage(1, 50, 10)),
    ToolStarted(ASKED, 0),
    ToolFinished(ASKED, ToolResult("a", "f", "y" * 80)),
]
MILLION = [RunStarted("r", (User("x" * 4_000_000),))]
CACHED = [*MILLION, ModelReplied(Assistant("z"), Usage(1, 1_000_000, 0), cost=0.15)]


@pytest.mark.parametrize(
    ("events", "limits", "price", "is_reached"),
    [
        ([RunStarted("r", (User("é" * 200),))], Limits(input_tokens=100), None, True),
        ([RunStarted("r", (User("é" * 200),))], Limits(input_tokens=101), None, False),
        (AFTER_A_CALL, Limits(input_tokens=50 + 60 + 20), None, True),
        (AFTER_A_CALL, Limits(input_tokens=50 + 60 + 20 + 1), None, False),
        (MILLION, Limits(cost=0.1), PRICE, True),
        (MILLION, Limits(cost=0.2), PRICE, False),
        (MILLION, Limits(cost=0.1), None, False),
        (CACHED, Limits(cost=0.154), PRICE, False),
        (CACHED, Limits(cost=0.152), PRICE, True),
    ],
    ids=["bytes", "bytes+1", "counted", "counted+1", "dear", "affordable", "no price", "cached", "cached, dear"],
)
def test_the_next_prompt_is_estimated(events: list[Any], limits: Limits, price: Any, is_reached: bool) -> None:
    """By its bytes; by what the server counted and the bytes that came since; at the price of a cached prompt."""
    reason = limits.before_model_call(RunState.replay(events), price)
    assert reason == ((f"limit:{'cost' if limits.cost else 'input_tokens'}") if is_reached else None)


def test_nothing_is_sent_where_the_first_prompt_breaks_the_budget(how: How, simulate: Simulate) -> None:
    sim = simulate(["never"])
    agent = Agent(ChatModel("deepseek-v4-flash", base_url=sim.base_url, profile="deepseek"), limits=Limits(cost=0.001))
    result = how(agent, "x" * 40_000)
    assert (result.stop_reason, result.output, sim.requests) == ("limit:cost", None, [])


def test_the_first_prompt_has_the_tools_in_it() -> None:
    @tool
    def long() -> None:
        """Long."""

    tools = [replace(long, name=f"t{n}", description="x" * 400) for n in range(100)]
    model = ScriptedModel(["never"])
    result = Agent(model, tools=tools, limits=Limits(input_tokens=1_000)).run_sync("go")
    assert (result.stop_reason, model.requests) == ("limit:input_tokens", [])


# --- runs inside runs ---------------------------------------------------------------------------------------------------


def test_a_run_pays_for_the_runs_inside_it_at_any_depth(how: How) -> None:
    deep = Agent(ScriptedModel([priced("deep down")])).as_tool("deep", "Ask deeper.")
    inner = Agent(ScriptedModel([priced(asking("deep")), priced("found")]), tools=[deep]).as_tool("inner", "Ask.")
    result = how(Agent(ScriptedModel([priced(asking("inner")), priced("Done.")]), tools=[inner]), "go")
    assert result.output == "Done."
    assert (result.usage.requests, result.usage.input_tokens, result.usage.tool_calls) == (5, 500, 1)
    assert result.cost == pytest.approx(0.05)
    added = [event for event in result.events if isinstance(event, UsageAdded)]
    assert [(event.call_id, event.usage.input_tokens) for event in added] == [("c0", 100)] * 3
    assert RunState.from_json(result.state.to_json()).usage == result.usage


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(Limits(cost=0.025), "cost"), (Limits(input_tokens=400), "input_tokens"), (Limits(output_tokens=20), "output_tokens")],
)
def test_limits_of_a_parent_bind_runs_at_any_depth(how: How, limits: Limits, reason: str) -> None:
    model = endless()
    inner = Agent(model, tools=[again], limits=Limits(steps=None)).as_tool("inner", "Ask.")
    middle = Agent(ScriptedModel([priced(asking("inner")), priced("never")]), tools=[inner]).as_tool("middle", "Ask.")
    result = how(Agent(ScriptedModel([priced(asking("middle")), priced("never")]), tools=[middle], limits=limits), "go")
    assert (result.stop_reason, len(model.requests)) == (f"limit:{reason}", 0 if reason == "output_tokens" else 1)
    assert tool_texts(result) == [f"error: the agent middle gave no answer: limit:{reason}"]
    assert (result.cost or 0) <= 0.031


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


def test_a_loop_that_is_gone_is_not_waited_for() -> None:
    state, written = RunState.replay([RunStarted("r", (User("go"),))]), []

    async def made() -> CallBudget:
        async def record(event: Any) -> None:
            written.append(event)

        return CallBudget("c", Ledger(Limits(), state, None), 0, record)

    budget = asyncio.run(made())
    asyncio.run(budget.add(Usage(1, 100, 1), 0.1, estimated=False))
    assert written == []


def test_usage_of_a_run_in_a_run_that_has_ended_goes_to_the_one_around() -> None:
    """The middle run is given up; the innermost, in a thread of its own, ends later."""
    ended = threading.Event()

    class Waits:
        async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                error.estimated = Spending(Usage(0, 700, 70), 0.5)  # type: ignore[attr-defined]
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


@pytest.mark.parametrize("from_thread", [False, True])
def test_an_observers_error_ends_the_run_and_is_not_told_to_the_model(from_thread: bool) -> None:
    model = ScriptedModel([priced("never")] * 5)
    inner = Agent(ScriptedModel([priced(asking("again")), priced("found")]), tools=[again])

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


def test_a_run_whose_observer_failed_pays_for_no_more_calls_inside_it() -> None:
    model = ScriptedModel([priced(asking("again", n)) for n in range(9)])
    inner = Agent(model, tools=[again]).as_tool("inner", "Ask.")

    def watch(event: Any) -> None:
        if isinstance(event, UsageAdded):
            raise LookupError("the meter is broken")

    watch.strict = True  # type: ignore[attr-defined]
    with pytest.raises(LookupError):
        Agent(ScriptedModel([priced(asking("inner"))]), tools=[inner]).run_sync("go", observers=[watch])
    assert len(model.requests) == 1


@pytest.mark.filterwarnings("ignore:a sync call inside a running event loop")
@pytest.mark.parametrize(
    ("limits", "stop"), [(Limits(), "answer"), (Limits(cost=0.055), "limit:cost"), (Limits(steps=1), "answer")]
)
def test_run_sync_in_an_async_tool_pays_and_is_bound(limits: Limits, stop: str) -> None:
    replies = [priced("found")] if stop == "answer" else [priced(asking("again", n)) for n in range(50)]
    inner = Agent(ScriptedModel(replies), tools=[again], limits=Limits(steps=50))

    @tool
    async def ask(ctx: RunContext[None], task: str) -> str:
        """Ask without giving way."""
        return inner.run_sync(task, within=ctx).stop_reason

    agent = Agent(ScriptedModel([priced(asking("ask")), priced("Done.")]), tools=[ask], limits=limits)
    result = asyncio.run(asyncio.wait_for(agent.run("go"), 20))
    assert tool_texts(result) == [stop]
    assert result.usage.requests == (6 if stop == "limit:cost" else 2 if limits.steps == 1 else 3)


# --- reservations -------------------------------------------------------------------------------------------------------


async def reserved(ledger: Ledger, answer: int | None = 9, **options: Any) -> Any:
    return await ledger.reserve(Spending(), answer, None, **options)


def tree(limits: Limits, children: int) -> list[Ledger]:
    """The ledgers of runs inside a run with these limits."""
    parent = Ledger(limits, RunState())
    return [Ledger(Limits(), RunState(), parent) for _ in range(children)]


OF_ENDED = RunState.replay([RunStarted("r", (User("go"),)), RunFinished("limit:seconds", None)])


def answered(tokens: int, cost: float = 0.0) -> Spending:
    return Spending(Usage(1, 0, tokens), cost)


@pytest.mark.parametrize(
    ("limit", "spent", "answer", "has_room"),
    [
        (Limits(output_tokens=20), (), 9, True),
        (Limits(output_tokens=17), (), 9, False),
        (Limits(output_tokens=26), (answered(8),), 9, True),
        (Limits(output_tokens=25), (answered(8),), 9, False),
        (Limits(output_tokens=8_000), (), None, True),
        (Limits(output_tokens=7_999), (), None, False),
        (Limits(output_tokens=15_000), (answered(5_000),), None, True),
        (Limits(output_tokens=14_999), (answered(5_000),), None, False),
        (Limits(cost=1.0), (answered(1, 0.25),), 9, True),
        (Limits(cost=1.0), (answered(1, 0.4),), 9, False),
    ],
)
def test_two_calls_have_room_together(limit: Limits, spent: tuple[Spending, ...], answer: int | None, has_room: bool) -> None:
    """Each reserves `max_tokens`, else the longest answer so far, at least 4,000; without a price, the highest cost so far."""

    async def main() -> bool:
        first, second = tree(limit, 2)
        for one in spent:
            first.settle(await reserved(first, 1), one)
        await reserved(first, answer)
        with Blocking():
            try:
                await reserved(second, answer)
            except OverBudget:
                return False
            return True

    assert asyncio.run(main()) is has_room


def test_a_reservation_costs_what_a_call_costs_in_peak_hours_without_a_cache() -> None:
    assert PRICE.max_cost(1_000_000, 1_000_000) == pytest.approx((PRICE.cache_miss + PRICE.output) * 2)
    assert replace(PRICE, peak=0.5).max_cost(0, 1_000_000) == pytest.approx(PRICE.output)


def test_a_call_without_room_waits_for_the_next_end_and_says_how_long() -> None:
    async def main() -> list[bool]:
        first, second = tree(Limits(output_tokens=10), 2)
        held = await reserved(first)
        waiting = asyncio.create_task(reserved(second))
        await asyncio.sleep(0)
        first.settle(held, answered(1))
        return [held.waited > 0, (await asyncio.wait_for(waiting, 5)).waited > 0]

    assert asyncio.run(main()) == [False, True]


def test_small_reservation_passes_a_waiting_large_one() -> None:
    async def main() -> tuple[bool, float]:
        ledgers = tree(Limits(output_tokens=20), 4)
        await reserved(ledgers[0], 10)
        short = await reserved(ledgers[1], 5)
        large, small = asyncio.create_task(reserved(ledgers[2], 19)), asyncio.create_task(reserved(ledgers[3], 9))
        await asyncio.sleep(0)
        ledgers[1].settle(short, Spending())
        waited = (await small).waited
        is_waiting = not large.done()
        large.cancel()
        return is_waiting, waited

    is_waiting, waited = asyncio.run(main())
    assert is_waiting and waited < 5


def test_a_cancelled_waiter_takes_no_room() -> None:
    async def main() -> None:
        first, second, third = tree(Limits(output_tokens=10), 3)
        held = await reserved(first)
        cancelled, waiting = asyncio.create_task(reserved(second)), asyncio.create_task(reserved(third))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        first.settle(held, answered(1))
        third.settle(await asyncio.wait_for(waiting, 5), answered(1))
        await asyncio.wait_for(reserved(first, 8), 5)

    asyncio.run(main())


def test_an_end_on_one_event_loop_wakes_a_waiter_on_another() -> None:
    first, second = tree(Limits(output_tokens=10), 2)
    begun = threading.Event()

    async def elsewhere() -> float:
        waiting = asyncio.create_task(reserved(second))
        await asyncio.sleep(0)
        begun.set()
        waited: float = (await waiting).waited
        return waited

    async def main() -> float:
        held = await reserved(first)
        thread = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
        await asyncio.to_thread(begun.wait, 10)
        first.settle(held, answered(1))
        return await asyncio.wait_for(thread, 10)

    assert 0 < asyncio.run(main()) < 10


def test_a_wait_for_room_ends_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentkit.run.ledger._MAX_WAIT", 0.05)

    async def main() -> OverBudget:
        first, second = tree(Limits(output_tokens=10), 2)
        await reserved(first)
        with pytest.raises(OverBudget) as caught:
            await reserved(second)
        return caught.value

    refused = asyncio.run(main())
    assert (refused.stop_reason, refused.of_own) == ("limit:output_tokens", False)


def test_a_run_whose_parent_has_ended_makes_no_more_calls() -> None:
    ledger = Ledger(Limits(), RunState(), Ledger(Limits(), OF_ENDED))
    with pytest.raises(OverBudget) as refused:
        asyncio.run(reserved(ledger))
    assert (refused.value.stop_reason, refused.value.of_own) == ("limit:outer_run", False)


# --- concurrent runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "settings", "number", "max_in_flight", "asked"),
    [
        (Limits(cost=0.04), ModelSettings(), 64, 3, 3),
        (Limits(cost=0.5, concurrent_calls=8), ModelSettings(), 24, 8, 24),
        (Limits(output_tokens=45), ModelSettings(), 10, 1, 5),
        (Limits(output_tokens=1_000), ModelSettings(max_tokens=100), 8, 8, 8),
        (Limits(output_tokens=1_000), ModelSettings(), 2, 1, 2),
    ],
    ids=["near", "far away", "near, tokens", "max_tokens", "no max_tokens"],
)
def test_sub_agents_go_together_as_far_as_there_is_room(
    limits: Limits, settings: ModelSettings, number: int, max_in_flight: int, asked: int
) -> None:
    model = Slow(priced("found", tokens=0))
    inner = Agent(model, settings=settings).as_tool("inner", "Ask.")
    result = of_sub_agents([asking("inner", n) for n in range(number)], [inner], limits)
    assert (model.max_in_flight, model.asked) == (max_in_flight, asked)
    assert result.stop_reason == ("answer" if asked == number else f"limit:{'cost' if limits.cost else 'output_tokens'}")


class GettingCheaper(Slow):
    """A slow model whose first call costs 0.02, each later one 0.01."""

    async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
        cost = 0.01 if self.asked else 0.02
        return replace(await super().reply(request, on_delta), cost=cost)


def test_room_is_kept_for_the_most_expensive_call_so_far() -> None:
    """Without a price. The 0.055 that are left have room for two calls of 0.02 together, and for three of 0.01."""
    model = GettingCheaper(priced("found", tokens=0))
    inner = Agent(model).as_tool("inner", "Ask.")
    calls = [priced(asking("inner", n), cost=0.0) for n in range(2)]
    three = priced(Assistant(tool_calls=tuple(asking("inner", n) for n in range(2, 5))), cost=0.0)
    agent = Agent(ScriptedModel([*calls, three, priced("Done.", cost=0.0)]), tools=[inner], limits=Limits(cost=0.085))
    assert agent.run_sync("go").stop_reason == "answer"
    assert (model.asked, model.max_in_flight) == (5, 2)


def test_runs_of_several_threads_share_the_limit() -> None:
    model = Slow(priced("found"))
    inner = Agent(model)

    @tool(name="inner", parallel=True)
    def ask(ctx: RunContext[None], task: str) -> str:
        """Ask."""
        return inner.run_sync(task, within=ctx).stop_reason

    result = of_sub_agents([asking("inner", n) for n in range(16)], [ask], Limits(cost=0.03))
    assert model.asked == 2
    assert sorted(tool_texts(result)) == ["answer"] * 2 + ["limit:cost"] * 14


@pytest.mark.filterwarnings("ignore:a sync call inside a running event loop")
@pytest.mark.parametrize(("limit", "stop"), [(0.5, "answer"), (0.025, "limit:cost")])
def test_run_sync_does_not_wait_for_calls_on_the_loop_that_it_blocks(limit: float, stop: str) -> None:
    """It goes on if there is room beside them, else it gets the limit."""
    slow, inner = Slow(priced("x")), Agent(ScriptedModel([priced("found")]))

    @tool
    async def hold(ctx: RunContext[None], task: str) -> str:
        """Ask without giving way."""
        await slow.begun.wait()
        return inner.run_sync(task, within=ctx).stop_reason

    calls = Assistant(tool_calls=(asking("slow"), asking("hold", 1)))
    tools = [Agent(slow).as_tool("slow", "Ask."), hold]
    agent = Agent(ScriptedModel([priced(calls), priced("Done.")]), tools=tools, limits=Limits(cost=limit))
    assert tool_texts(asyncio.run(agent.run("go")))[1] == stop


@pytest.mark.parametrize(("limit", "stop"), [(20_000, "answer"), (5_000, "limit:output_tokens")])
def test_a_run_inside_a_deltas_callback_goes_on_or_gets_the_limit(limit: int, stop: str) -> None:
    """It does not wait for room: the call in flight cannot end before its watcher goes on."""

    class Streams:
        async def reply(self, request: ModelRequest, on_delta: Any = None) -> ModelReply:
            if on_delta:
                await on_delta(TextDelta("word"))
            return priced("word")

    writer, judge, stops = Agent(Streams()), Agent(Streams()), list[str]()

    @tool
    async def write(ctx: RunContext[None], task: str) -> str:
        """Write."""

        async def watch(event: Any) -> None:
            if isinstance(event, TextDelta):
                stops.append((await judge.run("judge", within=ctx)).stop_reason)

        return (await writer.run(task, within=ctx, observers=[watch])).output

    agent = Agent(ScriptedModel([asking("write"), "Done."]), tools=[write], limits=Limits(output_tokens=limit))
    result = asyncio.run(asyncio.wait_for(agent.run("go"), 20))
    assert (stops, result.output) == ([stop], "Done.")


# --- a last answer ------------------------------------------------------------------------------------------------------


def test_a_last_answer_is_asked_for_where_the_ledger_refuses(how: How) -> None:
    replies = [priced(asking("again", n)) for n in range(3)] + [priced("a"), priced("LAST")]
    limits = Limits(cost=0.03, on_limit="answer")
    result = how(Agent(ScriptedModel(replies), tools=[again], middleware=[Twice()], limits=limits), "go")
    assert (result.stop_reason, result.output) == ("limit:cost", "LAST")


def test_a_last_answer_may_pass_the_limit_of_its_own_run(how: How) -> None:
    model = ScriptedModel([priced(asking("again")), priced("Half of it.")])
    result = how(Agent(model, tools=[again], limits=Limits(cost=0.01, on_limit="answer")), "go")
    assert (result.output, result.stop_reason, len(model.requests)) == ("Half of it.", "limit:cost", 2)


def test_a_last_answer_does_not_pass_the_limit_of_its_parent() -> None:
    model = endless()
    inner = Agent(model, tools=[again], limits=Limits(steps=None, cost=0.02, on_limit="answer")).as_tool("inner", "Ask.")
    result = of_sub_agents([asking("inner")], [inner], Limits(cost=0.03))
    assert len(model.requests) == 2
    assert tool_texts(result) == ["error: the agent inner gave no answer: limit:cost"]
