"""The events of a run, and their stored form.

`encode_event` and `decode_event` convert to and from the stored form, a line of JSON with a version. `dump_event` makes a dict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from .event_types import (
    ApprovalGiven,
    ApprovalRequired,
    CallJudged,
    CallReconciled,
    CallSuspended,
    Delta,
    Event,
    LastingEvent,
    MessageAdded,
    ModelReplied,
    Nested,
    PartialOutput,
    PassingEvent,
    ReasoningDelta,
    ResultGiven,
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
    "CallReconciled",
    "CallSuspended",
    "Delta",
    "Event",
    "LastingEvent",
    "MessageAdded",
    "ModelReplied",
    "Nested",
    "PartialOutput",
    "PassingEvent",
    "ReasoningDelta",
    "ResultGiven",
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
    "dump_events",
    "encode_event",
    "load_event",
    "load_events",
    "stamp",
]

VERSION = 2
"""Version of the stored form. Version 1 had no `v`, and stored a call's arguments in each of its events."""

_MAX_ARTIFACT = 1_000_000

E = TypeVar("E")

PASSING = (
    StepStarted,
    PartialOutput,
    TextDelta,
    ReasoningDelta,
    ToolArgsDelta,
    ToolProgress,
    Retrying,
    ApprovalRequired,
    Nested,
)
"""The kinds of passing events."""
_LASTING = {kind.__name__: kind for kind in LastingEvent.__args__}
_NOT_STORED: dict[type[Any], Any] = {
    ToolStarted: {"call": {"arguments", "opaque"}},
    ToolFinished: {"call": {"arguments", "opaque"}, "result": {"call_id", "name", "role"}},
    RunPaused: {"pending": {"__all__": {"arguments", "opaque"}}, "result": True},
    RunFinished: {"result": True},
}
"""Fields that are not stored: an earlier event has them, or they are not data."""


def digest_of(call: ToolCall) -> str:
    """A short digest of a call's name and arguments."""
    return sha256(f"{call.name}\0{call.arguments}".encode("utf-8", "replace")).hexdigest()[:16]


def stamp(event: E, at: float) -> E:
    """Set the time of an event that has none yet, and return the event."""
    if not event.at:  # type: ignore[attr-defined]
        object.__setattr__(event, "at", at)
    return event


def encode_event(event: LastingEvent) -> bytes:
    """The event in its stored form, one line of JSON.

    A call is stored as its id and name. Its arguments are stored in the `ModelReplied` and, if they were changed, in the event
    that changed them. If the model got a shortened result, only the whole result is stored. `.result` of a last event is not
    stored. The data of an image, audio or a file is in the event that brings it, as base64 with its digest. An artifact is
    stored if it consists of JSON values, and has at most a million characters.
    """
    kind = type(event)
    unstored: Any = _NOT_STORED.get(kind)
    if kind is ToolStarted and event.repaired:  # type: ignore[union-attr]
        unstored = {"call": {"opaque"}}
    elif kind is RunStarted and not event.forked_at:  # type: ignore[union-attr]
        unstored = {"forked_at": True}
    elif kind is ToolFinished and event.output is not None and event.max_output is not None:  # type: ignore[union-attr]
        unstored = {**unstored, "result": {"call_id", "name", "role", "content"}}
    # messages are distinguished by their roles, and parts by their types, which are defaults
    is_whole = kind is RunStarted or kind is MessageAdded
    if kind is ToolFinished:
        is_whole = bool(event.result.parts)  # type: ignore[union-attr]
        empty = [name for name in ("reconciled", "uncertain") if not getattr(event, name)]
        unstored = {**unstored, **dict.fromkeys(empty, True)}
        if event.artifact is not None and not _is_storable(event.artifact):  # type: ignore[union-attr]
            unstored = {**unstored, "artifact": True}
    body = _dumped(kind.__name__, event, unstored, exclude_defaults=not is_whole)
    head = f'{{"v":{VERSION},"type":"{kind.__name__}"'.encode()
    return head + (b"}" if body == b"{}" else b"," + body[1:])


def _is_storable(artifact: Any) -> bool:
    """Whether JSON gives the artifact back as it is, and it is not too long."""
    try:
        text = json.dumps(artifact, allow_nan=False)
        return len(text) <= _MAX_ARTIFACT and bool(json.loads(text) == artifact)
    except (TypeError, ValueError, RecursionError):
        return False


def _dumped(kind: str, event: Any, unstored: Any, *, exclude_defaults: bool) -> bytes:
    serializer = _adapter(kind).serializer
    try:
        return serializer.to_json(event, exclude=unstored, exclude_defaults=exclude_defaults)
    except ValueError:  # a lone surrogate, for which JSON has an escape
        data = serializer.to_python(event, exclude=unstored, exclude_defaults=exclude_defaults)
        return json.dumps(data, separators=(",", ":")).encode()


