"""Replies in every form that servers are known to send: the same rule for a stream and for a whole body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import Usage
from agentkit import errors as e
from agentkit.events import ReasoningDelta, TextDelta, ToolArgsDelta
from agentkit.models.http.bodies import read_whole
from agentkit.models.refusals import read_error
from agentkit.models.replies import Parts, ReplyReader
from agentkit.models.usage import read_usage


def stream(*chunks: Any) -> tuple[Parts, list[Any]]:
    reader = ReplyReader()
    deltas = [delta for chunk in chunks for delta in reader.feed(chunk)]
    return reader.parts(), deltas


def delta(finish: Any = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def whole(finish: Any = "stop", /, **message: Any) -> Parts:
    return read_whole(json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode())


def piece(arguments: Any = None, name: Any = None, **fields: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **fields}


def calls_of(parts: Parts) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in parts.message.tool_calls]


# --- text and thinking (rules 1, 2, 8) ---------------------------------------------------------------------------------

SAYS = [
    ({"content": "hi"}, "hi", ""),
    ({"role": None, "content": "hi", "reasoning_content": None}, "hi", ""),
    ({"content": None, "reasoning_content": "why"}, "", "why"),
    ({"content": "hi", "reasoning": "why"}, "hi", "why"),
    ({"reasoning_content": "why", "reasoning": "why"}, "", "why"),
    ({"reasoning_content": "", "reasoning": "why"}, "", "why"),
    ({"reasoning_details": [{"type": "reasoning.text", "text": "wh"}, {"type": "reasoning.text", "text": "y"}]}, "", "why"),
    ({"reasoning": "why", "reasoning_details": [{"type": "reasoning.text", "text": "why"}]}, "", "why"),
    ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, "", ""),
    ({"content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}, "hi", ""),
    (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}, {"type": "text", "text": "hi"}]},
        "hi",
        "why",
    ),
    ({"content": [{"type": "thinking", "thinking": "why"}, None, 5, {"type": "image"}]}, "", "why"),
    ({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}]}, "hi"]}, "hi", "why"),
    ({"content": [{"type": "reasoning", "text": "why"}, {"type": "text", "text": {"value": "hi"}}]}, "hi", "why"),
    ({"content": [{"type": "thinking", "text": "why"}, "h", "i"]}, "hi", "why"),
    ({"content": {"type": "text", "text": "hi"}}, "hi", ""),
    ({"reasoning_content": {"text": "why"}, "content": "hi"}, "hi", "why"),
    ({"reasoning_content": ["why"], "content": "hi"}, "hi", "why"),
    ({"thinking": "why", "content": "hi"}, "hi", "why"),
    ({"reasoning_text": "why", "reasoning_opaque": "x"}, "", "why"),
    ({"thinking_blocks": [{"type": "thinking", "thinking": "why", "signature": "x"}]}, "", "why"),
    ({"reasoning_content": "why", "thinking_blocks": [{"type": "thinking", "thinking": "why"}]}, "", "why"),
    ({"content": 5, "tool_calls": None}, "", ""),
    ({"content": "hi", "tool_calls": []}, "hi", ""),
    ({"content": "hi", "tool_calls": 5}, "hi", ""),
    ({"content": "hi", "tool_calls": {"0": {}}}, "hi", ""),
    ({"content": "hi", "tool_calls": [None, 5]}, "hi", ""),
]


OVERFLOW, QUOTA = "context_length_exceeded", "exceeded_current_quota_error"


@pytest.mark.parametrize(("fields", "text", "reasoning"), SAYS)
def test_text_and_thinking(fields: dict[str, Any], text: str, reasoning: str) -> None:
    streamed, deltas = stream(delta(**fields), delta("stop"))
    for parts in (streamed, whole(**fields)):
        assert (parts.message.text, parts.message.reasoning, parts.message.tool_calls) == (text, reasoning, ())
    told = [ReasoningDelta(reasoning)] if reasoning else []
    assert deltas == told + ([TextDelta(text)] if text else [])


def test_thinking_of_two_fields_is_not_doubled_over_many_chunks() -> None:
    parts, _ = stream(*(delta(reasoning_content=word, reasoning=word) for word in ("a ", "b ", "c")), delta("stop"))
    assert parts.message.reasoning == "a b c"


# --- tool calls (rules 3, 4, 5) ----------------------------------------------------------------------------------------

F, G = ("f", '{"a":1}'), ("g", '{"b":2}')
STREAMS: dict[str, tuple[list[list[dict[str, Any]]], list[tuple[str, str]]]] = {
    "deepseek": (
        [
            [piece("", "f", index=0, id="1")],
            [piece('{"a"', index=0)],
            [piece(":1}", index=0)],
            [piece("", "g", index=1, id="2")],
            [piece('{"b":2}', index=1)],
        ],
        [F, G],
    ),
    "two in a chunk": ([[piece('{"a":1}', "f", index=0, id="1"), piece('{"b":2}', "g", index=1, id="2")]], [F, G]),
    "interleaved": (
        [
            [piece('{"a"', "f", index=0, id="1"), piece('{"b"', "g", index=1, id="2")],
            [piece(":2}", index=1), piece(":1}", index=0)],
        ],
        [F, G],
    ),
    "order by index": ([[piece('{"b":2}', "g", index=1, id="2")], [piece('{"a":1}', "f", index=0, id="1")]], [F, G]),
    "all at index 0": ([[piece('{"a":1}', "f", index=0, id="1")], [piece('{"b":2}', "g", index=0, id="2")]], [F, G]),
    "all at index 0, in pieces": (
        [
            [piece('{"a"', "f", index=0, id="1")],
            [piece(":1}", index=0, id="1")],
            [piece('{"b"', "g", index=0, id="2")],
            [piece(":2}", index=0)],
        ],
        [F, G],
    ),
    "empty id and name go on": ([[piece('{"a"', "f", index=0, id="1")], [piece(":1}", "", index=0, id="")]], [F]),
    "name and arguments null": (
        [[piece(None, "f", index=0, id="1")], [piece(None, None, index=0)], [piece('{"a":1}', index=0)]],
        [F],
    ),
    "id and name repeated": ([[piece('{"a"', "f", index=0, id="1")], [piece(":1}", "f", index=0, id="1")]], [F]),
    "id comes late": ([[piece('{"a"', "f", index=0)], [piece(":1}", index=0, id="1")]], [F]),
    "no index, ids": (
        [[piece('{"a"', "f", id="1")], [piece(":1}")], [piece('{"b"', "g", id="2")], [piece(":2}", id="2")]],
        [F, G],
    ),
    "no index, no ids": ([[piece('{"a":1}', "f")], [piece('{"b":2}', "g")]], [F, G]),
    "no index, no ids, in pieces": ([[piece("", "f")], [piece('{"a"')], [piece(":1}")], [piece('{"b":2}', "g")]], [F, G]),
    "no index, no ids, same call twice": ([[piece('{"a":1}', "f")], [piece('{"a":1}', "f")]], [F, F]),
    "index 0, no ids, another name": ([[piece('{"a":1}', "f", index=0)], [piece('{"b":2}', "g", index=0)]], [F, G]),
    "index 0, no ids, other arguments": (
        [[piece('{"a":1}', "f", index=0)], [piece('{"a":2}', "f", index=0)]],
        [F, ("f", '{"a":2}')],
    ),
    "another id with each piece": ([[piece('{"a"', "f", index=0, id="1")], [piece(":1}", index=0, id="9")]], [F]),
    "no index, one chunk": ([[piece('{"a":1}', "f"), piece('{"b":2}', "g")]], [F, G]),
    "no index, places": ([[piece('{"a"', "f"), piece('{"b"', "g")], [piece(":1}"), piece(":2}")]], [F, G]),
    "a dict": ([[piece({"a": 1}, "f", index=0, id="1")]], [F]),
    "a dict sent again": ([[piece({"a": 1}, "f", index=0, id="1")], [piece({"a": 1}, "f", index=0, id="1")]], [F]),
    "the whole sent again": (
        [[piece('{"a"', "f", index=0, id="1")], [piece(":1}", index=0)], [piece('{"a":1}', index=0)]],
        [F],
    ),
    "an empty object inside is no repetition": (
        [
            [piece("[", "f", index=0, id="1")],
            [piece("{}", index=0)],
            [piece(",", index=0)],
            [piece("{}", index=0)],
            [piece("]", index=0)],
        ],
        [("f", "[{},{}]")],
    ),
    "arguments empty": ([[piece("", "f", index=0, id="1")]], [("f", "{}")]),
    "arguments null": ([[piece(None, "f", index=0, id="1")]], [("f", "{}")]),
    "arguments blank": ([[piece(" \n", "f", index=0, id="1")]], [("f", "{}")]),
    "function null first": ([[{"index": 0, "id": "1", "function": None}], [piece('{"a":1}', "f", index=0)]], [F]),
    "type and id null": ([[piece('{"a":1}', "f", index=0, id=None, type=None)]], [F]),
    "bytes are kept": ([[piece('{ "a" : 1.0 }\n', "f", index=0, id="1")]], [("f", '{ "a" : 1.0 }\n')]),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streamed_calls(name: str) -> None:
    chunks, calls = STREAMS[name]
    parts, deltas = stream(*(delta(tool_calls=pieces) for pieces in chunks), delta("tool_calls"))
    assert calls_of(parts) == calls
    ids = [call.id for call in parts.message.tool_calls]
    assert len({*ids}) == len(ids)
    assert all(ids)
    if name != "order by index":
        told = ["".join(d.text for d in deltas if isinstance(d, ToolArgsDelta) and d.index == n) for n in range(len(calls))]
        assert [text if text.strip() else "{}" for text in told] == [arguments for _name, arguments in calls]


@pytest.mark.parametrize(
    "pieces",
    [
        [piece('{"a":1}', "f", id="1", type="function"), piece('{"b":2}', "g", id="2", type="function")],
        [piece('{"a":1}', "f"), piece('{"b":2}', "g")],
        [piece('{"a":1}', "f", id=""), piece('{"b":2}', "g", id="")],
        [piece('{"a":1}', "f", id="1"), piece('{"b":2}', "g", id="1")],
        [piece({"a": 1}, "f", id=None), piece({"b": 2}, "g", id=7)],
        [piece('{"a":1}', " f "), piece('{"b":2}', "g\n")],
    ],
)
def test_calls_of_a_whole_reply(pieces: list[dict[str, Any]]) -> None:
    for finish in ("tool_calls", "stop", "eos", "", None):
        parts = whole(finish, content=None, tool_calls=pieces)
        assert calls_of(parts) == [F, G]
        first, second = parts.message.tool_calls
        assert first.id
        assert second.id not in ("", first.id)


def test_ids_are_opaque_and_kept() -> None:
    parts = whole(tool_calls=[piece("{}", "f", id="functions.f:0"), piece("{}", "f", id="x|y" * 30)])
    assert [call.id for call in parts.message.tool_calls] == ["functions.f:0", "x|y" * 30]


# --- ends (rules 6, 7, 8) ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "finish"),
    [
        ([delta("stop", content="x")], "stop"),
        ([delta("length", content="x"), {"choices": []}], "length"),
        ([delta("stop", content="x"), delta("stop"), delta(None)], "stop"),
        ([delta(None, content="x")], "stop"),
        ([delta("", content="x")], "stop"),
        ([delta("eos", content="x")], "eos"),
        ([delta("a_new_word", content="x")], "a_new_word"),
        ([delta({"odd": 1}, content="x")], "stop"),
        ([delta(None, tool_calls=[piece("{}", "f", index=0)])], "tool_calls"),
        ([delta("stop", tool_calls=[piece("{}", "f", index=0)])], "stop"),
    ],
)
def test_finish_reasons(chunks: list[Any], finish: str) -> None:
    assert stream(*chunks)[0].finish_reason == finish


@pytest.mark.parametrize("arguments", ['{"a"', '{"a":1', '"', "{]"])
def test_a_call_that_ends_in_the_middle_without_a_finish_reason_is_a_cut_reply(arguments: str) -> None:
    with pytest.raises(e.StreamBroken, match="without a finish reason, in the middle of a tool call"):
        stream(delta(tool_calls=[piece(arguments, "f", index=0)]))
    assert calls_of(stream(delta("length", tool_calls=[piece(arguments, "f", index=0)]))[0]) == [("f", arguments)]


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        {"choices": "x"},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"index": 1, "delta": {"content": "other"}}]},
        {"choices": [], "usage": None, "x_groq": None, "model": 5},
        {"error": None, "choices": []},
    ],
)
def test_chunks_that_say_nothing(chunk: Any) -> None:
    parts, deltas = stream(delta(content="x"), chunk, delta("stop"))
    assert (parts.message.text, parts.model, deltas) == ("x", "", [TextDelta("x")])


def test_a_last_chunk_that_repeats_the_whole_message_beside_its_delta_is_not_doubled() -> None:
    last = {"choices": [{"delta": {}, "message": {"content": "x"}, "finish_reason": "stop"}]}
    assert stream(delta(content="x"), last)[0].message.text == "x"


@pytest.mark.parametrize("chunk", [None, [], [5], "ping", 5, True])
def test_a_chunk_that_is_no_object_is_a_heartbeat(chunk: Any) -> None:
    parts, deltas = stream(chunk, delta(content="x"), chunk, delta("stop"), chunk)
    assert (parts.message.text, deltas) == ("x", [TextDelta("x")])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "without a reply"),
        (b" \n\n", "without a reply"),
        (b'{"choices":[{"mess', "not whole JSON"),
        (b"<html>busy</html>", "not whole JSON"),
        (b"{}", "no choice"),
        (b'{"choices":[]}', "no choice"),
        (b"[]", "no choice"),
        (b"null", "no choice"),
    ],
)
def test_whole_bodies_that_are_no_reply(body: bytes, says: str) -> None:
    with pytest.raises(e.StreamBroken, match=says):
        read_whole(body)


REPLY = b'{"model":"deepseek-flash","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'


@pytest.mark.parametrize(
    "body", [REPLY, b"\n\n\n" + REPLY + b"\n", b"\xef\xbb\xbf" + REPLY, b'{"success":true,"data":' + REPLY + b"}"]
)
def test_a_whole_body_in_its_wrappings(body: bytes) -> None:
    parts = read_whole(body)
    assert (parts.message.text, parts.model, parts.usage) == ("hi", "deepseek-flash", Usage(requests=1))


# --- usage (rule 7) ----------------------------------------------------------------------------------------------------

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "prompt_cache_hit_tokens": 64,
    "completion_tokens_details": {"reasoning_tokens": 30},
}
COUNTED = Usage(1, 100, 40, 64, 30)


@pytest.mark.parametrize(
    "chunks",
    [
        [{**delta("stop"), "usage": USAGE}],
        [delta("stop"), {"choices": [], "usage": USAGE}],
        [{**delta(), "usage": None}, {**delta("stop"), "usage": USAGE}, {"choices": [], "usage": None}],
        [{"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]}],
        [{"choices": [{"delta": {}, "usage": USAGE}]}, {"choices": [], "usage": USAGE}],
        [{**delta("stop"), "x_groq": {"usage": USAGE}}],
        [{**delta(), "usage": {"prompt_tokens": 1}}, {**delta("stop"), "usage": USAGE}],
        [{**delta("stop"), "usage": USAGE}, {"choices": [], "usage": {}}],
    ],
)
def test_usage_wherever_it_stands_and_never_summed(chunks: list[Any]) -> None:
    assert stream(delta(content="x"), *chunks)[0].usage == COUNTED


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, Usage(1)),
        ({}, Usage(1)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(1, 9, 0, 4)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None, "prompt_cache_hit_tokens": 4}, Usage(1, 9, 0, 4)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": None}, "cached_tokens": 4}, Usage(1, 9, 0, 4)),
        ({"prompt_tokens": 9, "cached_tokens": 99}, Usage(1, 9, 0, 9)),
        ({"prompt_tokens": "9", "completion_tokens": 2.0}, Usage(1, 9, 2)),
        ({"prompt_tokens": -9, "completion_tokens": "x"}, Usage(1)),
        ({"prompt_tokens": float("inf"), "completion_tokens": float("nan")}, Usage(1)),
        ({"prompt_tokens": 10**400, "completion_tokens": [1]}, Usage(1)),
        ({"prompt_tokens": "9" * 5000, "completion_tokens_details": 7}, Usage(1)),
    ],
)
def test_counts_that_are_missing_or_odd(usage: dict[str, Any] | None, counted: Usage) -> None:
    found = read_usage(usage)
    assert found == counted
    assert found.cache_miss_tokens >= 0


# --- errors (rule 9) ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "says", "code"),
    [
        (400, {"error": {"message": "bad", "type": "t", "param": None, "code": "c"}}, e.BadRequest, "HTTP 400: bad", "c"),
        (400, {"error": {"code": 500, "message": "jinja"}}, e.BadRequest, "HTTP 400: jinja", "500"),
        (400, {"error": "Invalid tool_choice type"}, e.BadRequest, "HTTP 400: Invalid tool_choice type", None),
        (422, {"object": "error", "message": "flat", "code": 3280}, e.BadRequest, "HTTP 422: flat", "3280"),
        (400, "just a text", e.BadRequest, "HTTP 400: just a text", None),
        (400, [{"error": {"message": "in a list", "type": "t"}}], e.BadRequest, "HTTP 400: in a list", "t"),
        (400, {"error": {"code": "1210", "message": "zhipu"}}, e.BadRequest, "HTTP 400: zhipu", "1210"),
        (400, {"detail": [{"loc": ["x"]}]}, e.BadRequest, '"loc"', None),
        (400, b"<html>no</html>", e.BadRequest, "HTTP 400: <html>no</html>", None),
        (400, b"\xff\xfe", e.BadRequest, "HTTP 400: \ufffd\ufffd", None),
        (400, b"", e.BadRequest, "HTTP 400: no text", None),
        (400, {"error": {"message": "This model's maximum context length is 1"}}, e.ContextTooLong, "maximum context", None),
        (413, {"error": {"message": "prompt is too long"}}, e.ContextTooLong, "too long", None),
        (500, {"error": {"message": "Context size has been exceeded."}}, e.ContextTooLong, "HTTP 500", None),
        (429, {"error": {"message": "Tokens per minute; reduce the length of the messages"}}, e.RateLimited, "HTTP 429", None),
        (400, {"error": {"message": "Please shorten it.", "code": OVERFLOW}}, e.ContextTooLong, "shorten", OVERFLOW),
        (400, {"error": {"code": "1261", "message": "Too long"}}, e.ContextTooLong, "Too long", "1261"),
        (None, {"error": {"code": OVERFLOW, "message": "x"}}, e.ContextTooLong, "inside the reply", OVERFLOW),
        (429, {"error": {"code": "1113", "message": "x"}}, e.InsufficientBalance, "HTTP 429", "1113"),
        (429, {"error": {"type": QUOTA, "message": "x"}}, e.InsufficientBalance, "HTTP 429", QUOTA),
        (503, {"error": {"message": "Busy; try a shorter context window size"}}, e.Overloaded, "Busy", None),
        (503, {"error": {"message": "x", "code": OVERFLOW}}, e.Overloaded, "x", OVERFLOW),
        (400, {"error": {"message": "x", "code": "tool_use_failed"}}, e.StreamBroken, "x", "tool_use_failed"),
        (404, {"error": {"message": "x", "code": "tool_use_failed"}}, e.BadRequest, "x", "tool_use_failed"),
        (422, {"error": {"message": "x", "code": "tool_use_failed"}}, e.BadRequest, "x", "tool_use_failed"),
        (None, {"error": {"message": "m", "code": "rate_limit_exceeded"}}, e.RateLimited, "HTTP 429: m", None),
        (None, {"error": {"message": "m", "code": "invalid_api_key"}}, e.AuthError, "HTTP 401: m", None),
        (401, {"error": {"message": "no"}}, e.AuthError, "HTTP 401", None),
        (402, {"error": {"message": "Insufficient Balance"}}, e.InsufficientBalance, "HTTP 402", None),
        (403, b"", e.AuthError, "HTTP 403", None),
        (404, b"", e.BadRequest, "HTTP 404", None),
        (429, {"error": {"message": "slow", "code": "c"}}, e.RateLimited, "HTTP 429: slow", "c"),
        (503, b"", e.Overloaded, "HTTP 503", None),
        (None, {"error": {"message": "m", "code": 429}}, e.RateLimited, "HTTP 429: m", "429"),
        (None, {"error": {"message": "m", "code": "503"}}, e.Overloaded, "HTTP 503: m", "503"),
        (None, {"error": {"message": "m", "status": 400}}, e.BadRequest, "HTTP 400: m", None),
        (None, {"error": {"message": "m", "type": "rate_limit_error"}}, e.RateLimited, "HTTP 429: m", "rate_limit_error"),
        (None, {"error": {"message": "m", "type": "invalid_request_error"}}, e.BadRequest, "HTTP 400: m", None),
        (None, {"error": {"message": "m", "type": "authentication_error"}}, e.AuthError, "HTTP 401: m", None),
        (None, {"error": {"message": "m", "type": {"odd": 1}, "code": True}}, e.Overloaded, "inside the reply: m", None),
        (None, {"choices": [], "base_resp": {"status_code": 1002, "status_msg": "r"}}, e.RateLimited, "HTTP 429: r", None),
        (None, {"choices": None, "base_resp": {"status_code": 1008}}, e.InsufficientBalance, "HTTP 402", None),
        (None, {"base_resp": {"status_code": 1000, "status_msg": "odd"}}, e.Overloaded, "inside the reply: odd", None),
        (None, {"error": "boom"}, e.Overloaded, "an error inside the reply: boom", None),
        (None, {"code": 429, "msg": "slow", "success": False}, e.RateLimited, "HTTP 429: slow", "429"),
        (None, {"errors": [{"code": 7003, "message": "no"}], "success": False}, e.Overloaded, "reply: no", "7003"),
        (None, {"error": {"type": "RateLimitError", "message": "m"}}, e.RateLimited, "HTTP 429: m", None),
        (None, {"error": {"type": "AuthenticationError", "message": "m"}}, e.AuthError, "HTTP 401: m", None),
        (None, {"error": {"type": "BadRequestError", "message": "m"}}, e.BadRequest, "HTTP 400: m", None),
        (None, {"error": {"status": "UNAUTHENTICATED", "message": "m"}}, e.AuthError, "HTTP 401: m", None),
        (None, {"code": "Throttling.RateQuota", "message": "m"}, e.RateLimited, "HTTP 429: m", None),
        (None, {"code": "InvalidApiKey", "message": "m"}, e.AuthError, "HTTP 401: m", None),
        (400, {"detail": {"error": {"message": "m", "code": "c"}}}, e.BadRequest, "HTTP 400: m", "c"),
        (400, {"error": {"error": {"message": "m", "code": "c"}}}, e.BadRequest, "HTTP 400: m", "c"),
        (400, {"error": {"code": 400, "message": "m", "errors": [{"reason": "r"}]}}, e.BadRequest, "HTTP 400: m", "400"),
        (422, {"detail": [{"loc": ["body"], "msg": "m"}]}, e.BadRequest, "HTTP 422: m", None),
        (400, {"error": "Bad Request", "message": "the context window is full"}, e.ContextTooLong, "Bad Request: the", None),
        (400, {"error_code": 336003, "error_msg": "m"}, e.BadRequest, "HTTP 400: m", None),
        (498, {"error": {"message": "Flex tier capacity exceeded"}}, e.Overloaded, "HTTP 498", None),
    ],
)  # fmt: skip
def test_errors(status: int | None, body: Any, kind: type[e.ModelError], says: str, code: str | None) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = read_error(status, data, {"x-ds-trace-id": "trace"})
    assert type(error) is kind
    assert says in str(error)
    assert error.request_id == "trace"
    assert code is None or error.code == code


@pytest.mark.parametrize("error", [{"message": "busy", "code": 429}, "busy", [{"message": "busy"}]])
def test_an_error_inside_a_reply_is_raised_from_a_chunk_and_from_a_body(error: Any) -> None:
    chunk = {"error": error, "choices": [{"delta": {"content": "x"}, "finish_reason": "error"}]}
    for read in (lambda: stream(delta(content="x"), chunk), lambda: read_whole(json.dumps(chunk).encode())):
        with pytest.raises(e.ModelError, match="busy") as caught:
            read()
        assert caught.value.retryable


def test_a_long_page_is_cut_in_the_message_and_in_the_body() -> None:
    error = read_error(502, b"<html>" + b"x" * 10_000)
    assert len(str(error)) < 400
    assert len(error.body) == 2000


@pytest.mark.parametrize("ids", [{}, {"id": "same"}])
@pytest.mark.parametrize("second", [("g", '{"b":2}'), ("f", '{"a":1}')])
def test_in_a_whole_reply_each_entry_is_a_call(ids: dict[str, str], second: tuple[str, str]) -> None:
    entries = [piece('{"a":1}', "f", index=0, **ids), piece(second[1], second[0], index=0, **ids)]
    body = {"choices": [{"message": {"content": None, "tool_calls": entries}, "finish_reason": "tool_calls"}]}
    parts = read_whole(json.dumps(body).encode())
    assert calls_of(parts) == [F, second]
    assert len({call.id for call in parts.message.tool_calls}) == 2


HALVES = st.sampled_from(["", "x", "\u00e9", "x\ud83d", "\ude00y", "\ude00\ud83d"])
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "content": st.none() | st.sampled_from(["", "a", "b c", "\u00e9", "\ud83d", "\ude00", "<think>", "x"]),
        "reasoning_content": st.none() | st.sampled_from(["", "hm", "\u00e9"]),
        "reasoning": st.none() | st.sampled_from(["", "hm"]),
        "reasoning_details": st.lists(st.builds(lambda text: {"type": "reasoning.text", "text": text}, HALVES), max_size=2),
        "note": HALVES,
        "role": st.just("assistant"),
        "tool_calls": st.none() | st.just([]) | st.just([{"index": 0, "function": {"name": "f", "arguments": "{}"}}]),
    },
)
CHUNKS = st.builds(
    lambda delta, rest, more: {"model": "m", "choices": [{"delta": delta, **rest}], **more},
    FIELDS,
    st.fixed_dictionaries(
        {}, optional={"finish_reason": st.sampled_from([None, "stop"]), "index": st.sampled_from([None, 0, 1])}
    ),
    st.fixed_dictionaries({}, optional={"usage": st.none() | st.just({"prompt_tokens": 1}), "error": st.none()}),
)


@given(st.lists(CHUNKS, min_size=1, max_size=8), st.booleans())
def test_a_piece_read_on_the_short_way_is_what_the_long_way_makes_of_it(chunks: list[Any], think_tags: bool) -> None:
    short, long = ReplyReader(think_tags=think_tags), ReplyReader(think_tags=think_tags)
    for chunk in chunks:
        long._may_be_plain = False
        assert list(short.feed(chunk)) == list(long.feed(chunk))
    ends = [{"choices": [{"delta": {}, "finish_reason": "stop"}]}]
    for end in ends:
        short.feed(end)
        long.feed(end)
    one, other = short.parts(), long.parts()
    assert (one.message.text, one.message.reasoning, one.finish_reason, one.model, one.usage) == (
        other.message.text, other.message.reasoning, other.finish_reason, other.model, other.usage,
    )  # fmt: skip
    assert one.message.opaque == other.message.opaque
    (one.message.text + one.message.reasoning + one.message.opaque).encode()  # no half of a character is left


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 131072 tokens. However, you requested 140000 tokens",
        "The input (140000 tokens) is longer than the model's context length (131072 tokens).",
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
        "Trying to keep the first 9000 tokens, but the model is loaded with a context length of only 4096 tokens",
        "prompt too long; exceeded max context length by 12 tokens",
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
        "Invalid request: Your request exceeded model token limit: 131072",
        "Prompt exceeds max length",
        "length of prompt_tokens (40000) must be less than max_seq_len (32768).",
        "Please reduce the length of the messages or completion.",
        "the request exceeds the available context size, try increasing it",
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
        "the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model",
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
        "Total tokens of image and text exceed max message tokens",
        "Input validation error: 'inputs' tokens + 'max_new_tokens' must be <= 8193. Given: 8000",
        "Input prompt (9000 tokens) is too long and exceeds limit of 8192",
        "The length of input prompt exceeds the max length 8192",
        "Prompt length (9000) exceeds the model's maximum sequence length",
        "Reached context length of 4096 tokens with model (arch: llama)",
        "token limit exceeded",
        "\u8f93\u5165\u957f\u5ea6\u8d85\u8fc7\u9650\u5236",
        "requested 140000 tokens exceeds the model's limit of 131072",
    ],
)
def test_the_texts_of_a_prompt_that_does_not_fit(text: str) -> None:
    assert type(read_error(400, json.dumps({"error": {"message": text}}).encode())) is e.ContextTooLong


@pytest.mark.parametrize("choices", [[], None])
def test_a_refusal_of_minimax_comes_with_http_200(choices: Any) -> None:
    data = {"choices": choices, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}
    with pytest.raises(e.RateLimited, match="rate limit"):
        read_whole(json.dumps(data).encode())
    with pytest.raises(e.RateLimited, match="rate limit"):
        ReplyReader().feed(data)
    whole = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "base_resp": {"status_code": 0}}
    assert read_whole(json.dumps(whole).encode()).message.text == "hi"


def test_a_summary_of_thinking_text_is_thinking_text() -> None:
    details = [{"type": "reasoning.summary", "summary": "I looked."}, {"type": "reasoning.encrypted", "data": "zzz"}]
    whole = {"choices": [{"message": {"content": "hi", "reasoning_details": details}, "finish_reason": "stop"}]}
    assert read_whole(json.dumps(whole).encode()).message.reasoning == "I looked."


@pytest.mark.parametrize("data", [{"code": 401, "msg": "no key", "data": {}}, {"code": 401, "msg": "no key", "data": None}])
def test_an_error_in_an_envelope_with_http_200(data: dict[str, Any]) -> None:
    for read in (lambda: stream(data), lambda: read_whole(json.dumps(data).encode())):
        with pytest.raises(e.AuthError, match="no key"):
            read()
