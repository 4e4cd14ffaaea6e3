"""What happens in a run. Lasting events are the run; passing events only inform whoever watches.

Lasting events are small and numbered by their place in the list. A `RunState` is their fold. Passing events are never stored
and not even built when nobody watches. `agentkit.events` has all of them, and the form in which they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .messages import Assistant, Message, ToolCall, ToolResult, Usage

if TYPE_CHECKING:
    pass

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
]


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

    `seconds` is how long the call took in all; `waited` is the part of it spent waiting for a slot or between retries.
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
