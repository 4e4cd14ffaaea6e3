"""What happens in a run. Lasting events are the run; passing events only inform whoever watches.

Lasting events are small and numbered by their place in the list. A `RunState` is their fold. `encode_event` and `decode_event`
are the form in which they are stored. Passing events are never stored and not even built when nobody watches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from .messages import Assistant, Message, ToolCall, ToolResult, Usage, shorten

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
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


@dataclass(frozen=True, slots=True)
class _Lasting:
    """What all lasting events have: `at` is when, in seconds since 1970, 0 where nobody has looked."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    at: float = field(default=0.0, compare=False, kw_only=True, repr=False)


@dataclass(frozen=True, slots=True)
class RunStarted(_Lasting):
    """The run begins with this transcript. Messages before `new_from` were passed in as history.

    `agent` is the agent's name, and `fingerprint` has a digest of each of its parts: its instructions, the schemas of its
    tools, its output type, model and settings. `owner` says which program writes the events up to the next `RunResumed`.
    """

    run_id: str
    messages: tuple[Message, ...]
    new_from: int = 0
    agent: str = ""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""


@dataclass(frozen=True, slots=True)
class MessageAdded(_Lasting):
    """The loop itself says something to the model: what is wrong with its answer, or that a limit was reached.

    `reason` is "output" (the answer did not fit), "tool_choice" (a forced tool was not called) or "limit:<which>".
    """

    message: Message
    reason: str


@dataclass(frozen=True, slots=True)
class ModelReplied(_Lasting):
    """One model call ended with a whole reply. `cost` is in US dollars, None where the price is not known.

    `seconds` is all the time that the call took, and `waited` what of it was spent waiting for a turn or between retries.
    With a `CacheReport` among the agent's middleware, `sent` counts the messages of the request, and `same_prefix` those at
    its beginning that a request before had as well: what a server can read from its cache. Both are 0 without one. A view
    that rewrites the history (`Agent(history=)`) makes `same_prefix` small.
    """

    message: Assistant
    usage: Usage
    finish_reason: str = "stop"
    model: str = ""
    cost: float | None = None
    seconds: float = 0.0
    waited: float = 0.0
    sent: int = 0
    same_prefix: int = 0
    changed: str = ""
    """What changed in the beginning of the prompt, as `CacheReport` found it; empty if it only grew."""
    price_note: str = ""
    """Whose prices the cost is made with, where they are not the server's own."""


@dataclass(frozen=True, slots=True)
class ToolStarted(_Lasting):
    """A tool call is about to run. `position` counts the calls of the run from 0 and is stable over a resume.

    `call.arguments` are those that the tool gets: the model's own, or what was given with an approval, or what was `repaired`
    in them. A call that was suspended is started again when it goes on.
    """

    call: ToolCall
    position: int
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class UsageAdded(_Lasting):
    """Model calls spent this beside the replies of the run, and it counts as the run's.

    They are calls that a tool made, a sub-agent's for instance, or, with an empty `call_id`, the run's own whose replies it
    did not take: a middleware asked again. `estimated`: the server did not count it, as the reply broke off, or as it never
    does; the tokens are then one for each four bytes.
    """

    call_id: str
    usage: Usage
    cost: float | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class ToolFinished(_Lasting):
    """A tool call was answered.

    `error` is the full text of what went wrong, without secrets; the model does not see it. `repairs` is what was mended in
    the text of the arguments before the tool ran; `output` the whole result, where the model was told its head and tail only,
    `max_output` characters of it. `is_json`: the result is JSON, and not just text. `outcome` is "unknown" where the call may
    or may not have taken effect: its tool timed out or was cancelled while it ran. `refused` says why a call was answered
    without being run: "cut", "excess", "forbidden", "denied", "lost" (it may have run before a crash), "failed" (too often
    before), "ended", or the limit that stood in its way; empty for a call that ran.
    """

    call: ToolCall
    result: ToolResult
    seconds: float = 0.0
    error: str | None = None
    repairs: tuple[str, ...] = ()
    output: str | None = None
    refused: str = ""
    max_output: int | None = None
    is_json: bool = False
    outcome: Literal["known", "unknown", "not run"] = "known"


