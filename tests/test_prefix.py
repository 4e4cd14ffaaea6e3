"""What of a prompt's beginning changed, told by runs against a server that counts its cache's hits."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
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
    RunResult,
    RunState,
    ScriptedModel,
    SettingsError,
    System,
    ToolCall,
    ToolResult,
    Usage,
    User,
    tool,
)
from agentkit.errors import ContextTooLong
from agentkit.history import DropToolResults
from agentkit.messages import Message
from agentkit.middleware import CancellableCalls, Middleware, NextModelCall
from agentkit.middleware.cache_report import CacheReport
from agentkit.model import ToolSpec
from agentkit.run.prefix import CacheMiss, cache_misses, change
from agentkit.testing import call
from tests.kit import How, Simulate


@tool(read_only=True)
def fetch(n: int) -> str:
    """Fetch much."""
    return f"{n}" * 3000


class Change(Middleware):
    """Changes a request by a function of it and of how many came before."""

    def __init__(self, how: Callable[[ModelRequest, int], ModelRequest]) -> None:
        self._how, self._count = how, 0

    async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
        self._count += 1
        return await next(self._how(request, self._count))


def stamped(request: ModelRequest, count: int) -> ModelRequest:
    return replace(request, messages=[System(f"Be brief. It is 12:0{count}."), *request.messages[1:]])


def edited(request: ModelRequest, count: int) -> ModelRequest:
    result = request.messages[3] if count == 3 else None
    gone = [ToolResult(result.call_id, result.name, "gone")] if isinstance(result, ToolResult) else []
    return replace(request, messages=[*request.messages[:3], *gone]) if gone else request


def more_tools(request: ModelRequest, count: int) -> ModelRequest:
    other = ToolSpec("another", "Another.", {"type": "object", "properties": {}})
    return replace(request, tools=(*request.tools, other)) if count == 3 else request


def run(how: How, simulate: Simulate, change: Any = None, history: Any = None) -> RunResult[Any]:
    simulator = simulate([*([call("fetch", n=n)] for n in range(1, 5)), "Done."])
    middleware = [*([Change(change)] if change else []), CacheReport()]
    model = ChatModel(base_url=simulator.base_url)
    return how(Agent(model, tools=[fetch], instructions="Be brief. It is noon.", middleware=middleware, history=history), "Go.")


def test_a_run_that_only_grows_misses_nothing(how: How, simulate: Simulate) -> None:
    result = run(how, simulate)
    assert result.cache_misses == []
    assert result.usage.cache_read_tokens > 0


def test_a_time_in_the_instructions_is_named(how: How, simulate: Simulate) -> None:
    misses = run(how, simulate, stamped).cache_misses
    assert [miss.step for miss in misses] == [3, 4, 5], "the first prompts are too short to be cached"
    assert misses[0].why == "byte 20 of the prompt's text: message 0 (system) was '2.', now '3.'"
    assert str(misses[0]).startswith(
        f"step 3 read {misses[0].read:,} of {misses[0].expected:,} tokens from the cache: byte 20 of"
    )


def test_a_list_that_a_middleware_changes_in_place_is_told_as_well(how: How, simulate: Simulate) -> None:
    kept: list[Message] = []

    def in_place(request: ModelRequest, count: int) -> ModelRequest:
        kept[:] = stamped(request, count).messages
        return replace(request, messages=kept)

    misses = run(how, simulate, in_place).cache_misses
    assert [miss.step for miss in misses] == [3, 4, 5]
    assert misses[0].why == "byte 20 of the prompt's text: message 0 (system) was '2.', now '3.'"


def test_a_message_that_was_edited_is_named(how: How, simulate: Simulate) -> None:
    first, *_rest = run(how, simulate, edited).cache_misses
    assert first.step == 3
    assert "message 3 (tool) was '111" in first.why and "now 'gone'" in first.why


def test_a_view_that_drops_results_is_named(how: How, simulate: Simulate) -> None:
    misses = run(how, simulate, history=DropToolResults(7000, 3000)).cache_misses
    assert misses[0].step == 4
    assert "(tool) was '111" in misses[0].why and "now '[this call was made; its result of 3,000" in misses[0].why


def test_tools_that_changed_are_named(how: How, simulate: Simulate) -> None:
    misses = run(how, simulate, more_tools).cache_misses
    assert [(miss.step, miss.why) for miss in misses][:1] == [(3, "the tools, which stand first: another is new")]


def asked(n: int) -> Assistant:
    return Assistant("", "", (ToolCall(f"c{n}", "fetch", f'{{"n": {n}}}'),))


def two(tokens: int = 2000) -> list[ModelReply]:
    return [ModelReply(asked(1), Usage(1, 1000, 5)), ModelReply(Assistant("Done."), Usage(1, tokens, 5))]


def counted(reads: list[int], models: list[str] | None = None) -> RunResult[Any]:
    names = models or ["m"] * len(reads)
    said = [*(asked(n) for n in range(len(reads) - 1)), Assistant("Done.")]
    usages = [Usage(1, 1000 * n, 10, read) for n, read in enumerate(reads, 1)]
    replies = [ModelReply(*reply[:2], model=reply[2]) for reply in zip(said, usages, names, strict=True)]
    return Agent(ScriptedModel(replies), tools=[fetch], middleware=[CacheReport()]).run_sync("Go.")


def test_a_server_that_counts_no_hits_is_not_blamed() -> None:
    assert counted([0, 0, 0, 0]).cache_misses == []


def test_what_the_server_lost_is_told_as_that() -> None:
    why = "the request only grew; the server did not have its beginning in the cache, any more or yet"
    assert counted([0, 960, 0, 2944]).cache_misses == [CacheMiss(3, 2000, 0, why)]
    assert counted([0, 960, 1873, 2944]).cache_misses == [], "a cache rounds down"


def test_another_model_has_another_cache() -> None:
    (miss,) = counted([0, 960, 0], ["a", "a", "b"]).cache_misses
    assert miss.why == "another model answered (a, then b)"


def test_settings_and_choices_that_changed_are_named(how: How) -> None:
    def cold(request: ModelRequest, count: int) -> ModelRequest:
        return replace(request, settings=ModelSettings(temperature=0.0)) if count == 2 else request

    def forced(request: ModelRequest, count: int) -> ModelRequest:
        return replace(request, tool_choice="required") if count == 2 else request

    for how_changed, why in (
        (cold, "the setting temperature was None, now 0.0"),
        (forced, "tool_choice was 'auto', now 'required'"),
    ):
        result = how(Agent(ScriptedModel(two()), tools=[fetch], middleware=[Change(how_changed), CacheReport()]), "Go.")
        assert [miss.why for miss in result.cache_misses] == [why]


CALL = ToolCall("c1", "fetch", '{"n": 1}')


@pytest.mark.parametrize(
    ("was", "now", "why"),
    [
        (Assistant("Well."), Assistant("Well!"), "byte 13 of the prompt's text: message 1 (assistant) was '.', now '!'"),
        (
            Assistant("", "", (CALL,)),
            Assistant("", "", (replace(CALL, arguments='{"n": 2}'),)),
            "(assistant) was '1}', now '2}'",
        ),
        (Assistant("a", "So?"), Assistant("a"), "byte 9 of the prompt's text: message 1 (assistant) was 'So?a', now 'a'"),
        (Assistant("a", "b"), Assistant("ba"), "message 1 (assistant), its text, was 'a', now 'ba'"),
        (Assistant("", "", (CALL,)), Assistant("", "", (replace(CALL, name="get"),)), ", its tool_calls, was 'fetch"),
        (Assistant("", "", (CALL,)), Assistant("", "", (replace(CALL, id="c2"),)), ", its tool_calls, was '1"),
        (Assistant("a", "", (CALL,)), Assistant('a{"n": 1}'), "(assistant), its text, was '', now '{\"n\": 1}'"),
        (User("Go."), User("Go.", "Ann"), "message 1 (user), its name, was 'None', now 'Ann'"),
        (User("Go."), Assistant("Go."), "message 1 (user), its role, was 'user', now (assistant) 'assistant'"),
        (ToolResult("c1", "fetch", "1"), ToolResult("c2", "fetch", "1"), "message 1 (tool), its call_id, was '1', now '2'"),
        (User("\u00e9"), User("\u00e8"), "byte 10 of the prompt's text: message 1 (user) was '\u00e9', now '\u00e8'"),
    ],
)
def test_what_of_a_message_changed_is_named(was: Message, now: Message, why: str) -> None:
    first = System("Be brief.")
    assert why in change(ModelRequest([]), [first, was], ModelRequest([first, now]), 1)


LONG = [
    "password=" + "A1b2C3d4" * 100,
    "Authorization: Bearer " + "abcdefgh12345678" * 100,
    "-----BEGIN PRIVATE KEY-----\n" + "MIIEabcdef012345\n" * 190 + "-----END PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1NiJ9." + "QWxhZGRpbjpvcGVu" * 100 + ".c2lnbmF0dXJl",
]


@pytest.mark.parametrize("secret", LONG, ids=lambda secret: secret[:8])
@pytest.mark.parametrize("at", [100, 350, 700, -3])
@pytest.mark.parametrize("by", ["x", "", "-1", " ", "x" * 3000])
def test_a_long_secret_is_not_shown_wherever_it_changes(secret: str, at: int, by: str) -> None:
    now = secret[:at] + by + secret[at:][1:]
    why = change(ModelRequest([]), [System(f"Say {secret} now.")], ModelRequest([System(f"Say {now} now.")]), 0)
    assert not any(secret[start : start + 10] in why for start in range(30, len(secret) - 30))


def test_secrets_are_not_shown() -> None:
    def secret(request: ModelRequest, count: int) -> ModelRequest:
        return replace(request, messages=[System(f"password={'ab'[count % 2] * 12}"), *request.messages])

    (miss,) = (
        Agent(ScriptedModel(two()), tools=[fetch], middleware=[Change(secret), CacheReport()]).run_sync("Go.").cache_misses
    )
    assert "aaaa" not in miss.why and "bbbb" not in miss.why


def test_the_reasons_are_part_of_the_run(simulate: Simulate) -> None:
    simulator = simulate([*([call("fetch", n=n)] for n in range(1, 5)), "Done."])
    agent = Agent(
        ChatModel(base_url=simulator.base_url),
        tools=[fetch],
        middleware=[Change(stamped), CacheReport()],
        limits=Limits(steps=9),
        instructions="x",
    )
    result = agent.run_sync("Go.")
    again = RunState.from_json(result.state.to_json())
    assert cache_misses(again.events) == result.cache_misses != []


@pytest.mark.parametrize("most", [1])
def test_what_is_left_out_is_named(how: How, most: int) -> None:
    def cut(request: ModelRequest, count: int) -> ModelRequest:
        return replace(request, messages=request.messages[:most]) if count == 2 else request

    result = how(
        Agent(ScriptedModel(two(900)), tools=[fetch], middleware=[Change(cut), CacheReport()], instructions="Be brief."), "Go."
    )
    (miss,) = result.cache_misses
    assert miss.why == "byte 9 of the prompt's text: message 1 (user) and what follows is not sent any more"


# --- the report itself --------------------------------------------------------------------------------------------------


def prefixes(result: RunResult[Any]) -> list[tuple[int, int]]:
    return [(event.sent, event.same_prefix) for event in result.events if isinstance(event, ModelReplied)]


def grown(request: ModelRequest) -> Any:
    """Two calls, then the answer, whoever asks."""
    done = sum(isinstance(message, ToolResult) for message in request.messages)
    return ModelReply(asked(done) if done < 2 else Assistant("Done."), Usage(1, 1000, 5, 900 if done == 1 else 0))


def test_without_a_report_a_miss_is_found_and_its_reason_is_not_known(how: How) -> None:
    result = how(Agent(ScriptedModel(grown), tools=[fetch]), "Go.")
    (miss,) = result.cache_misses
    assert miss.step == 3 and miss.why.startswith("the request was not compared with the one before; CacheReport()")
    assert prefixes(result) == [(0, 0)] * 3


def test_one_report_keeps_runs_apart_that_go_on_at_the_same_time() -> None:
    agent = Agent(ScriptedModel(grown), tools=[fetch], middleware=[CacheReport()])

    async def main() -> list[RunResult[Any]]:
        return await asyncio.gather(*(agent.run(f"Go {n}.") for n in range(5)))

    for result in asyncio.run(main()):
        assert prefixes(result) == [(1, 0), (3, 1), (5, 3)] and "only grew" in result.cache_misses[0].why


def test_a_request_that_a_middleware_makes_between_two_steps_is_not_what_the_next_one_is_compared_with(how: How) -> None:
    class Summary(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
            await next(replace(request, messages=[User("Sum up.")], tools=()))
            return await next(request)

    result = how(Agent(ScriptedModel(grown), tools=[fetch], middleware=[Summary(), CacheReport()]), "Go.")
    assert prefixes(result) == [(1, 0), (3, 1), (5, 3)]


def test_a_request_that_failed_is_not_compared_with(how: How) -> None:
    class Longer(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
            try:
                return await next(replace(request, messages=[System("x"), *request.messages]))
            except ContextTooLong:
                return await next(request)

    def short(request: ModelRequest) -> Any:
        return ContextTooLong("too long") if isinstance(request.messages[0], System) else grown(request)

    result = how(Agent(ScriptedModel(short), tools=[fetch], middleware=[Longer(), CacheReport()]), "Go.")
    assert prefixes(result) == [(1, 0), (3, 1), (5, 3)]


def test_a_request_of_no_known_run_is_compared_with_none(how: How) -> None:
    class Anew(Middleware):
        async def model_call(self, request: ModelRequest, ctx: RunContext[Any], next: NextModelCall) -> ModelReply:
            return await next(ModelRequest(request.messages, request.tools))

    result = how(Agent(ScriptedModel(grown), tools=[fetch], middleware=[Anew(), CacheReport()]), "Go.")
    assert prefixes(result) == [(1, 0), (3, 0), (5, 0)]
    assert "was not compared" in result.cache_misses[0].why


async def known(report: CacheReport, run_id: str) -> int:
    """How many messages of the same request the report knows already."""

    async def next(request: ModelRequest) -> ModelReply:
        return ModelReply(Assistant("Hello."))

    return (await report.model_call(ModelRequest([User("Go.")], run_id=run_id), RunContext(None), next)).prefix.same


def test_the_report_keeps_the_requests_of_a_hundred_runs() -> None:
    report = CacheReport()

    async def main() -> list[int]:
        before = [await known(report, "first")]
        for others in (99, 98, 100):
            for n in range(others):
                await known(report, f"{others} others: {n}")
            before.append(await known(report, "first"))
        return before

    assert asyncio.run(main()) == [0, 1, 1, 0]


def test_a_report_leaves_the_check_of_settings_where_it_was() -> None:
    model = ChatModel("mistral-large", base_url="http://127.0.0.1:9/v1", profile="mistral")
    for middleware in ([CacheReport()], [CancellableCalls(), CacheReport()]):
        with pytest.raises(SettingsError, match="thinking is True"):
            Agent(model, settings=ModelSettings(thinking=True), middleware=middleware)
    Agent(model, settings=ModelSettings(thinking=True), middleware=[Change(stamped)])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda report: pickle.loads(pickle.dumps(report))])
def test_a_copy_of_a_report_knows_nothing_of_what_was_said(copied: Any) -> None:
    report = CacheReport()
    assert [asyncio.run(known(one, "run")) for one in (report, report, copied(report), report)] == [0, 1, 0, 1]
