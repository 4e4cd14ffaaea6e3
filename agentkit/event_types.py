"""The events of a run. Lasting events are the run; passing events only inform observers.

Lasting events are small, and numbered by their position in the run. A `RunState` is their fold. Passing events are never
stored, and are not even created without an observer. `agentkit.events` has all events and their stored form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from ._dataclass import frozen_dataclass
from .messages import Assistant, Message, ToolCall, ToolResult, Usage

__all__ = [
    "ApprovalGiven", "ApprovalRequired", "CallJudged", "CallReconciled", "CallSuspended", "Delta", "Event", "LastingEvent",
    "MessageAdded", "ModelReplied", "Nested", "PartialOutput", "PassingEvent", "ReasoningDelta", "ResultGiven", "Retrying",
    "RunFinished", "RunInfo", "RunPaused", "RunResumed", "RunStarted", "StepStarted", "TextDelta", "ToolArgsDelta",
    "ToolFinished", "ToolProgress", "ToolStarted", "UsageAdded",
]  # fmt: skip


@frozen_dataclass
class _Lasting:
    """Base of lasting events. `at` is the time of the event in seconds since 1970, or 0 if it was not recorded."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    at: float = field(default=0.0, compare=False, kw_only=True, repr=False)


@frozen_dataclass
class RunStarted(_Lasting):
    """The run begins with this transcript. Messages before `new_from` were passed in as history.

    `agent` is the agent's name. `fingerprint` has a digest of each of its parts: instructions, tool schemas, output type, model
    and settings. `owner` names the process that writes the events up to the next `RunResumed`.
    """

    run_id: str
    messages: tuple[Message, ...]
    new_from: int = 0
    agent: str = ""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the program gave with `run(..., metadata=)`."""
    forked_at: int = 0
    """In a fork, the number of events that it has from its original, this one included."""


@frozen_dataclass
class MessageAdded(_Lasting):
    """The loop itself adds a message for the model: what is wrong with its answer, or that a limit was reached.

    `reason` is "output" (the answer did not fit), "tool_choice" (a forced tool was not called) or `limit:<which>`.
    """

    message: Message
    reason: str


@frozen_dataclass
class ModelReplied(_Lasting):
    """A model call ended with a whole reply. `cost` is in US dollars, None if the price is unknown.

    `seconds` is the duration of the whole call; `waited` is the part of it spent waiting for a slot or between retries.
    If the agent's middleware has a `CacheReport`, `sent` is the number of messages in the request. `same_prefix` is how many of
    them, from the first on, an earlier request had too: a server can read these from its cache. Otherwise both are 0. A view
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
    """What changed in the beginning of the prompt, as found by `CacheReport`; empty if the prompt only grew."""
    price_note: str = ""
    """Whose prices the cost is based on, if not the server's own."""


@frozen_dataclass
class ToolStarted(_Lasting):
    """A tool call is about to run. `position` counts the calls of the run from 0 and does not change on a resume.

    `call.arguments` are the arguments that the tool gets: the model's own, those given with an approval, or `repaired` ones. A
    suspended call is started again when it continues.
    """

    call: ToolCall
    position: int
    repaired: bool = False


@frozen_dataclass
class UsageAdded(_Lasting):
    """Usage that counts in the run, but belongs to none of its `ModelReplied` events.

    It comes from model calls made by the tool call `call_id`, as of a sub-agent. With an empty `call_id`, it comes from the
    run's own model calls whose replies were not used. `estimated`: the server did not count the usage, because the reply broke
    off or because it never counts; it is estimated as one token for every four bytes.
    """

    call_id: str
    usage: Usage
    cost: float | None = None
    estimated: bool = False