@dataclass(frozen=True, slots=True)
class CallJudged(_Lasting):
    """Whether a call may run was decided: it may ("allow"), it may not ("deny"), or somebody has to approve it ("ask").

    `arguments` is the JSON text of the call as it will run, repaired and with its defaults, where that is not the model's own
    text. It is what an approval shows. `reason` says why, and `by` which policy has decided.
    """

    call_id: str
    verdict: Literal["allow", "ask", "deny"]
    arguments: str | None = None
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class CallSuspended(_Lasting):
    """A started call waits for something outside: the run `run_id` inside it, which has paused with these `events` so far.

    `pending` are the calls of that run that wait, by their own ids. The call goes on when they are answered.
    """

    call_id: str
    run_id: str
    pending: tuple[ToolCall, ...] = ()
    events: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ApprovalGiven(_Lasting):
    """Somebody answered an approval: run the call, refuse it, or run it with other `arguments` (JSON text).

    The model is told the `reason` of a refusal. `by` says who answered, as far as that was given.
    """

    call_id: str
    approved: bool
    arguments: str | None = None
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class RunPaused(_Lasting):
    """The run waits for approvals. As the last event of a stream it has `.result`.

    `digests` are those of the pending calls, of their names and arguments, by which a changed state is refused.
    """

    pending: tuple[ToolCall, ...]
    digests: tuple[str, ...] = field(default=(), compare=False, kw_only=True, repr=False)
    result: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RunResumed(_Lasting):
    """The run goes on, in this process or another, with an agent like this. `attempt` counts how often."""

    agent: str = ""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class RunFinished(_Lasting):
    """The run is over. `stop_reason` is "answer", "limit:<which>", "cancelled" or "error"; `.result` as in a stream.

    `output` is the answer as JSON can hold it.
    """

    stop_reason: str
    error: str | None = None
    output: Any = field(default=None, kw_only=True)
    result: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Model call number `step` (from 1) is about to be sent."""

    step: int


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the thinking text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolArgsDelta:
    """A piece of a call's arguments. `index` is the call's place in the reply; `name` is known from the first piece."""

    index: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """What a running tool reports with `RunContext.progress`."""

    call: ToolCall
    data: Any
    replaced: int = 0
    """Reports before this one that no watcher got, as the tool reported faster than the watchers took them."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """The model call failed and is sent again after `wait` seconds: drop the deltas of this step shown so far."""

    attempt: int
    wait: float
    error: str


@dataclass(frozen=True, slots=True)
class ApprovalRequired:
    """A call waits for an approval."""

    call: ToolCall
    reason: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Which run an event is of: its id, its agent's name, the id of the run that it is part of, and how deep it stands."""

    run_id: str
    agent: str = ""
    parent: str | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Nested:
    """An event of a run inside this one: of `run`, whose `parent` is the id of the run around it."""

    event: Event
    run: RunInfo

    @property
    def run_id(self) -> str:
        """The id of the run that the event is of."""
        return self.run.run_id

    @property
    def parent(self) -> str | None:
        """The id of the run around it."""
        return self.run.parent


LastingEvent: TypeAlias = (
    RunStarted
    | MessageAdded
    | ModelReplied
    | ToolStarted
    | UsageAdded
    | ToolFinished
    | CallJudged
    | CallSuspended
    | ApprovalGiven
    | RunPaused
    | RunResumed
    | RunFinished
)
Delta: TypeAlias = TextDelta | ReasoningDelta | ToolArgsDelta | Retrying
PassingEvent: TypeAlias = "StepStarted | Delta | ToolProgress | ApprovalRequired | Nested"
Event: TypeAlias = "LastingEvent | PassingEvent"

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
    return {**fields, "call": _open(fields.get("call"))} if kind in ("ToolStarted", "ToolFinished") else fields


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
