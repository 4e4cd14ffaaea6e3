"""What counts: each reply of the model once, where it comes in; and by estimate what the server does not count."""

from __future__ import annotations

import asyncio
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
    RunState,
    ScriptedModel,
    StreamBroken,
    ToolCall,
    Usage,
    UsageAdded,
    tool,
)  # fmt: skip
from agentkit.messages import Spending
from agentkit.models.prices import DEEPSEEK_FLASH
from agentkit.models.profiles import profile_named
from agentkit.testing import Cut, Late, call
from tests.kit import How, Simulate
from tests.spending import Twice, asking, broken, priced

PRICE = DEEPSEEK_FLASH[-1]
STREAMED = ModelSettings(stream=True)


# --- what a reply counts ------------------------------------------------------------------------------------------------


async def _twice(request: ModelRequest, next: Any) -> Any:
    await next(request)
    return await next(request)


async def _first_of_two(request: ModelRequest, next: Any) -> Any:
    first = await next(request)
    await next(request)
    return replace(first, usage=Usage(9, 9, 9))


async def _redacts(request: ModelRequest, next: Any) -> Any:
    return replace(await next(request), message=Assistant("I cannot say that."))


async def _answers_instead(request: ModelRequest, next: Any) -> Any:
    await next(request)
    return ModelReply(Assistant("I cannot say that."), Usage(), cost=None)


async def _counts_again(request: ModelRequest, next: Any) -> Any:
    first, second = await next(request), await next(request)
    return ModelReply(Assistant("both"), first.usage + second.usage, cost=0.5, estimated=Spending(Usage(0, 7, 7), 0.5))


async def _cache(request: ModelRequest, next: Any) -> Any:
    return ModelReply(Assistant("kept"), Usage(1, 1_000, 100), cost=1.0)


@pytest.mark.parametrize(
    ("layer", "usage", "cost", "of_reply"),
    [
        (_twice, Usage(2, 130, 20), 0.02, 30),
        (_first_of_two, Usage(2, 130, 20), 0.02, 100),
        (_redacts, Usage(1, 100, 10), 0.01, 100),
        (_answers_instead, Usage(1, 100, 10), 0.01, 100),
        (_counts_again, Usage(2, 130, 20), 0.02, 30),
        (_cache, Usage(), 0.0, 0),
    ],
)
def test_middleware_changes_the_message_and_never_the_count(
    how: How, layer: Any, usage: Usage, cost: float, of_reply: int
) -> None:
    class Layer(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: Any) -> ModelReply:
            reply: ModelReply = await layer(request, next)
            return reply

    result = how(Agent(ScriptedModel([priced("a", 100), priced("b", 30)]), middleware=[Layer()]), "go")
    (replied,) = [event for event in result.events if isinstance(event, ModelReplied)]
    assert (result.usage, result.uncounted, replied.usage.input_tokens) == (usage, Usage(), of_reply)
    assert result.cost == pytest.approx(cost)


def test_replies_that_are_one_object_count_each(how: How) -> None:
    class Thrice(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: Any) -> ModelReply:
            await _twice(request, next)
            reply: ModelReply = await next(request)
            return reply

    result = how(Agent(ScriptedModel([priced("x")] * 3), middleware=[Thrice()]), "go")
    assert result.usage == Usage(3, 300, 30)


def test_a_request_that_a_middleware_leaves_to_itself_counts_when_it_ends() -> None:
    go_on, left = asyncio.Event(), list[Any]()

    class Hedge(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: Any) -> ModelReply:
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


def test_a_middleware_that_asks_again_is_stopped_by_the_limit(how: How) -> None:
    class Endless(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: Any) -> ModelReply:
            while True:
                await next(request)

    model = ScriptedModel([priced("again") for _ in range(50)])
    result = how(Agent(model, middleware=[Endless()], limits=Limits(cost=0.045)), "go")
    assert (result.stop_reason, len(model.requests)) == ("limit:cost", 5)
    assert result.cost == pytest.approx(0.05)


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
    assert RunState.from_json(result.state.to_json()).estimated_usage == result.uncounted


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


@pytest.mark.parametrize("asked", ["one model", "a fallback"])
def test_attempts_before_a_cancelled_one_are_counted(asked: str) -> None:
    class Breaks:
        has_failed = False

        async def reply(self, request: Any, on_delta: Any = None) -> ModelReply:
            if self.has_failed:
                await asyncio.Event().wait()
            self.has_failed = True
            raise broken(50, 0.5, 5_000)

    model = Breaks() if asked == "one model" else Fallback(Breaks(), ScriptedModel([]))
    result = Agent(model, retry=Retry(first=0), limits=Limits(seconds=0.2)).run_sync("go")
    assert (result.stop_reason, result.uncounted, result.state.known_cost) == ("limit:seconds", Usage(0, 5_000, 50), 0.5)


@pytest.mark.parametrize("models", ["retried", "fallback, retried", "fallback, all attempts together"])
def test_no_attempt_is_made_past_the_limit(models: str) -> None:
    scripts = [ScriptedModel([broken(400, 0.01) for _ in range(9)]), ScriptedModel([broken(400, 0.01) for _ in range(9)])]
    attempts = 3 if models == "fallback, all attempts together" else 9
    retry = Retry(attempts=attempts, first=0)
    model = scripts[0] if models == "retried" else Fallback(*scripts, retry=retry)
    limit = 1_500 if attempts == 3 else 500
    result = Agent(model, retry=retry, limits=Limits(output_tokens=limit)).run_sync("go")
    assert (result.stop_reason, sum(len(script.requests) for script in scripts)) == ("limit:output_tokens", limit // 400 + 1)
    assert result.uncounted.output_tokens == 400 * (limit // 400 + 1)


@pytest.mark.parametrize("ends_by", ["all attempts failed", "limit"])
def test_failed_attempts_are_in_the_state_however_the_run_ends(ends_by: str) -> None:
    model = Fallback(ScriptedModel([broken(1_000, 0.5)]), ScriptedModel([broken(0, 0.0, 0)]), retry=None)
    agent = Agent(model, limits=Limits(output_tokens=900 if ends_by == "limit" else None))
    if ends_by == "limit":
        state = agent.run_sync("go").state
    else:
        with pytest.raises(StreamBroken) as failed:
            agent.run_sync("go")
        state = failed.value.state
    assert (state.estimated_usage.output_tokens, state.known_cost) == (1_000, 0.5)


def test_what_a_run_inside_could_not_count_is_not_counted_in_the_run_around_it(simulate: Simulate) -> None:
    sim = simulate([Cut(Assistant("x" * 400), 50), "found"])
    model = ChatModel("deepseek-flash", base_url=sim.base_url, profile="deepseek")
    inner = Agent(model, retry=Retry(first=0, longest=0), settings=STREAMED).as_tool("inner", "Ask.")
    result = Agent(ScriptedModel([asking("inner"), "Done."]), tools=[inner]).run_sync("go")
    assert result.usage.requests == 3
    assert result.uncounted.input_tokens > 0
    assert result.uncounted.requests == 0
