"""The events of a run, and the form in which they are stored.

`encode_event` and `decode_event` are the stored form: one line of JSON with a version. `dump_event` shows an event as a dict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from .event_types import (
    ApprovalGiven,
    ApprovalRequired,
    CallJudged,
    CallSuspended,
    Delta,
    Event,
    LastingEvent,
    MessageAdded,
    ModelReplied,
    Nested,
    PassingEvent,
    ReasoningDelta,
    Retrying,
    RunFinished,
    RunInfo,
    RunPaused,
    RunResumed,
    RunStarted,
    StepStarted,
    TextDelta,
    ToolArgsDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    UsageAdded,
)
from .messages import ToolCall, shorten

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "PASSING",
    "ApprovalGiven",
    "ApprovalRequired",
    "CallJudged",
    "CallSuspended",
    "Delta",
    "Event",
    "LastingEvent",
    "MessageAdded",
    "ModelReplied",
    "Nested",
    "PassingEvent",
    "ReasoningDelta",
    "Retrying",
    "RunFinished",
    "RunInfo",
    "RunPaused",
    "RunResumed",
    "RunStarted",
    "StepStarted",
    "TextDelta",
    "ToolArgsDelta",
    "ToolFinished",
    "ToolProgress",
    "ToolStarted",
    "UsageAdded",
    "decode_event",
    "digest_of",
    "dump_event",
    "encode_event",
    "load_event",
    "stamp",
]

VERSION = 2
"""Of the stored form. Version 1 had no `v`, and each call's arguments in each of its events."""

E = TypeVar("E")

PASSING = (StepStarted, TextDelta, ReasoningDelta, ToolArgsDelta, ToolProgress, Retrying, ApprovalRequired, Nested)
"""The kinds of passing events."""
_LASTING = {kind.__name__: kind for kind in LastingEvent.__args__}
_NOT_STORED: dict[type[Any], Any] = {
    ToolStarted: {"call": {"arguments", "opaque"}},
    ToolFinished: {"call": {"arguments", "opaque"}, "result": {"call_id", "name", "role"}},
    RunPaused: {"pending": {"__all__": {"arguments", "opaque"}}, "result": True},
    RunFinished: {"result": True},
}
"""What stands in an earlier event, and what is no data."""


def digest_of(call: ToolCall) -> str:
    """A short digest of what a call is: its name and arguments."""
    return sha256(f"{call.name}\0{call.arguments}".encode("utf-8", "replace")).hexdigest()[:16]


def stamp(event: E, at: float) -> E:
    """The event with its time, if it has none yet."""
    if not event.at:  # type: ignore[attr-defined]
        object.__setattr__(event, "at", at)
    return event


def encode_event(event: LastingEvent) -> bytes:
    """The event as one line of JSON, as it is stored.

    A call is referred to by its id and name: its arguments stand in the `ModelReplied` and, where others were made of them, in
    the event that has these. Of a result that is longer than what the model was told only the whole is there. `.result` of a
    last event is left out.
    """
    kind = type(event)
    unstored: Any = _NOT_STORED.get(kind)
    if kind is ToolStarted and event.repaired:  # type: ignore[union-attr]
        unstored = {"call": {"opaque"}}
    elif kind is ToolFinished and event.output is not None and event.max_output is not None:  # type: ignore[union-attr]
        unstored = {**unstored, "result": {"call_id", "name", "role", "content"}}
    has_messages = kind is RunStarted or kind is MessageAdded  # told apart by their roles, which are defaults
    body = _dumped(kind.__name__, event, unstored, exclude_defaults=not has_messages)
    head = f'{{"v":{VERSION},"type":"{kind.__name__}"'.encode()
    return head + (b"}" if body == b"{}" else b"," + body[1:])


def _dumped(kind: str, event: Any, unstored: Any, *, exclude_defaults: bool) -> bytes:
    from pydantic_core import PydanticSerializationError

    adapter = _adapter(kind)
    try:
        return adapter.dump_json(event, exclude=unstored, exclude_defaults=exclude_defaults)
    except PydanticSerializationError:  # half a character, which JSON has an escape for
        data = adapter.dump_python(event, exclude=unstored, exclude_defaults=exclude_defaults)
        return json.dumps(data, separators=(",", ":")).encode()


def decode_event(data: bytes | str) -> LastingEvent:
    """The event that `encode_event` made, of this version or an earlier one.

    A call in it may have its id and name only; the fold of a run's events completes it. Raises ValueError for what is no JSON,
    and as `load_event`.
    """
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("an event that is nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError(f"an event is a JSON object, not {found!r:.60}")
    return load_event(found)


def dump_event(event: Event) -> dict[str, Any]:
    """The event as a JSON-able dict, to be shown: all of it, with `type`, its class name. `.result` of a last event is left
    out.

    What a tool reports as progress may be anything; what JSON cannot hold of it becomes its `str`.
    """
    from pydantic_core import to_jsonable_python

    if isinstance(event, Nested):
        return {"type": "Nested", "event": dump_event(event.event), "run": to_jsonable_python(event.run)}
    unstored = {"result"} if isinstance(event, RunPaused | RunFinished) else None
    data: dict[str, Any] = to_jsonable_python(event, exclude=unstored, serialize_unknown=True)
    return {"type": type(event).__name__, **data}


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(_LASTING[kind])


def load_event(data: Mapping[str, Any]) -> LastingEvent:
    """The lasting event of a dict: what `encode_event` wrote, in this version or an earlier one, or `dump_event` gave.

    Raises ValueError for an event of a newer version, an unknown `type`, or unknown fields, and pydantic's ValidationError (a
    ValueError) for fields that do not fit.
    """
    version, kind = data.get("v", 1), data.get("type")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(f"an event of version {version!r}; this agentkit reads up to version {VERSION}: use a newer one")
    if kind not in _LASTING:
        raise ValueError(f"unknown event type {kind!r}; known: {', '.join(sorted(_LASTING))}")
    if kind == "ApprovalGiven" and not isinstance(data.get("approved"), bool):
        raise ValueError(f"approved is {data.get('approved')!r} in an ApprovalGiven event; allowed: true or false")
    fields = {name: value for name, value in data.items() if name not in ("v", "type")}
    if kind == "ToolFinished":
        fields["result"] = _result_of(fields)
    event: LastingEvent = _adapter(kind).validate_python(_with_open_arguments(str(kind), fields))
    return event


def _with_open_arguments(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A call without arguments stands for one of an earlier event."""
    if kind == "RunPaused" and isinstance(fields.get("pending"), list | tuple):
        return {**fields, "pending": [_open(call) for call in fields["pending"]]}
    is_open = kind == "ToolFinished" or (kind == "ToolStarted" and not fields.get("repaired"))
    return {**fields, "call": _open(fields.get("call"))} if is_open else fields


def _open(call: Any) -> Any:
    return {"arguments": "", **call} if isinstance(call, dict) else call


def _result_of(fields: dict[str, Any]) -> Any:
    """The result with what it has from its call, and with its text where that is a part of the output."""
    result, call = fields.get("result", {}), fields.get("call")
    if not isinstance(result, dict) or not isinstance(call, dict):
        return result
    known: dict[str, Any] = {"call_id": call.get("id"), "name": call.get("name")}
    output = fields.get("output")
    if isinstance(output, str) and "content" not in result:
        known["content"] = shorten(output, fields.get("max_output"))
    return {**known, **result}
