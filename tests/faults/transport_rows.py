"""What networks do: resets, cuts, silence, floods."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

from agentkit import errors as e
from tests.models.raw_server import Step, http, stream_head

from .rows import Answers, Played, Raises, Row, answer, events, in_time, payload, was_reset

__all__ = ["ROWS"]

TWICE = Answers(attempts=2)
BODY = json.dumps({"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}).encode()


def cut(watched: bool) -> list[Step]:
    (whole,) = answer()(watched)
    assert isinstance(whole, bytes)
    return [whole[: whole.index(b"\r\n\r\n") + 44], -1.0]


def drip(watched: bool) -> Iterator[Step]:
    yield stream_head("text/event-stream" if watched else "application/json")
    for _ in range(1000):
        yield b" "
        yield 0.01


def packed(encoding: str, body: bytes, content_type: str = "application/json") -> list[Step]:
    return [http(body, content_type=content_type, extra=f"content-encoding: {encoding}\r\n")]


def gzipped(watched: bool) -> list[Step]:
    (whole,) = answer()(watched)
    assert isinstance(whole, bytes)
    body = whole.partition(b"\r\n\r\n")[2]
    return packed("gzip", gzip.compress(body), "text/event-stream" if watched else "application/json")


def bomb(_watched: bool) -> list[Step]:
    """2 MiB that become 2 GiB: the same block of a mebibyte, 2,048 times."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    return packed("gzip", gzip.compress(b"")[:10] + block * 2048)


def giant(_watched: bool) -> Iterator[Step]:
    yield stream_head("application/json") + b'{"x":"'
    for _ in range(100):
        yield b"x" * 2**20


def has_cause(played: Played) -> None:
    assert isinstance(played.error, e.ModelError) and played.error.__cause__ is not None


ROWS = [
    Row(id="reset_before_headers_once", group="transport", fault=[-1.0], must=TWICE, checks=[was_reset]),
    Row(
        id="read_timeout_before_headers", group="transport", fault=[3.0], times=None, model={"timeout": 0.5},
        attempts=2, must=Raises(e.TimedOut, attempts=2, says="no byte came within 0.5 seconds"),
    ),
    Row(id="reset_mid_json_body_once", group="transport", fault=cut, must=TWICE, checks=[was_reset]),
    Row(
        id="short_content_length", group="transport", must=TWICE,
        fault=[b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n" + BODY],
    ),
    Row(
        id="slow_drip", group="transport", fault=drip, times=None, model={"deadline": 0.5}, attempts=2, checks=[in_time(5)],
        must=Raises(e.TimedOut, attempts=2, says="no whole reply within the deadline of 0.5 seconds"),
        why="retried like other timeouts: the next connection may be fast; Retry(total=) bounds it",
    ),
    Row(id="gzip_response", group="transport", fault=gzipped, must=Answers()),
    Row(id="gzip_response#deflate", group="transport", fault=packed("deflate", zlib.compress(BODY)), must=Answers()),
    Row(
        id="gzip_response#wrong", group="transport", fault=packed("gzip", BODY), must=TWICE,
    ),
    Row(id="gzip_bomb", group="transport", fault=bomb, must=Raises(e.ReplyTooLarge, says="67,108,864 bytes")),
    Row(id="giant_reply_100mib", group="transport", fault=giant, must=Raises(e.ReplyTooLarge, says="67,108,864 bytes")),
    Row(
        id="giant_reply_100mib#configured", group="transport", fault=payload({"content": "x" * 2000}),
        model={"max_bytes": 1000}, must=Raises(e.ReplyTooLarge, says="1,000 bytes"),
    ),
    Row(
        id="http_header_flood", group="transport", times=None, checks=[has_cause],
        fault=[b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(30000)) + b"\r\n" + events(b"[DONE]")],
        must=Raises(e.ConnectionFailed, attempts=5),
        why="retried, as what else is no HTTP: often a gateway's, and the next may be well",
    ),
]  # fmt: skip
