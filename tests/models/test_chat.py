"""The client over real HTTP: cut, slow, odd and hostile servers, and what it sends."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import httpx2
import pytest

from agentkit import Assistant, ChatModel, ModelSettings, Retry, SettingsError, System, ToolCall, ToolResult, Usage, User
from agentkit import errors as e
from agentkit.events import Delta, ReasoningDelta, Retrying, TextDelta, ToolArgsDelta
from agentkit.messages import Message
from agentkit.model import ModelReply, ModelRequest, ToolSpec
from agentkit.models.chat import retry_after
from agentkit.models.prices import Price
from agentkit.models.profiles import DEEPSEEK
from agentkit.testing import Cut, DeepSeekSimulator, Failure, Hangup, Raw, call

from .raw_server import RawServer, Step, chunked, http, raw_server, stream_head

KEY = "key-0123456789"
CLOCK = ToolSpec("clock", "Time.", {"type": "object", "properties": {}})
HI: list[Message] = [User("hi")]


def ask(messages: list[Message] | None = None, settings: ModelSettings | None = None, **fields: Any) -> ModelRequest:
    return ModelRequest(HI if messages is None else messages, settings=settings or ModelSettings(), **fields)


class Seen(list[Delta]):
    async def add(self, delta: Delta) -> None:
        self.append(delta)

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self if isinstance(delta, TextDelta))


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def choice(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


DONE = event(b"[DONE]")
GOOD = event(choice(content="hel")) + event(choice(content="lo")) + event(choice("stop")) + DONE
WHOLE = json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}).encode()


def replied(
    answer: Callable[[int], Sequence[Step]] | Sequence[Step],
    use: Callable[[ChatModel, Seen, RawServer], Awaitable[Any]] | None = None,
    *,
    watched: bool = True,
    keep_open: bool = False,
    **options: Any,
) -> tuple[Any, Seen, RawServer]:
    """What `use` (by default one call) gives back against a raw server."""

    async def main() -> tuple[Any, Seen, RawServer]:
        seen = Seen()
        async with raw_server(answer if callable(answer) else lambda _n: answer, keep_open=keep_open) as server:
            model = server.model(**options)
            try:
                result = await (use(model, seen, server) if use else model.reply(ask(), seen.add if watched else None))
            finally:
                await model.aclose()
        return result, seen, server

    return asyncio.run(main())


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
    body = {"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": 1_000_000}}
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
    for before, after in zip(first, first[1:], strict=False):
        assert after.startswith(before.removesuffix(b"]}") + b",")


# --- cuts, at every byte ----------------------------------------------------------------------------------------------


def test_a_stream_cut_at_any_byte_is_no_reply() -> None:
    head = stream_head()
    complete = len(GOOD) - len(b"\n\n")  # the last [DONE] counts even without its blank line

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
        ([stream_head() + event(choice("stop", content="x"))], e.StreamBroken),
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

    script: list[Any] = [Cut("a long answer", 4), Hangup(), Failure(503), Cut("a long answer", 3, clean=True), "whole"]
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
    with pytest.raises(e.ConnectionFailed, match=r"no byte came within 0\.05 seconds"):
        replied(steps, timeout=0.05)


def test_the_deadline_ends_a_reply_that_keeps_trickling() -> None:
    with pytest.raises(e.ConnectionFailed, match=r"no whole reply within the deadline of 0\.2 seconds"):
        trickle: list[Step] = [b": keep-alive\n\n", 0.02]
        replied([stream_head(), *trickle * 500], deadline=0.2)


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


# --- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", e.BadRequest),
        ("401 Unauthorized", e.AuthError),
        ("402 Payment Required", e.InsufficientBalance),
        ("404 Not Found", e.BadRequest),
        ("408 Request Timeout", e.Overloaded),
        ("409 Conflict", e.Overloaded),
        ("413 Too Large", e.BadRequest),
        ("422 Unprocessable", e.BadRequest),
        ("429 Too Many", e.RateLimited),
        ("500 Error", e.Overloaded),
        ("529 Busy", e.Overloaded),
    ],
)
def test_statuses(status: str, kind: type[e.ModelError]) -> None:
    body = json.dumps({"error": {"message": "because", "code": "c"}}).encode()
    with pytest.raises(e.ModelError, match="because") as caught:
        replied([http(body, status, extra="x-ds-trace-id: t1\r\nretry-after: 3\r\n")])
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.request_id, error.retry_after) == (int(status[:3]), "c", "t1", 3.0)


def test_a_refusal_whose_body_is_cut_is_still_that_refusal() -> None:
    with pytest.raises(e.AuthError, match="HTTP 401: no entry"):
        replied([b"HTTP/1.1 401 No\r\ncontent-length: 100\r\n\r\nno entry"])


def test_a_refusal_with_an_endless_body_is_cut_off() -> None:
    with pytest.raises(e.Overloaded, match="HTTP 503"):
        replied([b"HTTP/1.1 503 No\r\nconnection: close\r\n\r\n", *([b"x" * 10_000] * 20), 30.0])


NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "7"}, 7.0),
        ({"retry-after-ms": "-5", "retry-after": "7"}, 7.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:30 -0000"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:30"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:30 +0100"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 09:59:00 GMT"}, None),
        ({"retry-after": "Mon, 99 Nov 2026 09:59:00 GMT"}, None),
    ],
)
def test_the_wait_that_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(httpx.Headers(headers), lambda: NOW) == seconds


@pytest.mark.parametrize("place", ["status", "body", "chunk"])
def test_a_server_that_repeats_the_key_does_not_bring_it_into_an_error(place: str) -> None:
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    steps = {"status": [http(body, "401 No")], "body": [http(body)], "chunk": [stream_head() + b"data: " + body + b"\n\n"]}
    with pytest.raises(e.ModelError, match=r"Incorrect API key provided: \[api key\]") as caught:
        replied(steps[place])
    assert KEY not in caught.value.body + str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)


def test_the_key_is_in_the_request_and_in_no_repr() -> None:
    async def use(model: ChatModel, seen: Seen, server: RawServer) -> str:
        await model.reply(ask(), seen.add)
        return repr(model) + repr(model.endpoint)

    shown, _, server = replied([http(WHOLE)], use)
    assert f"authorization: Bearer {KEY}".encode() in server.heads[0]
    assert KEY not in shown


def test_no_key_no_header() -> None:
    _, _, server = replied([http(WHOLE)], api_key=None)
    assert b"authorization" not in server.heads[0].lower()


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("own", [False, True])
def test_a_redirect_is_refused_and_the_key_goes_nowhere(status: str, own: bool) -> None:
    async def main() -> None:
        async with raw_server(lambda _n: [http(WHOLE)]) as target:
            moved = http(b"", status, extra=f"location: http://127.0.0.1:{target.port}/v1/x\r\n")
            async with raw_server(lambda _n: [moved]) as server, httpx.AsyncClient(follow_redirects=True) as client:
                model = server.model(client=client if own else None)
                with pytest.raises(
                    e.BadRequest, match=f"redirects to http://127.0.0.1:{target.port}/v1/x; set base_url"
                ) as caught:
                    await model.reply(ask())
                await model.aclose()
            assert (caught.value.status, caught.value.retryable, target.heads) == (int(status[:3]), False, [])

    asyncio.run(main())


# --- clients and loops ---------------------------------------------------------------------------------------------------


def test_a_connection_is_used_again_after_streams_and_whole_replies() -> None:
    ended = stream_head(extra="transfer-encoding: chunked\r\n").replace(b"connection: close\r\n", b"") + chunked(GOOD)
    answers: list[list[Step]] = [[ended], [ended[:-5], 0.05, ended[-5:]], [http(WHOLE)]]

    async def use(model: ChatModel, seen: Seen, server: RawServer) -> int:
        for _ in range(6):
            await model.reply(ask(), seen.add)
        return server.connections

    assert replied(lambda n: answers[n % 3], use, keep_open=True)[0] == 1


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("watched", [False, True])
def test_a_client_of_ones_own_is_used_and_left_open(library: Any, watched: bool) -> None:
    async def use(_model: ChatModel, seen: Seen, server: RawServer) -> tuple[str, bool]:
        async with library.AsyncClient(headers={"x-mine": "1"}) as client:
            model = server.model(client=client)
            reply = await model.reply(ask(), seen.add if watched else None)
            await model.aclose()
            return reply.message.text, client.is_closed

    result, _, server = replied([stream_head() + GOOD], use)
    assert result == ("hello", False)
    assert b"x-mine: 1" in server.heads[0]


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([-1.0], e.ConnectionFailed),
        ([stream_head() + GOOD[:40], -1.0], e.StreamBroken),
        ([stream_head(), 30.0], e.ConnectionFailed),
        ([stream_head(extra="content-encoding: gzip\r\n") + b"no"], e.StreamBroken),
    ],
)
def test_errors_of_both_libraries_are_ours(library: Any, steps: list[Step], kind: type[e.ModelError]) -> None:
    async def use(_model: ChatModel, seen: Seen, server: RawServer) -> None:
        async with library.AsyncClient() as client:
            with pytest.raises(kind):
                await server.model(client=client, timeout=0.1).reply(ask(), seen.add)

    replied(steps, use)


@pytest.mark.parametrize("client", [object(), "x", httpx.Client])
def test_a_client_of_another_kind_is_refused_at_once(client: Any) -> None:
    given = client() if isinstance(client, type) else client
    with pytest.raises(SettingsError, match=r"client is a .*; allowed: httpx\.AsyncClient or httpx2\.AsyncClient"):
        ChatModel(api_key=KEY, client=given)


def test_a_missing_key_is_raised_before_anything_is_sent() -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError("it was sent")

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as client:
            with pytest.raises(e.MissingKey, match="AGENTKIT_API_KEY"):
                await ChatModel("m", base_url="https://api.example/v1", api_key="", client=client).reply(ask())
            with pytest.raises(SettingsError, match="max_tokens is 393217"):
                model = ChatModel("deepseek-v4-flash", api_key=KEY, client=client)
                await model.reply(ask(settings=ModelSettings(max_tokens=393_217)))

    asyncio.run(main())


def test_many_replies_at_once_and_one_model_over_many_loops() -> None:
    async def main(model: ChatModel) -> list[str]:
        replies = await asyncio.gather(*(model.reply(ask([User(f"say {n}")])) for n in range(30)))
        return [reply.message.text for reply in replies]

    with DeepSeekSimulator(lambda request: request.body["messages"][-1]["content"]) as sim:
        model = ChatModel(base_url=sim.base_url)
        for _ in range(3):
            assert asyncio.run(main(model)) == [f"say {n}" for n in range(30)]


PROGRAM = """
import asyncio, gc, logging, sys
from agentkit import ChatModel, User
from agentkit.model import ModelRequest

logging.getLogger("asyncio").setLevel(logging.ERROR)  # debug mode tells of slow steps

async def nothing(delta):
    pass

async def main(model):
    await asyncio.gather(*(model.reply(ModelRequest([User("hi")]), on) for on in (None, nothing) for _ in range(3)))

kept = ChatModel(base_url=sys.argv[1])
for turn in range(3):
    asyncio.run(main(kept))
    asyncio.run(main(ChatModel(base_url=sys.argv[1])))
gc.collect()
print("done")
"""


def test_a_forgotten_close_leaks_nothing_over_loops_and_at_exit() -> None:
    with DeepSeekSimulator("echo") as sim:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, sim.base_url],
            env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "done\n", "")


def test_usage_counts_one_request_for_the_reply_that_came() -> None:
    async def use(model: ChatModel, _seen: Seen, _server: RawServer) -> Usage:
        async def sleep(_seconds: float) -> None:
            return None

        return (await Retry(sleep=sleep).wrap(model).reply(ask())).usage

    assert replied(lambda n: [http(WHOLE)] if n == 2 else [http(b"", "503 Busy")], use)[0] == Usage(requests=1)
