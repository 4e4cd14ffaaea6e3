"""Another model when one fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from agentkit import (
    Agent,
    ChatModel,
    Fallback,
    Limiter,
    Limits,
    ModelSettings,
    Retry,
    RunFinished,
    ScriptedModel,
    SettingsError,
    tool,
)
from agentkit import errors as e
from agentkit.events import Retrying, TextDelta
from agentkit.models.prices import DEEPSEEK_FLASH
from agentkit.models.profiles import DEEPSEEK, MISTRAL
from agentkit.testing import call
from tests.faults.rows import answer, calls, events, status
from tests.faults.rows import call as wire_call
from tests.models.raw_server import RawServer, Step, raw_server, stream_head

NOW = Retry(attempts=2, first=0, longest=0)
Reply = Callable[[int], Any]
PARTS = {"choices": [{"index": 0, "delta": {"content": "half an ans"}}]}


@tool
def clock() -> str:
    """The time."""
    return "noon"


def play(first: Reply, second: Reply, *, watched: bool = False) -> tuple[Any, list[Any], list[RawServer]]:
    """A run with a DeepSeek server, then a Mistral one."""

    async def main() -> tuple[Any, list[Any], list[RawServer]]:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(raw_server(reply)) for reply in (first, second)]
            one = servers[0].model(profile=DEEPSEEK)
            two = ChatModel("mistral-large", base_url=f"http://127.0.0.1:{servers[1].port}/v1", api_key="k2", profile=MISTRAL)
            agent = Agent(Fallback(one, two, retry=NOW), tools=[clock])
            seen: list[Any] = []
            if watched:
                stream = agent.stream("When?")
                async for event in stream:
                    seen.append(event)  # noqa: PERF401  also what came before an error
                result = seen[-1].result
            else:
                result = await agent.run("When?")
            await agent.aclose()
            return result, seen, servers

    return asyncio.run(main())


@pytest.mark.parametrize("watched", [False, True])
def test_the_next_model_goes_on_with_the_same_run_in_its_own_profile(watched: bool) -> None:
    """The first calls a tool, then fails for good; the second gets the whole history as its server wants it."""
    ask = calls(wire_call("clock", "{}", "call_00_abcdef"), reasoning_content="I look.")
    result, seen, (one, two) = play(
        lambda n: ask(watched) if n == 0 else status(503), lambda _n: answer("noon it is")(watched), watched=watched
    )
    assert result.output == "noon it is"
    assert (len(one.bodies), len(two.bodies)) == (3, 1)
    sent = json.loads(two.bodies[0])
    assert sent["model"] == "mistral-large" and "thinking" not in sent
    assistant, told = sent["messages"][1:]
    assert "reasoning_content" not in assistant and assistant["tool_calls"][0]["id"] == told["tool_call_id"]
    assert len(told["tool_call_id"]) == 9
    if watched:
        assert [event.attempt for event in seen if isinstance(event, Retrying)] == [1, 1]


def test_watchers_drop_what_the_failed_model_showed() -> None:
    half: list[Step] = [stream_head() + events(PARTS)]
    result, seen, _servers = play(lambda _n: half, lambda _n: answer("whole")(True), watched=True)
    shown = ""
    for event in seen:
        shown = "" if isinstance(event, Retrying) else shown + event.text if isinstance(event, TextDelta) else shown
    assert result.output == shown == "whole"
    assert isinstance(seen[-1], RunFinished)


@pytest.mark.parametrize(
    ("first", "asked"),
    [(status(401), 1), (status(402), 1), (status(429), 1), (status(400), 0), (answer(finish="content_filter")(False), 0)],
)
def test_the_next_is_asked_where_it_may_help(first: Any, asked: int) -> None:
    servers: list[RawServer] = []

    def second(_n: int) -> Any:
        servers.append(RawServer())
        return answer()(False)

    if asked:
        assert play(lambda _n: first, second)[0].output == "hello"
    else:
        with pytest.raises((e.BadRequest, e.ContentFiltered)):
            play(lambda _n: first, second)
    assert len(servers) == asked


def test_when_all_fail_the_last_error_comes_and_nothing_is_tried_again() -> None:
    first, second = ScriptedModel([e.Overloaded("a")] * 9), ScriptedModel([e.Overloaded("b")] * 9)
    with pytest.raises(e.Overloaded, match="b"):
        Agent(Fallback(first, second, retry=NOW), retry=NOW).run_sync("hi")
    assert (len(first.requests), len(second.requests)) == (2, 2)


def test_each_request_begins_with_the_first() -> None:
    first, second = ScriptedModel([e.Overloaded("a"), "back"]), ScriptedModel([call("clock")])
    result = Agent(Fallback(first, second, retry=None), tools=[clock]).run_sync("hi")
    assert result.output == "back" and len(second.requests) == 1


def test_when_is_the_users_to_say() -> None:
    models = ScriptedModel([e.ContentFiltered("no")]), ScriptedModel(["yes"])
    assert Agent(Fallback(*models, when=lambda error: True)).run_sync("hi").output == "yes"


def test_a_limit_on_money_needs_the_price_of_each() -> None:
    priced = ChatModel("deepseek-v4-flash", base_url="http://127.0.0.1:9/v1", profile=DEEPSEEK)
    unpriced = ChatModel("mistral-large", base_url="http://127.0.0.1:9/v1", profile=MISTRAL)
    Agent(Fallback(priced, priced), limits=Limits(cost=1))
    with pytest.raises(SettingsError, match="price of mistral-large on mistral is not known"):
        Agent(Fallback(priced, unpriced), limits=Limits(cost=1))
    known = replace(MISTRAL, prices={"mistral": DEEPSEEK_FLASH})
    Agent(Fallback(priced, ChatModel("mistral-large", base_url="http://127.0.0.1:9/v1", profile=known)), limits=Limits(cost=1))


@pytest.mark.parametrize("models", [[], [ScriptedModel([])], [ScriptedModel([]), "gpt"], [ScriptedModel, ScriptedModel]])
def test_what_is_no_fallback_is_refused(models: list[Any]) -> None:
    with pytest.raises(SettingsError, match=r"fallback has .*; allowed: two or more models"):
        Fallback(*models)


def test_a_setting_that_one_of_them_refuses_is_found_when_the_agent_is_made() -> None:
    url = "http://127.0.0.1:9/v1"
    thinks, never = (ChatModel("m", base_url=url, profile=name) for name in ("deepseek", "mistral"))
    Agent(Fallback(thinks, thinks), settings=ModelSettings(thinking=True))
    for model in (never, Fallback(thinks, never), Fallback(thinks, Fallback(thinks, never))):
        with pytest.raises(SettingsError, match="thinking is True; mistral allows only None"):
            Agent(model, settings=ModelSettings(thinking=True))


def test_a_fallback_in_a_fallback_passes_on() -> None:
    last = ScriptedModel(["c"])
    inner = Fallback(ScriptedModel([e.Overloaded("a")] * 2), ScriptedModel([e.Overloaded("b")] * 2), retry=NOW)
    assert Agent(Fallback(inner, last, retry=NOW)).run_sync("hi").output == "c"


def test_the_error_says_what_the_others_said_and_may_pass() -> None:
    model = Fallback(ScriptedModel([e.AuthError("bad key")]), ScriptedModel([e.Overloaded("full")] * 2), retry=NOW)
    with pytest.raises(e.Overloaded) as caught:
        Agent(model).run_sync("hi")
    assert caught.value.retryable
    assert any("AuthError: bad key" in note for note in caught.value.__notes__)


def test_waits_of_the_failed_models_count() -> None:
    async def sleep(seconds: float) -> None:
        pass

    failing = [e.Overloaded("a", retry_after=1.5)] * 2
    model = Fallback(ScriptedModel(failing), ScriptedModel(["ok"]), retry=Retry(attempts=2, sleep=sleep))
    assert Agent(model).run_sync("hi").waited == 1.5


def test_a_server_that_wants_to_be_left_alone_is_passed_over() -> None:
    """It asked for a wait, or failed again and again; the next model is there."""

    async def main() -> list[str]:
        async with AsyncExitStack() as stack:
            limited = await stack.enter_async_context(raw_server(lambda _n: status(429, headers="Retry-After: 30\r\n")))
            down = await stack.enter_async_context(raw_server(lambda _n: status(503)))
            well = await stack.enter_async_context(raw_server(lambda _n: answer()(False)))
            breaking = down.model(limiter=Limiter(failures=1, pause=30))
            model = Fallback(limited.model(), breaking, well.model(), retry=NOW)
            outputs = [(await Agent(model).run("hi")).output for _ in range(3)]
            assert (len(limited.bodies), len(down.bodies), len(well.bodies)) == (1, 1, 3)
            await model.aclose()
            return outputs

    assert asyncio.run(main()) == ["hello"] * 3


def test_who_wants_no_other_model_for_a_busy_one_waits_for_it() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    first, second = ScriptedModel([e.RateLimited("x", retry_after=30.0), "waited"]), ScriptedModel(["never"])
    only_long = Fallback(first, second, retry=Retry(sleep=sleep), when=lambda error: isinstance(error, e.ContextTooLong))
    assert Agent(only_long).run_sync("hi").output == "waited"
    assert waits == [30.0]


def test_the_last_of_a_fallback_inside_another_is_not_waited_for() -> None:
    async def sleep(seconds: float) -> None:
        raise AssertionError("it waited")

    retry = Retry(attempts=3, sleep=sleep)
    busy = [ScriptedModel([e.RateLimited("x", retry_after=30.0)]) for _ in range(2)]
    assert Agent(Fallback(Fallback(*busy, retry=retry), ScriptedModel(["well"]), retry=retry)).run_sync("hi").output == "well"


def test_the_last_model_is_asked_though_its_server_wants_to_be_left_alone() -> None:
    async def main() -> str:
        async with raw_server(lambda n: status(429, headers="Retry-After: 1\r\n") if n == 0 else answer()(False)) as last:
            model = Fallback(ScriptedModel([e.AuthError("no")] * 9), last.model(), retry=None, patience=0.5)
            with pytest.raises(e.RateLimited):
                await Agent(model).run("hi")
            result = await Agent(model).run("hi")
            await model.aclose()
            return result.output

    assert asyncio.run(main()) == "hello"
