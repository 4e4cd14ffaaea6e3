"""A reply as an HTTP response: status, headers and the parts of a body, with pauses and breaks between them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .replies import Failure, Raw
from .request import Behaviour, SimRequest
from .wire import Completion, envelope, json_body, stream_chunks

__all__ = ["BREAK", "Break", "Part", "Pause", "Response", "cut", "failed", "late", "raw", "whole"]

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"
_PIECE = 64
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent for `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Break:
    """The connection breaks here."""


BREAK = Break()
Part: TypeAlias = bytes | Pause | Break


@dataclass(frozen=True, slots=True)
class Response:
    """The response. `length` is None for a stream. `wait` is the seconds before the status line. `hangup`: nothing is sent."""

    status: int
    headers: Mapping[str, str]
    parts: tuple[Part, ...]
    length: int | None = None
    wait: float = 0.0
    hangup: bool = field(default=False)


def whole(completion: Completion, request: SimRequest, behaviour: Behaviour) -> Response:
    """A completion as a stream or as one body, as `request` asks, after the keep-alive comments or lines."""
    if not request.stream:
        body = _dump(json_body(completion))
        parts = [body[at : at + _PIECE] for at in range(0, len(body), _PIECE)]
        return _response(200, [b"\n"] * behaviour.keep_alive + parts, JSON)
    options = request.body.get("stream_options") or {}
    chunks = stream_chunks(
        completion,
        chunk=behaviour.chunk,
        usage_place=behaviour.usage_place,
        include_usage=options.get("include_usage") is True,
    )
    events = [b": keep-alive\n\n"] * behaviour.keep_alive
    events += [b"data: %b\n\n" % _dump(chunk) for chunk in chunks]
    return Response(200, {"content-type": SSE}, (*events, b"data: [DONE]\n\n"))


def failed(failure: Failure) -> Response:
    """An HTTP error in DeepSeek's envelope."""
    return _response(failure.status, [_dump(envelope(failure))], JSON, failure.headers)


def raw(reply: Raw) -> Response:
    """A body as it was given."""
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body
    data = body if isinstance(body, bytes) else _dump(body)
    return _response(reply.status, [data], reply.content_type, reply.headers)


def late(response: Response, seconds: float, after: int) -> Response:
    """`response` with a wait after its first `after` events."""
    if after <= 0:
        return replace(response, wait=response.wait + seconds)
    index = _end_of(response.parts, after)
    return replace(response, parts=(*response.parts[:index], Pause(seconds), *response.parts[index:]))


def cut(response: Response, after: int, *, clean: bool) -> Response:
    """Only the first `after` events of `response`, then a break or, if `clean`, an end that looks complete."""
    kept = response.parts[: _end_of(response.parts, after)]
    if not clean:
        return replace(response, parts=(*kept, BREAK))
    length = None if response.length is None else _length(kept)
    return replace(response, parts=kept, length=length)


def _end_of(parts: tuple[Part, ...], events: int) -> int:
    """The index in `parts` after the first `events` events."""
    at = 0
    while at < len(parts) and events > 0:
        events -= isinstance(parts[at], bytes)
        at += 1
    return at


def _response(status: int, parts: Iterable[bytes], kind: str, headers: Mapping[str, str] | None = None) -> Response:
    pieces = tuple(parts)
    return Response(status, {"content-type": kind, **(headers or {})}, pieces, _length(pieces))


def _length(parts: Iterable[Part]) -> int:
    return sum(len(part) for part in parts if isinstance(part, bytes))


def _dump(value: Mapping[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair can only be sent as an escape
        return json.dumps(value).encode()
