"""What happens in a run. Lasting events are the run; passing events only inform whoever watches.

Lasting events are small, numbered by their place in the list, and can be stored: `dump_event` and `load_event` are
their JSON form. A `RunState` is their fold. Passing events are never stored and not even built when nobody watches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .messages import Assistant, Message, ToolCall, ToolResult, Usage

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "ApprovalGiven",
    "ApprovalRequired",
    "CallJudged",
    "Delta",
    "Event",
    "LastingEvent",
    "MessageAdded",
    "ModelReplied",
    "PassingEvent",
    "ReasoningDelta",
    "Retrying",
    "RunFinished",
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
    "dump_event",
    "load_event",
]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run begins with this transcript. Messages before `new_from` were passed in as history."""

    run_id: str
    messages: tuple[Message, ...]
    new_from: int = 0


@dataclass(frozen=True, slots=True)
class MessageAdded:
    """The loop itself says something to the model: what is wrong with its answer, or that a limit was reached.

    `reason` is "output" (the answer did not fit), "tool_choice" (a forced tool was not called) or "limit:<which>".
    """

    message: Message
    reason: str


@dataclass(frozen=True, slots=True)
class ModelReplied:
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
class ToolStarted:
    """A tool call is about to run. `position` counts the calls of the run from 0 and is stable over a resume.

    `call.arguments` are those that the tool gets: the model's own, or what was repaired in them or given with an approval.
    """

    call: ToolCall
    position: int


@dataclass(frozen=True, slots=True)
class UsageAdded:
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
class ToolFinished:
    """A tool call was answered.

    `error` is the full text of what went wrong, without secrets; the model does not see it. `repairs` is what was mended in the
    text of the arguments before the tool ran; `output` the whole result, where the model was told its head and tail only.
    `refused` says why a call was answered without being run: "cut", "excess", "forbidden", "denied", "lost" (it may have run
    before a crash), "failed" (too often before), "ended", or the limit that stood in its way; empty for a call that ran.
    """

    call: ToolCall
    result: ToolResult
    seconds: float = 0.0
    error: str | None = None
    repairs: tuple[str, ...] = ()
    output: str | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class CallJudged:
    """Whether a call may run was decided: it may ("allow"), or somebody has to approve it ("ask"), for this `reason`.

    `arguments` is the JSON text of the call as it will run, repaired and with its defaults. It is what an approval shows.
    """

    call_id: str
    verdict: Literal["allow", "ask"]
    arguments: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    """Somebody answered an approval: run the call, refuse it, or run it with other `arguments` (JSON text).

    The model is told the `reason` of a refusal.
    """

    call_id: str
    approved: bool
    arguments: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunPaused:
    """The run waits for approvals. As the last event of a stream it has `.result`."""

    pending: tuple[ToolCall, ...]
    result: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RunResumed:
    """The run goes on, in this process or another."""


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over. `stop_reason` is "answer", "limit:<which>", "cancelled" or "error"; `.result` as in a stream."""

    stop_reason: str
    error: str | None = None
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


LastingEvent: TypeAlias = (
    RunStarted
    | MessageAdded
    | ModelReplied
    | ToolStarted
    | UsageAdded
    | ToolFinished
    | CallJudged
    | ApprovalGiven
    | RunPaused
    | RunResumed
    | RunFinished
)
Delta: TypeAlias = TextDelta | ReasoningDelta | ToolArgsDelta | Retrying
PassingEvent: TypeAlias = StepStarted | Delta | ToolProgress | ApprovalRequired
Event: TypeAlias = LastingEvent | PassingEvent

_LASTING = {kind.__name__: kind for kind in LastingEvent.__args__}


def dump_event(event: Event) -> dict[str, Any]:
    """The event as a JSON-able dict; `type` is the class name. `.result` of a last event is left out.

    What a tool reports as progress may be anything; what JSON cannot hold of it becomes its `str`.
    """
    from pydantic_core import to_jsonable_python

    unstored = {"result"} if isinstance(event, RunPaused | RunFinished) else None
    data: dict[str, Any] = to_jsonable_python(event, exclude=unstored, serialize_unknown=True)
    return {"type": type(event).__name__, **data}


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(_LASTING[kind])


def load_event(data: dict[str, Any]) -> LastingEvent:
    """The lasting event of a dict that `dump_event` made.

    Raises ValueError for an unknown `type` and pydantic's ValidationError (a ValueError) for fields that do not fit.
    """
    kind = data.get("type")
    if kind not in _LASTING:
        raise ValueError(f"unknown event type {kind!r}; known: {', '.join(sorted(_LASTING))}")
    if kind == "ApprovalGiven" and not isinstance(data.get("approved"), bool):
        raise ValueError(f"approved is {data.get('approved')!r} in an ApprovalGiven event; allowed: true or false")
    event: LastingEvent = _adapter(kind).validate_python({k: v for k, v in data.items() if k != "type"})
    return event