def decode_event(data: bytes | str) -> LastingEvent:
    """The event from its stored form, of this version or an earlier one.

    A call in it may have only its id and name; `RunState.apply` completes it. Raises ValueError for text that is not JSON, and
    as `load_event`.
    """
    try:
        found = _parser()(data)
    except (TypeError, ValueError):  # a lone surrogate or deep nesting, which it does not take; or no JSON at all
        try:
            found = json.loads(data)
        except RecursionError:
            raise ValueError("an event that is nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError(f"an event is a JSON object, not {found!r:.60}")
    return _loaded(found)


def dump_event(event: Event) -> dict[str, Any]:
    """The whole event as a JSON-able dict for display. `type` is its class name; `.result` of a last event is left out.

    A tool may report any value as progress; a part that JSON cannot hold becomes its `str`.
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


@cache
def _parser() -> Callable[[bytes | str], Any]:
    from pydantic_core import from_json

    return from_json


def load_event(data: Mapping[str, Any]) -> LastingEvent:
    """The lasting event from a dict, made by `dump_event` or read from the stored form of this version or an earlier one.

    Raises ValueError for a newer version, an unknown `type` or unknown fields, and pydantic's ValidationError (a ValueError)
    for fields that do not fit.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"an event is a dict as of `dump_event`, not {data!r:.60}")
    return _loaded({**data})


def _loaded(fields: dict[str, Any]) -> LastingEvent:
    """The event of these fields. They are changed."""
    version, kind = fields.pop("v", 1), fields.pop("type", None)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(f"an event of version {version!r}; this agentkit reads up to version {VERSION}: use a newer one")
    if not isinstance(kind, str) or kind not in _LASTING:
        raise ValueError(f"unknown event type {kind!r}; known: {', '.join(sorted(_LASTING))}")
    if (prepare := _PREPARE.get(kind)) is not None:
        prepare(fields)
    event: LastingEvent = _adapter(kind).validator.validate_python(fields)
    return event


def dump_events(events: Iterable[LastingEvent]) -> dict[str, Any]:
    """The events of a run as JSON-able data, with the version of the format."""
    return {"version": VERSION, "events": [json.loads(encode_event(event)) for event in events]}


def load_events(data: Mapping[str, Any]) -> Iterator[LastingEvent]:
    """The events of `dump_events`, of this version or an earlier one. Raises ValueError for anything else."""
    if not isinstance(data, dict) or not isinstance(data.get("events"), list | tuple):
        raise ValueError(f"a run state is what `state.to_json()` gave, a dict with version and events, not {data!r:.60}")
    version = data.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ValueError(f"a run state of version {version!r}; this agentkit reads up to version {VERSION}")
    return map(load_event, data["events"])


def _with_arguments(call: Any) -> Any:
    """The call. If it was stored without arguments, it gets empty ones: they are in an earlier event."""
    return {"arguments": "", **call} if isinstance(call, dict) else call


def _prepare_start(fields: dict[str, Any]) -> None:
    if not fields.get("repaired"):
        fields["call"] = _with_arguments(fields.get("call"))


def _prepare_end(fields: dict[str, Any]) -> None:
    """The result gets its call's id and name and, if it is not stored, its text, shortened from the output."""
    result, call = fields.get("result", {}), fields.get("call")
    if not isinstance(call, dict):
        return
    fields["call"] = {"arguments": "", **call}
    if isinstance(result, dict):
        known: dict[str, Any] = {"call_id": call.get("id"), "name": call.get("name")}
        output = fields.get("output")
        if isinstance(output, str) and "content" not in result:
            known["content"] = shorten(output, fields.get("max_output"))
        fields["result"] = {**known, **result}


def _prepare_pause(fields: dict[str, Any]) -> None:
    if isinstance(pending := fields.get("pending"), list | tuple):
        fields["pending"] = [_with_arguments(call) for call in pending]


def _check_approval(fields: dict[str, Any]) -> None:
    if not isinstance(fields.get("approved"), bool):
        raise ValueError(f"approved is {fields.get('approved')!r} in an ApprovalGiven event; allowed: true or false")


_PREPARE: dict[str, Callable[[dict[str, Any]], None]] = {
    "ToolStarted": _prepare_start,
    "ToolFinished": _prepare_end,
    "RunPaused": _prepare_pause,
    "ApprovalGiven": _check_approval,
}
"""What is done with the fields of an event before they are validated."""
