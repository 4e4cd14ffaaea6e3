"""The client over real HTTP: settings, cuts, time limits and forms of a reply."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from agentkit import Assistant, ChatModel, ModelSettings, Retry, System, ToolCall, ToolResult, User
from agentkit import errors as e
from agentkit.events import Delta, ReasoningDelta, Retrying, TextDelta, ToolArgsDelta
from agentkit.messages import Message
from agentkit.model import ModelReply
from agentkit.models.prices import Price
from agentkit.models.profiles import DEEPSEEK
from agentkit.testing import Cut, DeepSeekSimulator, Failure, Hangup, call

from .calls import CLOCK, DONE, GOOD, KEY, WHOLE, Seen, ask, choice, event, replied
from .raw_server import RawServer, Step, chunked, http, raw_server, stream_head

# --- against the strict simulator --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/beta", "/v1/chat/completions"])
@pytest.mark.parametrize("watched", [False, True])
def test_a_reply_over_http_streamed_and_whole(path: str, watched: bool) -> None:
    said = Assistant("It is noon.", "Let me think.", (ToolCall("call_1", "clock", "{}"),))
    seen = Seen()
    with DeepSeekSimulator([said], api_key=KEY) as sim:
        model = ChatModel(base_url=sim.base_url.removesuffix("/v1") + path, api_key=KEY)
        reply = asyncio.run(model.reply(ask(tools=(CLOCK,)), seen.add if watched else None))
        assert sim.errors == []
        assert sim.requests[0].body.get("stream", False) is watched
    assert (reply.message.text, reply.message.reasoning) == (said.text, said.reasoning)
    assert [(c.name, c.arguments) for c in reply.message.tool_calls] == [("clock", "{}")]
    assert (reply.finish_reason, reply.model) == ("tool_calls", "deepseek-flash")
    assert seen.text == (said.text if watched else "")
    assert watched == any(isinstance(delta, ReasoningDelta) for delta in seen)


@pytest.mark.parametrize("stream", [False, True])
def test_the_settings_decide_on_the_stream_whoever_watches(stream: bool) -> None:
    seen = Seen()
    with DeepSeekSimulator(["hello"]) as sim:
        reply = asyncio.run(ChatModel(base_url=sim.base_url).reply(ask(settings=ModelSettings(stream=stream)), seen.add))
        assert sim.requests[0].body.get("stream", False) is stream
    assert reply.message.text == seen.text == "hello"


@pytest.mark.parametrize("place", ["finish", "alone"])
@pytest.mark.parametrize("watched", [False, True])
def test_usage_cache_hits_and_cost_of_each_step(place: Any, watched: bool) -> None:
    price = Price(datetime(2026, 1, 1, tzinfo=UTC), cache_hit=1.0, cache_miss=10.0, output=100.0)
    profile = replace(DEEPSEEK, prices={"deepseek": (price,)})

    async def main(base_url: str) -> list[ModelReply]:
        model = ChatModel(base_url=base_url, profile=profile)
        on_delta = Seen().add if watched else None
        messages: list[Message] = [System("long " * 400), User("hi")]
        first = await model.reply(ask(messages), on_delta)
        second = await model.reply(ask([*messages, first.message, User("more")]), on_delta)
        await model.aclose()
        return [first, second]

    with DeepSeekSimulator([Assistant("one", "because"), "two"], usage_place=place) as sim:
        first, second = asyncio.run(main(sim.base_url))
    assert first.usage.cache_read_tokens == 0
    assert 0 < first.usage.reasoning_tokens <= first.usage.output_tokens
    assert 0 < second.usage.cache_read_tokens < second.usage.input_tokens
    for reply in (first, second):
        u = reply.usage
        assert u.requests == 1
        assert reply.cost == pytest.approx((u.cache_read_tokens + 10 * u.cache_miss_tokens + 100 * u.output_tokens) / 1e6)


@pytest.mark.parametrize(
    ("when", "cost"),
    [("2026-11-23T12:00", 0.60), ("2026-11-23T02:00", 1.20), ("2026-05-01T02:00", 0.28), ("2026-01-01T00:00", None)],
)
def test_the_price_is_that_of_the_clock(when: str, cost: float | None) -> None:
    body = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1_000_000}}
    at = datetime.fromisoformat(when).replace(tzinfo=UTC)
    reply, _, _ = replied([http(json.dumps(body).encode())], clock=lambda: at)
    assert reply.cost == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize("profile", ["deepseek", "anyfast"])
@pytest.mark.parametrize("effort", ["low", "medium", "high", "max"])
def test_the_strict_server_takes_every_setting(profile: str, effort: Any) -> None:
    from agentkit.models.profiles import ANYFAST

    settings = ModelSettings(
        thinking=True, reasoning_effort=effort, max_tokens=100, temperature=1.5, top_p=0.96, stop=["a"] * 16, user_id="u-1",
        response_format="json_object",
    )  # fmt: skip
    with DeepSeekSimulator(['{"a": 1}'] * 2, passback="every") as sim:
        model = ChatModel(base_url=sim.base_url, profile=ANYFAST if profile == "anyfast" else DEEPSEEK)
        for on_delta in (None, Seen().add):
            history: list[Message] = [
                User("hi"),
                Assistant("x", tool_calls=(ToolCall("c", "clock"),)),
                ToolResult("c", "clock", "noon"),
            ]
            asyncio.run(model.reply(ask([*history], settings, tools=(CLOCK,)), on_delta))
        assert sim.errors == []
        assert sim.requests[0].effort == {"medium": "high"}.get(effort, effort)


@pytest.mark.parametrize("choice_", ["auto", "none", "required", "clock"])
def test_the_strict_server_takes_every_tool_choice(choice_: str) -> None:
    with DeepSeekSimulator(["x" if choice_ in ("auto", "none") else call("clock")]) as sim:
        asyncio.run(ChatModel(base_url=sim.base_url).reply(ask(tools=(CLOCK,), tool_choice=choice_)))
        assert sim.errors == []


@pytest.mark.parametrize("stream", [False, True])
def test_the_body_grows_by_its_end_only_over_steps_and_retries(stream: bool) -> None:
    bodies: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        if len(bodies) % 2:
            return httpx.Response(503)
        return httpx.Response(200, content=WHOLE)

    async def main() -> None:
        async def sleep(_seconds: float) -> None:
            return None

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            model = Retry(sleep=sleep).wrap(ChatModel("deepseek-v4-flash", api_key=KEY, client=client))
            messages: list[Message] = [System("s"), User("u")]
            settings = ModelSettings(stream=stream, response_format="json_object")
            for n in range(5):
                await model.reply(ask(messages, settings, tools=(CLOCK,)))
                messages += [Assistant("", "r", (ToolCall(f"c{n}", "clock"),)), ToolResult(f"c{n}", "clock", "noon")]

    asyncio.run(main())
    first, again = bodies[0::2], bodies[1::2]
    assert first == again
    for before, after in itertools.pairwise(first):
        assert after.startswith(before.removesuffix(b"]}") + b",")


# --- cuts, at every byte ----------------------------------------------------------------------------------------------


def test_a_stream_cut_at_any_byte_is_no_reply() -> None:
    head = stream_head()
    complete = GOOD.index(DONE) - len(b"\n\n")  # a reply with its finish reason is whole: some servers send no [DONE]

    async def each(model: ChatModel, seen: Seen, _server: RawServer) -> list[str]:
        outcomes = []
        for _at in range(len(GOOD) + 1):
            try:
                outcomes.append((await model.reply(ask(), seen.add)).message.text)
            except e.StreamBroken:
                outcomes.append("cut")
        return outcomes

    outcomes, _, _ = replied(lambda n: [head + GOOD[:n]], each)
    assert outcomes == ["cut"] * complete + ["hello"] * (len(GOOD) + 1 - complete)


def test_a_whole_body_cut_at_any_byte_is_no_reply() -> None:
    async def each(model: ChatModel, _seen: Seen, _server: RawServer) -> set[str]:
        kinds = set()
        for _at in range(len(WHOLE)):
            with pytest.raises(e.ModelError) as caught:
                await model.reply(ask())
            assert caught.value.retryable
            kinds.add(type(caught.value).__name__)
        return kinds

    assert replied(lambda n: [stream_head("application/json") + WHOLE[:n]], each)[0] == {"StreamBroken"}
    assert replied(lambda n: [http(WHOLE)[: -len(WHOLE) + n]], each)[0] == {"StreamBroken"}


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([-1.0], e.ConnectionFailed),
        ([b""], e.ConnectionFailed),
        ([b"HTTP/1.1 200"], e.ConnectionFailed),
        ([b"garbage\r\n\r\n"], e.ConnectionFailed),
        ([stream_head(), -1.0], e.StreamBroken),
        ([stream_head() + GOOD[:40], -1.0], e.StreamBroken),
        ([stream_head(extra="transfer-encoding: chunked\r\n") + chunked(GOOD[:40], end=False)], e.StreamBroken),
        ([stream_head(extra="transfer-encoding: chunked\r\n") + b"zz\r\n"], e.StreamBroken),
        ([stream_head(extra="content-encoding: gzip\r\n") + b"not gzip"], e.StreamBroken),
        ([stream_head(extra="content-encoding: gzip\r\n") + gzip.compress(GOOD)[:-30]], e.StreamBroken),
        ([stream_head() + event(choice(content="x"))], e.StreamBroken),
        ([stream_head() + b"data: {broken\n\n" + DONE], e.StreamBroken),
        ([stream_head() + b"data: 5\n\n" + DONE], e.StreamBroken),
        ([http(b"")], e.StreamBroken),
        ([http(b"\n\n\n")], e.StreamBroken),
        ([http(b"<html>busy</html>", content_type="text/html")], e.StreamBroken),
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_what_breaks_on_the_way_can_be_retried(steps: list[Step], kind: type[e.ModelError], watched: bool) -> None:
    with pytest.raises(e.ModelError) as caught:
        replied(steps, watched=watched)
    assert type(caught.value) is kind
    assert caught.value.retryable
    assert KEY not in str(caught.value)


def test_a_refused_connection() -> None:
    async def main() -> None:
        async with raw_server(lambda _n: []) as server:
            port = server.port
        model = ChatModel(base_url=f"http://127.0.0.1:{port}/v1")
        with pytest.raises(e.ConnectionFailed, match=f"127.0.0.1:{port}"):
            await model.reply(ask())
        await model.aclose()

    asyncio.run(main())


def test_a_cut_reply_is_asked_for_again_and_the_watcher_is_told() -> None:
    seen = Seen()

    async def sleep(_seconds: float) -> None:
        return None

    async def main(base_url: str) -> ModelReply:
        model = ChatModel(base_url=base_url)
        try:
            return await Retry(sleep=sleep).wrap(model).reply(ask(), seen.add)
        finally:
            await model.aclose()

    script: list[Any] = [Cut("a long answer", 2), Hangup(), Failure(503), Cut("a long answer", 3, clean=True), "whole"]
    with DeepSeekSimulator(script) as sim:
        assert asyncio.run(main(sim.base_url)).message.text == "whole"
        assert len({json.dumps(request.body) for request in sim.requests}) == 1
    assert [delta.attempt for delta in seen if isinstance(delta, Retrying)] == [1, 2, 3, 4]


# --- time ----------------------------------------------------------------------------------------------------------------


def test_any_byte_keeps_a_slow_reply_alive() -> None:
    """Twelve waits of half the idle timeout: together far longer than it, but never without a byte for so long."""
    steps: list[Step] = [stream_head()]
    for part in (b":", b" k", b"\n", b": k\n\n", *(GOOD[at : at + 60] for at in range(0, len(GOOD), 60))):
        steps += [0.1, part]
    reply, seen, _ = replied(steps, timeout=0.3)
    assert reply.message.text == seen.text == "hello"


def test_blank_lines_keep_a_whole_reply_alive() -> None:
    steps: list[Step] = [stream_head("application/json"), b"\n", 0.1, b"\n", 0.1, b"\n", 0.1, b"\n", 0.1, WHOLE]
    assert replied(steps, timeout=0.3, watched=False)[0].message.text == "hello"


@pytest.mark.parametrize("steps", [[30.0], [stream_head(), 30.0], [stream_head() + GOOD[:30], 30.0]])
def test_silence_ends_with_the_idle_timeout(steps: list[Step]) -> None:
    with pytest.raises(e.ConnectionFailed, match=r"no byte came within 0\.2 seconds"):
        replied(steps, timeout=0.2)


def test_the_deadline_ends_a_reply_that_keeps_trickling() -> None:
    with pytest.raises(e.ConnectionFailed, match=r"no whole reply within the deadline of 0\.2 seconds"):
        trickle: list[Step] = [b": keep-alive\n\n", 0.02]
        replied([stream_head(), *trickle * 500], deadline=0.2)


@pytest.mark.parametrize("slow", [0.0, 0.9])
def test_the_time_of_a_slow_watcher_is_not_the_servers(slow: float) -> None:
    """The deadline is 0.5 seconds: a watcher that takes longer is waited for, a server is not."""

    async def use(model: ChatModel, seen: Seen, _server: RawServer) -> Any:
        async def watch(delta: Delta) -> None:
            if not seen:
                await asyncio.sleep(slow)
            await seen.add(delta)

        return await model.reply(ask(), watch)

    reply, _seen, _server = replied([stream_head() + GOOD], use, deadline=0.5)
    assert reply.message.text == "hello"
    with pytest.raises(e.TimedOut, match=r"within the deadline of 0\.5 seconds"):
        replied([stream_head() + event(choice(content="x")), 2.0], use, deadline=0.5)


def test_a_reply_that_is_whole_counts_whatever_comes_after_it() -> None:
    head = stream_head(extra="transfer-encoding: chunked\r\n")
    for tail in ([-1.0], [], [30.0], [b"zz"], [chunked(event({"error": "late"}))]):
        steps: list[Step] = [head + chunked(GOOD, end=False), *tail]
        assert replied(steps)[0].message.text == "hello"


def test_a_watchers_own_error_is_not_taken_for_the_servers() -> None:
    async def use(model: ChatModel, _seen: Seen, _server: RawServer) -> None:
        async def broken(_delta: Delta) -> None:
            raise httpx.ReadError("the watcher's own")

        with pytest.raises(httpx.ReadError, match="the watcher's own"):
            await model.reply(ask(), broken)

    replied([stream_head() + GOOD], use)


def test_cancelling_a_reply_leaves_the_model_usable() -> None:
    async def use(model: ChatModel, seen: Seen, _server: RawServer) -> str:
        begun = asyncio.Event()

        async def on_delta(delta: Delta) -> None:
            begun.set()

        task = asyncio.create_task(model.reply(ask(), on_delta))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await model.reply(ask(), seen.add)).message.text

    assert replied(lambda n: [stream_head() + GOOD] if n else [stream_head() + GOOD[:120], 30.0], use)[0] == "hello"


# --- what is taken with tolerance ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        [stream_head() + GOOD],
        [stream_head("text/event-stream; charset=utf-8") + GOOD],
        [stream_head("text/plain") + GOOD],
        [stream_head("application/json") + b": wait\n\n" + GOOD],
        [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + GOOD],
        [stream_head() + b"\n\n\n" + GOOD],
        [stream_head() + b"\xef\xbb\xbf" + GOOD],
        [stream_head() + GOOD.replace(b"\n", b"\r\n")],
        [stream_head() + b"event: x\nid: 1\n" + GOOD],
        [stream_head() + b"data:\n\n" + GOOD],
        [stream_head(extra="content-encoding: gzip\r\n") + gzip.compress(GOOD)],
        [stream_head() + event(choice(content="hello")) + DONE],
        [stream_head() + event(choice(content="hello")) + b"data: [DONE]"],
        [stream_head(), *(bytes([byte]) for byte in GOOD)],
        [http(WHOLE)],
        [http(b"\n \n" + WHOLE)],
        [http(WHOLE, content_type="text/event-stream")],
        [http(gzip.compress(WHOLE), extra="content-encoding: gzip\r\n")],
        [stream_head("application/json", "transfer-encoding: chunked\r\n") + chunked(b"\n", b"\n", WHOLE[:9], WHOLE[9:])],
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_forms_of_a_reply(steps: list[Step], watched: bool) -> None:
    reply, seen, _ = replied(steps, watched=watched)
    assert reply.message == Assistant("hello")
    assert seen.text == ("hello" if watched else "")


def test_a_server_that_does_not_stream_still_shows_everything_to_a_watcher() -> None:
    message = {
        "content": "t",
        "reasoning_content": "r",
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
    }
    _, seen, _ = replied([http(json.dumps({"choices": [{"message": message}]}).encode())])
    assert seen == [ReasoningDelta("r"), TextDelta("t"), ToolArgsDelta(0, "f", "{}")]


@pytest.mark.parametrize(
    ("finish", "delta", "kind"),
    [
        ("content_filter", {"content": "part"}, e.ContentFiltered),
        ("sensitive", {}, e.ContentFiltered),
        ("insufficient_system_resource", {"content": "part"}, e.Overloaded),
        ("aborted", {}, e.Overloaded),
        ("network_error", {}, e.Overloaded),
        ("model_context_window_exceeded", {}, e.ContextTooLong),
        ("stop", {}, e.EmptyReply),
        ("stop", {"content": " \n"}, e.EmptyReply),
        ("stop", {"reasoning_content": "hm"}, e.EmptyReply),
        ("tool_calls", {}, e.EmptyReply),
    ],
)
def test_replies_that_do_not_count(finish: str, delta: dict[str, Any], kind: type[e.ModelError]) -> None:
    with pytest.raises(e.ModelError) as caught:
        replied([stream_head() + event(choice(finish, **delta)) + DONE])
    assert type(caught.value) is kind
    if isinstance(caught.value, e.ContentFiltered):
        assert caught.value.partial == delta.get("content", "")


def test_an_empty_reply_that_was_cut_at_its_length_counts() -> None:
    reply, _, _ = replied([stream_head() + event(choice("length", reasoning_content="hm")) + DONE])
    assert (reply.finish_reason, reply.message.reasoning) == ("length", "hm")
