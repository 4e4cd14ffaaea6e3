"""Streams: how they are cut into lines and segments, how they end, and what is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from agentkit import ToolFinished
from agentkit import errors as e
from agentkit.events import Retrying, TextDelta
from tests.models.raw_server import Step, http, stream_head

from .rows import Answers, Fault, Outcome, Played, Raises, Row, answer, call, chunks, events, in_time, sse, was_reset

__all__ = ["ROWS"]

TWICE = Answers(attempts=2)
EMOJI = "naïve 日本語 😀🧑‍🚀"
SEPARATORS = "a\u2028b\u2029c\u0085d\x0be\x0cf"
HELLO = chunks({"content": "hello"})
HEAD = stream_head()
PARTS = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("hel", "lo", " there")]
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def row(name: str, fault: Fault, must: Outcome | None = None, **more: object) -> Row:
    return Row(id=name, group="sse", fault=fault, must=must or Answers(), ways=(True,), **more)  # type: ignore[arg-type]


def raw(data: bytes) -> list[Step]:
    return [HEAD + data]


def piece(arguments: str, **more: object) -> dict[str, object]:
    part = {"index": 0, "function": {"arguments": arguments}, **more}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [part]}}]}


BEGUN = piece('{"n":', id="call_7", type="function")
BEGUN["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] = "add"  # type: ignore[index]
EMPTY = [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call("clock", "{}")}]}}]}]


def comments(text: bytes) -> bytes:
    return b": keep-alive\n\n" * 50 + b"".join(
        event + b"\n\n" + b": keep-alive\n\n" * 50 for event in text.split(b"\n\n") if event
    )


def blank_then_json(_watched: bool) -> list[Step]:
    (whole,) = answer()(False)
    assert isinstance(whole, bytes)
    body = b"\n" * 50 + whole.partition(b"\r\n\r\n")[2]
    return [http(body)]


def segments(*data: bytes) -> Iterator[Step]:
    yield HEAD
    for part in data:
        yield part
        yield 0.0


def crlf_in_halves(_watched: bool) -> Iterator[Step]:
    text = events(*HELLO).replace(b"\n", b"\r\n")
    yield HEAD
    for part in text.split(b"\n"):
        yield part
        yield 0.002
        yield b"\n"


def in_bytes(_watched: bool) -> Iterator[Step]:
    text = events(
        *(json.dumps(c, ensure_ascii=False).encode() if isinstance(c, dict) else c for c in chunks({"content": EMOJI}))
    )
    return segments(*(text[at : at + 1] for at in range(len(text))))


def two_lines(value: object) -> bytes:
    """The JSON of a value over two lines of data."""
    first, comma, rest = json.dumps(value).partition(", ")
    return f"data: {first}{comma}\ndata: {rest}\n\n".encode()


def flood(_watched: bool) -> Iterator[Step]:
    yield HEAD
    while True:
        yield events(PARTS[0]) * 1000


def endless_line(_watched: bool) -> Iterator[Step]:
    yield HEAD + b"data: "
    for _ in range(256):
        yield b"x" * 2**20


def comments_for_ever(_watched: bool) -> Iterator[Step]:
    yield HEAD
    while True:
        yield b": keep-alive\n\n"
        yield 0.002


def comments_for_a_while(_watched: bool) -> Iterator[Step]:
    """For longer than the server may be silent."""
    yield HEAD
    for _ in range(15):
        yield b": keep-alive\n\n"
        yield 0.2
    yield events(*HELLO)


def dropped(played: Played) -> None:
    """The watcher saw the text of the broken reply, then that it counts no more, then the whole."""
    kinds = [event for event in played.seen if isinstance(event, TextDelta | Retrying)]
    at = next(place for place, event in enumerate(kinds) if isinstance(event, Retrying))
    assert "".join(event.text for event in kinds[:at] if isinstance(event, TextDelta)) == "hello there"
    assert "".join(event.text for event in kinds[at:] if isinstance(event, TextDelta)) == "hello"


def has_the_text(played: Played) -> None:
    assert isinstance(played.error, e.StreamBroken) and played.error.partial == "hello there"


def no_call_ran(played: Played) -> None:
    state = played.result.state if played.result else played.error.state  # type: ignore[union-attr]
    assert sum(isinstance(event, ToolFinished) for event in state.events) == 1
    assert played.ran == ["paid"]


ROWS = [
    row("keepalive_comments", raw(comments(events(*HELLO)))),
    row("keepalive_comments#slow", comments_for_a_while, model={"timeout": 2.0}),
    Row(
        id="keepalive_blank_lines_nonstream", group="sse", fault=blank_then_json, must=Answers(), model={"timeout": 30.0},
    ),
    row("crlf", raw(events(*HELLO, end=b"\r\n"))),
    row("cr_only", raw(events(*HELLO, end=b"\r"))),
    row("mixed_newlines_split", crlf_in_halves),
    row("no_space_after_colon", raw(events(*HELLO).replace(b"data: ", b"data:"))),
    row("multi_line_data", raw(b"".join(two_lines(c) for c in HELLO[:-1]) + events(HELLO[-1]))),
    row("event_id_retry_fields", raw(events(*HELLO).replace(b"data:", b"event: x\nid: 1\nretry: 10\ndata:"))),
    row("bom", raw(b"\xef\xbb\xbf" + events(*HELLO))),
    row("utf8_split", in_bytes, Answers(EMOJI)),
    row("u2028_in_data", sse(*chunks({"content": SEPARATORS})), Answers(SEPARATORS)),
    row(
        "u2028_in_data#raw", raw(events(json.dumps(chunks({"content": SEPARATORS})[0], ensure_ascii=False).encode(), STOP)),
        Answers(SEPARATORS),
    ),
    row(
        "surrogate_pair_escapes",
        raw(
            b'data: {"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}\n\n'
            b'data: {"choices":[{"index":0,"delta":{"content":"\\ude00b"}}]}\n\n' + events(STOP, b"[DONE]")
        ),
        Answers("a😀b"),
    ),
    row(
        "surrogate_pair_escapes#half",
        raw(b'data: {"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}\n\n' + events(STOP, b"[DONE]")),
        Answers("a\ufffd"),
    ),
    row("all_events_in_one_segment", sse(*HELLO)),
    row("missing_done", sse(*HELLO[:-1])),
    row("eof_without_finish_reason", sse(*PARTS), TWICE, checks=[dropped]),
    row(
        "eof_without_finish_reason_forever", sse(*PARTS), Raises(e.StreamBroken, attempts=5, says="finish reason"),
        times=None, checks=[has_the_text],
    ),
    row("reset_mid_text", [HEAD + events(*PARTS), 0.3, -1.0], TWICE, checks=[dropped, was_reset]),
    row("reset_mid_tool_arguments", [HEAD + events(BEGUN), 0.2, -1.0], TWICE, checks=[no_call_ran, was_reset]),
    row("reset_mid_tool_arguments#eof", sse(BEGUN), TWICE, checks=[no_call_ran]),
    row(
        "eof_mid_tool_arguments_valid_prefix", sse(*EMPTY), Raises(e.StreamBroken, attempts=5),
        times=None, checks=[no_call_ran],
    ),
    row("data_after_done", sse(*HELLO, PARTS[0], b"{not json")),
    row(
        "error_object_mid_stream",
        sse(PARTS[0], {"error": {"message": "overloaded", "type": "server_error", "code": 503}}), TWICE,
    ),
    row(
        "surrogate_pair_escapes#low",
        raw(b'data: {"choices":[{"index":0,"delta":{"content":"\\ude00b"}}]}\n\n' + events(STOP, b"[DONE]")),
        Answers("\ufffdb"),
    ),
    row(
        "event_error", raw(events(PARTS[0]) + b'event: error\ndata: {"message": "boom"}\n\n'),
        Raises(e.Overloaded, attempts=5, says="boom"), times=None,
    ),
    row("bad_json_event", sse(b'{"choices": [{"delta": {"content": "a'), TWICE),
    row(
        "bad_json_event#always", sse(b'{"choices": [{"delta": {"content": "a'), Raises(e.StreamBroken, attempts=5), times=None,
    ),
    row("json_instead_of_sse", lambda _watched: answer()(False)),
    Row(id="sse_instead_of_json", group="sse", fault=lambda _watched: answer()(True), must=Answers(), ways=(False,)),
    row("sse_flood", flood, Raises(e.ReplyTooLarge, says="1,000,000 bytes"), model={"max_bytes": 1_000_000}),
    row("sse_endless_line", endless_line, Raises(e.ReplyTooLarge, says="a line of the stream is longer than 8,388,608 bytes")),
    row(
        "sse_comment_flood_forever", comments_for_ever, Raises(e.TimedOut, attempts=2, says="deadline of 0.5 seconds"),
        times=None, model={"deadline": 0.5}, attempts=2, checks=[in_time(5)],
    ),
    row("stall_mid_stream", [HEAD + events(*PARTS[:2]), 3.0], TWICE, model={"timeout": 0.5}),
]  # fmt: skip