@frozen_dataclass
class ToolFinished(_Lasting):
    """A tool call was answered.

    `error` is the full text of the error, without secrets; the model does not see it. `repairs` lists the repairs made in the
    text of the arguments. `output` is the whole result, if the model got only its head and tail (`max_output` characters), or
    with a note in front because the arguments were given with an approval.
    `is_json`: the result is JSON, and not just text. `outcome` is "unknown" if the call may or may not have taken effect: it
    timed out or was cancelled while it ran. `refused` is empty for a call that ran, and else says why the call was not run:
    "cut", "excess", "forbidden", "denied", "lost" (it may have run before a crash), "failed" (it failed too often before),
    "ended", or the stop reason of a limit. `artifact` is the value of a `ToolReturn`, which the model does not see.
    `reconciled`: the result is from the tool's `reconcile` function, after a crash. `uncertain` are calls of its child runs.
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
    artifact: Any = field(default=None, compare=False)
    reconciled: bool = False
    uncertain: tuple[ToolCall, ...] = ()


@frozen_dataclass
class CallJudged(_Lasting):
    """A call was judged: it may run ("allow"), may not run ("deny"), or needs an approval ("ask").

    `arguments` is the JSON text with which the call will run, repaired and with defaults; None if it is the model's own text.
    An approval shows this text. `reason` says why, and `by` names the policy that decided.
    """

    call_id: str
    verdict: Literal["allow", "ask", "deny"]
    arguments: str | None = None
    reason: str = ""
    by: str = ""


@frozen_dataclass
class CallSuspended(_Lasting):
    """A started call waits for its child run `run_id`, which has paused with these `events` so far.

    `pending` are the waiting calls of the child run, with the ids that they have there. The call continues when they are
    answered. Those in `outside` wait for a result, the others for an approval. Without a `run_id`, the call itself is one of an
    outside tool, and waits for its result.
    """

    call_id: str
    run_id: str
    pending: tuple[ToolCall, ...] = ()
    events: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    outside: tuple[str, ...] = ()


@frozen_dataclass
class CallReconciled(_Lasting):
    """A call was found started after a crash, and its tool's `reconcile` function was asked what became of it.

    "not done": it runs again. "unknown": the model is told so, with the `reason`. If it was done, `ToolFinished` has the result
    instead.
    """

    call_id: str
    outcome: Literal["not done", "unknown"]
    reason: str = ""


@frozen_dataclass
class ResultGiven(_Lasting):
    """The result of a call of an outside tool was given to `resume`: the text for the model, or an error."""

    call_id: str
    content: str
    is_error: bool = False
    is_json: bool = False


@frozen_dataclass
class ApprovalGiven(_Lasting):
    """An approval was answered: run the call, refuse it, or run it with other `arguments` (JSON text).

    The model gets the `reason` of a refusal. `by` says who answered, if that was given.
    """

    call_id: str
    approved: bool
    arguments: str | None = None
    reason: str = ""
    by: str = ""


@frozen_dataclass
class RunPaused(_Lasting):
    """The run waits for approvals. As the last event of a stream, it has `.result`.

    `digests` are the digests of the pending calls' names and arguments. They detect a stored state that was changed.
    """

    pending: tuple[ToolCall, ...]
    digests: tuple[str, ...] = field(default=(), compare=False, kw_only=True, repr=False)
    result: Any = field(default=None, compare=False, repr=False)


@frozen_dataclass
class RunResumed(_Lasting):
    """The run continues, in this or another process, with this agent. `attempt` counts the start and all resumes."""

    agent: str = ""
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    attempt: int = 1


@frozen_dataclass
class RunFinished(_Lasting):
    """The run is over. `stop_reason` is "answer", `limit:<which>`, "cancelled" or "error".

    `output` is the answer as JSON-able data. As the last event of a stream, it has `.result`.
    """

    stop_reason: str
    error: str | None = None
    output: Any = field(default=None, kw_only=True)
    result: Any = field(default=None, compare=False, repr=False)


@frozen_dataclass
class StepStarted:
    """Model call number `step` (from 1) is about to be sent."""

    step: int


@frozen_dataclass
class TextDelta:
    """A piece of the answer."""

    text: str


@frozen_dataclass
class PartialOutput:
    """The typed answer as far as it has come: a JSON value, not validated yet. Only what is whole is in it, except for keys.

    It comes when the answer has grown by about a tenth, so not after each piece.
    """

    value: Any


@frozen_dataclass
class ReasoningDelta:
    """A piece of the thinking text."""

    text: str


@frozen_dataclass
class ToolArgsDelta:
    """A piece of a call's arguments. `index` is the call's position in the reply; `name` is known from the first piece on."""

    index: int
    name: str
    text: str


@frozen_dataclass
class ToolProgress:
    """A report of a running tool, made with `RunContext.progress`."""

    call: ToolCall
    data: Any
    replaced: int = 0
    """Number of earlier reports that observers did not get, because the tool reported faster than they could take them."""


@frozen_dataclass
class Retrying:
    """The model call failed and is retried after `wait` seconds. Drop the deltas of this step shown so far."""

    attempt: int
    wait: float
    error: str


@frozen_dataclass
class ApprovalRequired:
    """A call waits for an approval."""

    call: ToolCall
    reason: str


@frozen_dataclass
class RunInfo:
    """Identifies the run of an event: its id, its agent's name, its parent's id, and its depth (0 without a parent)."""

    run_id: str
    agent: str = ""
    parent: str | None = None
    depth: int = 0


@frozen_dataclass
class Nested:
    """An event of the child run `run`, whose `parent` is the id of its parent run."""

    event: Event
    run: RunInfo

    @property
    def run_id(self) -> str:
        """The id of the event's run."""
        return self.run.run_id

    @property
    def parent(self) -> str | None:
        """The id of the parent of the event's run."""
        return self.run.parent


LastingEvent: TypeAlias = (
    RunStarted | MessageAdded | ModelReplied | ToolStarted | UsageAdded | ToolFinished | CallJudged | CallSuspended
    | CallReconciled | ApprovalGiven | ResultGiven | RunPaused | RunResumed | RunFinished
)  # fmt: skip
Delta: TypeAlias = TextDelta | ReasoningDelta | ToolArgsDelta | Retrying
PassingEvent: TypeAlias = "StepStarted | Delta | PartialOutput | ToolProgress | ApprovalRequired | Nested"
Event: TypeAlias = "LastingEvent | PassingEvent"
