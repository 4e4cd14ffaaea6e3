"""How a streamed reply begins and ends: marks, heartbeats, keep-alives, counts, and what is no stream at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from agentkit import errors as e
from agentkit.model import ModelReply

from .calls import DONE, WHOLE, ask, choice, event, replied
from .raw_server import Step, chunked, http, raw_server, stream_head

HELLO = event(choice(content="hel")) + event(choice(content="lo"))
STOP = event(choice("stop"))
USAGE = event({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}})


def reply_of(*steps: Step, **options: Any) -> ModelReply:
    reply: ModelReply = replied(steps, **options)[0]
    return reply


@pytest.mark.parametrize(
    "done",
    [
        b"data: [DONE] \n\n",
        b"data:[DONE]\n\n",
        b'data: "[DONE]"\n\n',
        b"data: '[DONE]'\n\n",
        b"data:  [done]\t\n\n",
        b"data: [DONE]",
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_the_mark_of_the_end_in_other_forms(done: bytes, watched: bool) -> None:
    """Text after it is not read."""
    after = b"" if done == b"data: [DONE]" else event(choice(content="more"))
    reply = reply_of(stream_head() + HELLO + STOP + done + after, watched=watched)
    assert (reply.message.text, reply.finish_reason) == ("hello", "stop")


@pytest.mark.parametrize(
    "beat",
    [
        b"data: ping\n\n", b"data: : keep-alive\n\n", b"data: [HEARTBEAT]\n\n", b"data: null\n\n", b"data: 5\n\n",
        b'data: ""\n\n', b"data: []\n\n", b"data:\n\n", b"data: \n\n", b'data: {"type": "ping"}\n\n',
        b'data: {"choices": null}\n\n',
        b'data: {"choices": [null]}\n\n', b'data: {"choices": [{"index": 0, "delta": null}]}\n\n', b"event: ping\n\n",
        b"x-unknown: 1\n\n", b": comment\n\n", b"id: 7\nretry: 10\n\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("watched", [False, True])
def test_heartbeats_anywhere_are_passed_over(beat: bytes, watched: bool) -> None:
    body = beat + event(choice(content="hel")) + beat + event(choice(content="lo")) + beat + STOP + beat + USAGE + beat + DONE
    reply = reply_of(stream_head() + body, watched=watched)
    assert (reply.message.text, reply.usage.input_tokens) == ("hello", 10)


@pytest.mark.parametrize("end", [[], [-1.0]], ids=["closed", "reset"])
def test_a_reply_with_its_finish_reason_is_whole_however_the_connection_ends(end: Sequence[Step]) -> None:
    assert reply_of(stream_head() + HELLO + STOP, *end).message.text == "hello"
    with pytest.raises(e.StreamBroken):
        reply_of(stream_head() + HELLO, *end)


def endless(first: bytes, *again: Step, status: str = "200 OK") -> ModelReply:
    """The reply of a server that neither ends nor closes it, and says `again` for ever: the client leaves. The limits on time
    are far away."""

    async def main() -> ModelReply:
        head = stream_head(extra="transfer-encoding: chunked\r\n").replace(b"200 OK", status.encode())
        more = [chunked(step, end=False) if isinstance(step, bytes) else step for step in again]
        steps = [head + chunked(first, end=False), *(more * 400), inf]
        async with raw_server(lambda _n: steps) as server:
            model = server.model(timeout=60.0, deadline=60.0)
            try:
                return await asyncio.wait_for(model.reply(ask()), 15)
            finally:
                await asyncio.wait_for(server.left.wait(), 5)
                await model.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize(
    "beat",
    [
        b": keep-alive\n\n", b"data: ping\n\n", b"data: {}\n\n", b"\n\n", event(choice()), event(choice(content="")),
        event(choice("stop")), event({"choices": []}), event({"choices": [], "usage": {"prompt_tokens": 10}}),
        event({"choices": [{"index": 0, "delta": {}, "message": {"content": "hello"}, "finish_reason": "stop"}]}),
    ],
)  # fmt: skip
def test_keep_alives_for_ever_do_not_hold_a_whole_reply_back(beat: bytes) -> None:
    reply = endless(HELLO + STOP + USAGE, 0.1, beat)
    assert (reply.message.text, reply.usage.output_tokens) == ("hello", 2)


def test_nor_do_they_after_a_finish_reason_in_every_chunk() -> None:
    first = event(choice("stop", content="hel")) + event(choice("stop", content="lo"))
    assert endless(first, 0.1, event(choice("stop"))).message.text == "hello"


@pytest.mark.parametrize("again", [[], [0.1, b"\n"], [0.1, b" \r\n\t"]], ids=["silence", "line ends", "blanks"])
def test_a_whole_json_text_whose_response_does_not_end_is_taken(again: list[Step]) -> None:
    assert endless(WHOLE, *again).message.text == "hello"
    assert endless(b"\xef\xbb\xbf" + WHOLE + b"\n", *again).message.text == "hello"


def test_a_json_text_that_pauses_is_waited_for() -> None:
    """Though what came before the first pause ends like a whole one."""
    for at in (WHOLE.index(b"}") + 1, WHOLE.index(b"]")):
        assert reply_of(stream_head() + WHOLE[:at], 1.3, b" ", WHOLE[at:]).message.text == "hello"


@pytest.mark.parametrize(
    "body", [b'{"error": {"message": "maximum context length"}}', b'{"error": {"message": "maximum context length']
)
@pytest.mark.parametrize("again", [[], [0.1, b"\n"]], ids=["silence", "blanks"])
def test_a_refusal_whose_body_does_not_end_is_told(body: bytes, again: list[Step]) -> None:
    with pytest.raises(e.ContextTooLong):
        endless(body, *again, status="400 Bad Request")


def test_usage_that_comes_late_is_still_taken() -> None:
    reply = reply_of(stream_head() + HELLO + STOP, 0.3, USAGE + DONE)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (10, 2)


def test_text_that_comes_after_a_finish_reason_is_waited_for() -> None:
    """Some proxies put a finish reason into every chunk: then it says nothing, and a pause is no end."""
    first = event(choice("stop", content="he")) + event(choice("stop", content="l"))
    reply = reply_of(stream_head() + first, 1.2, event(choice("stop", content="lo")) + DONE)
    assert reply.message.text == "hello"


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\n\n\xef\xbb\xbf", b"\r\n \n"])
@pytest.mark.parametrize("split", [False, True])
def test_a_byte_order_mark_or_blank_lines_before_a_reply(mark: bytes, split: bool) -> None:
    for body in (WHOLE, HELLO + STOP + DONE):
        data = mark + body
        steps: list[Step] = [stream_head(), data[:1], 0.01, data[1:4], 0.01, data[4:]] if split else [stream_head() + data]
        assert reply_of(*steps).message.text == "hello"


def test_a_byte_order_mark_before_each_event() -> None:
    events = [event(choice(content="hel")), event(choice(content="\ufefflo")), STOP, USAGE, DONE]
    assert reply_of(stream_head() + b"".join(b"\xef\xbb\xbf" + one for one in events)).message.text == "hel\ufefflo"


def test_an_index_as_text() -> None:
    chunks = [
        {"choices": [{"index": "0", "delta": {"content": "hello"}}, {"index": "1", "delta": {"content": "other"}}]},
        {"choices": [{"index": "0", "delta": {}, "finish_reason": "stop"}]},
    ]
    assert reply_of(stream_head() + b"".join(map(event, chunks)) + DONE).message.text == "hello"
    pieces = [[(0, '{"a"'), (1, '{"b"')], [(1, ":2}")], [(0, ":1}")]]
    calls = [
        choice(tool_calls=[{"index": str(at), "function": {"name": "f", "arguments": text}} for at, text in piece])
        for piece in pieces
    ]
    made = reply_of(stream_head() + b"".join(map(event, calls)) + event(choice("tool_calls")) + DONE).message.tool_calls
    assert [call.arguments for call in made] == ['{"a":1}', '{"b":2}']


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"upstream connect error", "upstream connect error"),
        (b"Error: the backend is down", "Error: the backend is down"),
        (b"data: the backend is down\n\n", "the backend is down"),
        (b"<html><body>Bad gateway</body></html>", "Bad gateway"),
        (b"null", "null"),
        (b"data: [DONE]\n\n", ""),
        (b'data: {"choices": []}\n\ndata: [DONE]\n\n', ""),
    ],
)
def test_what_is_no_reply_is_a_broken_one_that_shows_what_came(body: bytes, shown: str) -> None:
    with pytest.raises(e.StreamBroken) as caught:
        reply_of(http(body, content_type="text/event-stream"))
    assert shown in caught.value.body


def test_a_cut_chunk_is_not_taken_for_a_heartbeat() -> None:
    with pytest.raises(e.StreamBroken, match="not whole JSON"):
        reply_of(stream_head() + HELLO + b'data: {"choices": [{"delta"\n\n' + STOP + DONE)
    with pytest.raises(e.StreamBroken, match="not whole JSON"):
        reply_of(stream_head() + HELLO + b'data:   {"choices": [{"delta"\n\n' + STOP + DONE)


@pytest.mark.parametrize("status", [402, "402", None])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_inside_a_choice_is_of_its_own_kind(status: object, streamed: bool) -> None:
    text = "Insufficient credits" if status else "Provider is down"
    error = {"code": status, "message": text} if status else {"message": text}
    inside = {"index": 0, "error": error, "finish_reason": "error", "delta" if streamed else "message": {"content": ""}}
    body = json.dumps({"choices": [inside]}).encode()
    steps = stream_head() + HELLO + event(body) + DONE if streamed else http(body)
    with pytest.raises(e.InsufficientBalance if status else e.Overloaded) as caught:
        reply_of(steps)
    assert text in str(caught.value)
    assert caught.value.retryable is (status is None)


# --- counts --------------------------------------------------------------------------------------------------------------


def counted(*usages: Any) -> tuple[int, int, int, int]:
    events = [event({**choice(content="x"), "usage": usage}) for usage in usages]
    usage = reply_of(stream_head() + b"".join(events) + STOP + DONE).usage
    return usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.reasoning_tokens


def thought(tokens: int) -> dict[str, Any]:
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


REAL = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107, "prompt_tokens_details": {"cached_tokens": 64}}
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}}


@pytest.mark.parametrize(
    ("usages", "counts"),
    [
        ([REAL], (100, 7, 64, 0)),
        ([ZEROS, REAL], (100, 7, 64, 0)),
        ([REAL, ZEROS], (100, 7, 64, 0)),
        ([REAL, {"total_tokens": 0, "total_characters": 0}], (100, 7, 64, 0)),
        ([REAL, None, {}], (100, 7, 64, 0)),
        ([{"prompt_tokens": 100}, {"completion_tokens": 7}], (100, 7, 0, 0)),
        ([{"prompt_tokens": 100, "completion_tokens": 1}, {"prompt_tokens": 0, "completion_tokens": 7}], (100, 7, 0, 0)),
        ([{**REAL, "completion_tokens": 3}, REAL], (100, 7, 64, 0)),
        ([{"input_tokens": 100, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 64}}], (100, 7, 64, 0)),
        ([{"input_tokens": 36, "output_tokens": 7, "cache_read_input_tokens": 64}], (100, 7, 64, 0)),
        (
            [{"input_tokens": 26, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 64}, {"output_tokens": 7}],
            (100, 7, 64, 0),
        ),
        (
            [{"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 130,
              "completion_tokens_details": {"reasoning_tokens": 23}}],
            (100, 30, 0, 23),
        ),
        ([{"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 130}], (100, 30, 0, 0)),
        ([{"prompt_tokens": 36, "completion_tokens": 7, "total_tokens": 107, "cached_tokens": 64}], (100, 7, 64, 0)),
        ([{"total_tokens": 107}], (0, 0, 0, 0)),
        ([{"completion_tokens": 7, "total_tokens": 107}], (100, 7, 0, 0)),
        ([{"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36, "completion_tokens": 7}], (100, 7, 64, 0)),
        ([{"prompt_tokens": "100.0", "completion_tokens": "7.0"}], (100, 7, 0, 0)),
        ([{"prompt_tokens": 100, "completion_tokens": 7, **thought(23)}], (100, 30, 0, 23)),
        ([{"prompt_tokens": 100, "completion_tokens": 7, "reasoning_tokens": 23, "total_tokens": 107}], (100, 30, 0, 23)),
        ([{"prompt_tokens": 100, "completion_tokens": 23, **thought(7)}], (100, 23, 0, 7)),
        ([{"completion_tokens": 7, **thought(23)}], (0, 30, 0, 23)),
        ([{"prompt_tokens": "100", "completion_tokens": 7.0, "total_tokens": -1}], (100, 7, 0, 0)),
    ],
)  # fmt: skip
def test_counts_in_all_forms(usages: Sequence[Any], counts: tuple[int, int, int, int]) -> None:
    assert counted(*usages) == counts


@pytest.mark.parametrize(("told", "cost"), [(0.25, 0.25), (0, 0.0), ("0.25", None), (None, None), (-1, None), (True, None)])
def test_the_cost_that_a_server_tells_is_the_cost(told: Any, cost: float | None) -> None:
    usage = event({"choices": [], "usage": {**REAL, "cost": told}})
    reply = reply_of(stream_head() + HELLO + STOP + usage + DONE, profile="openrouter")
    assert reply.cost == cost
    assert reply_of(stream_head() + HELLO + STOP + usage + DONE, profile="generic").cost is None, "its unit is not known"


# --- events in other forms -----------------------------------------------------------------------------------------------

HEL, LO, END = (json.dumps(choice(*finish, **delta)).encode() for finish, delta in (
    ((), {"content": "hel"}), ((), {"content": "lo"}), (("stop",), {}),
))  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"data: %b\ndata: %b\ndata: %b\ndata: [DONE]\n\n",
        b"data: %b\ndata: %b\n\ndata: %b\n\n",
        b"data: data: %b\n\ndata: data: %b\n\ndata: data: %b\n\ndata: data: [DONE]\n\n",
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_events_without_a_blank_line_between_them_or_with_two_prefixes(body: bytes, watched: bool) -> None:
    assert reply_of(stream_head() + body % (HEL, LO, END), watched=watched).message.text == "hello"


def test_a_chunk_over_several_data_lines_is_one() -> None:
    lines = b"data: " + b"\ndata: ".join(json.dumps(choice("stop", content="hello"), indent=1).encode().split(b"\n")) + b"\n\n"
    assert reply_of(stream_head() + lines + DONE).message.text == "hello"


@pytest.mark.parametrize(
    "end",
    [
        b"event: error\ndata: boom\n\n",
        b'event:error\ndata: "boom"\n\n',
        b'event: error\ndata: {"type": "server_error", "message": "boom"}\n\n',
        b'event: error\ndata: {"error": {"message": "boom"}}\n\n',
        b'error: {"code": 500, "message": "boom", "type": "server_error"}\n\n',
        b'data: {"status": 500, "msg": "boom"}\n\n',
        b'data: {"errors": [{"message": "boom"}]}\n\n',
        b"data: error: boom\n\n",
        b"data: [ERROR] boom\n\n",
    ],
)
def test_an_error_in_a_stream_is_not_passed_over_before_its_end_marker(end: bytes) -> None:
    with pytest.raises(e.Overloaded, match="boom") as caught:
        reply_of(stream_head() + HELLO + end + DONE)
    assert caught.value.partial == "hello"


def test_an_error_event_is_over_with_its_blank_line() -> None:
    assert reply_of(stream_head() + b"event: error\n\n" + HELLO + STOP + DONE).message.text == "hello"
