"""What a row of the table is: a fault, and what must come of it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from agentkit import AgentError, RunResult, ToolFinished, ToolResult
from agentkit.events import Event, Retrying
from agentkit.messages import Assistant
from tests.models.raw_server import Step, http, stream_head

__all__ = [
    "KEY", "Answers", "Fault", "Outcome", "Played", "Raises", "Ran", "Row", "Told", "answer", "call", "calls", "chunks",
    "events", "history_is_valid", "in_time", "payload", "ran", "sse", "status", "told", "was_reset",
]  # fmt: skip

KEY = "key-0123456789abcdef"
"""The key of the requests. A refusal repeats it, as some servers do; nobody may see it."""

Fault: TypeAlias = Sequence[Step] | Iterable[Step] | Callable[[bool], Iterable[Step]]
"""What the server does with a request: steps, or a function of "is the reply to be streamed?"."""


@dataclass
class Played:
    """What came of a run in which a fault was injected."""

    watched: bool
    bodies: list[bytes]
    waits: list[float]
    ran: list[Any]
    """What the tools noted, in order; `pay` notes "paid"."""
    seen: list[Event]
    result: RunResult[Any] | None = None
    error: BaseException | None = None
    seconds: float = 0.0
    """How long it took."""

    @property
    def attempts(self) -> int:
        """Requests of the model call in which the fault was; the first call, which asks for `pay`, does not count."""
        return len(self.bodies) - 1

    @property
    def text(self) -> str:
        """The answer."""
        assert self.result is not None, self.error
        return str(self.result.output)

    @property
    def results(self) -> list[ToolResult]:
        """The tool messages after the first, in order."""
        state = self.result.state if self.result else getattr(self.error, "state", None)
        return [event.result for event in state.events if isinstance(event, ToolFinished)][1:] if state else []

    @property
    def last(self) -> dict[str, Any]:
        """The body of the last request."""
        body: dict[str, Any] = json.loads(self.bodies[-1])
        return body


Check: TypeAlias = Callable[[Played], None]


class Outcome(Protocol):
    """What must come of a fault."""

    def check(self, played: Played) -> None:
        """Raise AssertionError where something else came."""


@dataclass(frozen=True)
class Answers(Outcome):
    """The run ends with `text`; `attempts` requests were sent for the turn with the fault, the same bytes each."""

    text: str = "hello"
    attempts: int = 1
    wait: tuple[float, float] | None = None
    """Bounds of the one wait, in seconds."""
    asked_anew: bool = False
    """The model was told what is wrong, instead of being asked the same again."""

    def check(self, played: Played) -> None:
        assert played.text == self.text
        assert played.attempts == self.attempts
        if self.asked_anew:
            assert played.waits == [] and len(set(played.bodies)) == len(played.bodies)
            return
        assert len(set(played.bodies[1:])) == 1, "a retry sends the same bytes"
        assert len(played.waits) == self.attempts - 1
        if self.wait:
            assert self.wait[0] <= played.waits[0] <= self.wait[1]
        if played.watched:
            assert sum(isinstance(event, Retrying) for event in played.seen) == self.attempts - 1


@dataclass(frozen=True)
class Raises(Outcome):
    """The run ends with this kind of error after `attempts` requests, of which all but the first are retries."""

    kind: type[BaseException]
    attempts: int = 1
    says: str = ""
    status: int | None = None
    retryable: bool | None = None
    stop_reason: str = "error"
    asked_anew: bool = False

    def check(self, played: Played) -> None:
        error = played.error
        assert type(error) is self.kind, f"{error!r} {played.result}"
        assert played.attempts == self.attempts
        assert self.says in str(error), str(error)
        assert getattr(error, "status", None) == self.status
        if self.retryable is not None:
            assert getattr(error, "retryable", None) is self.retryable
        assert isinstance(error, AgentError) and error.state.stop_reason == self.stop_reason
        assert len(played.waits) == (0 if self.asked_anew else self.attempts - 1)
        cause: BaseException | None = error
        while cause is not None:
            assert type(cause).__name__ != "RetryError"
            cause = cause.__cause__


@dataclass(frozen=True)
class Ran(Outcome):
    """The tools ran, noting this in the order of the calls, and the run went on to its answer."""

    ran: Sequence[Any]
    attempts: int = 2

    def check(self, played: Played) -> None:
        assert played.text == "hello"
        assert played.ran[1:] == list(self.ran)
        assert played.attempts == self.attempts


def ran(*notes: Any, attempts: int = 2) -> Ran:
    """The tools ran, with these notes."""
    return Ran(notes, attempts)


@dataclass(frozen=True)
class Told(Outcome):
    """The tool did not run, or failed; the model was told so in words that hold `says`, and the run went on."""

    says: Sequence[str]
    ran: Sequence[Any] = ()

    def check(self, played: Played) -> None:
        assert played.text == "hello"
        assert played.ran[1:] == list(self.ran)
        (result,) = played.results
        assert result.is_error and result.content.startswith("error: ")
        for words in self.says:
            assert words in result.content, result.content
        assert len(result.content) < 4000
        assert played.attempts == 2


def told(*says: str, ran: Sequence[Any] = ()) -> Told:
    """The model was told, in these words."""
    return Told(says, ran)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault. The server first asks for a call of `pay`, so that a repeated side effect would show."""

    id: str
    group: str
    must: Outcome
    fault: Fault = ()
    times: int | None = 1
    """How often the fault comes; None: always. Then comes `then`."""
    then: Fault = ()
    ways: Sequence[bool] = (False, True)
    """Streamed (True) and not."""
    checks: Sequence[Check] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Any] = ()
    attempts: int = 5
    """How often a call is made at most."""
    retry: Mapping[str, Any] = field(default_factory=dict)
    """What else is set of `Retry`; `sleep` too, which is awaited after the wait is noted."""
    warns: type[Warning] | None = None
    why: str = ""
    """Where the outcome is otherwise than in the catalogue: the reason."""


def in_time(seconds: float) -> Check:
    """It took no longer."""

    def check(played: Played) -> None:
        assert played.seconds < seconds

    return check


def was_reset(played: Played) -> None:
    """The connection was reset, and not just closed; the watcher is told of it."""
    reset = os.strerror(errno.ECONNRESET)
    assert not played.watched or any(isinstance(event, Retrying) and reset in event.error for event in played.seen)


def events(*data: Any, end: bytes = b"\n") -> bytes:
    """Server-sent events of these values; bytes are data as they are."""
    lines = [b"data: " + (d if isinstance(d, bytes) else json.dumps(d).encode()) + end + end for d in data]
    return b"".join(lines)


def chunks(message: Mapping[str, Any], finish: str | None = "stop", **more: Any) -> list[Any]:
    """A reply as the chunks of a stream."""
    delta = dict(message)
    if isinstance(delta.get("tool_calls"), list):
        delta["tool_calls"] = [{"index": n, **piece} for n, piece in enumerate(delta["tool_calls"])]
    return [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], **more},
        b"[DONE]",
    ]


def sse(*data: Any) -> list[Step]:
    """A streamed response of these events, which ends with the connection."""
    return [stream_head() + events(*data)]


def answer(text: str = "hello", *, finish: str | None = "stop", **more: Any) -> Callable[[bool], list[Step]]:
    """A good reply."""
    return payload({"role": "assistant", "content": text}, finish, **more)


def payload(message: Any, finish: str | None = "stop", **more: Any) -> Callable[[bool], list[Step]]:
    """A reply with this message, as a stream or whole."""

    def steps(watched: bool) -> list[Step]:
        if watched:
            return sse(*chunks(message or {}, finish, **more))
        whole = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}
        return [http(json.dumps(whole).encode())]

    return steps


def call(name: str, arguments: Any = "{}", call_id: Any = "call_9", **more: Any) -> dict[str, Any]:
    """A tool call as the API writes it."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calls(*of: dict[str, Any], finish: str = "tool_calls", **message: Any) -> Callable[[bool], list[Step]]:
    """A reply with these calls."""
    return payload({"role": "assistant", "content": None, **message, "tool_calls": list(of)}, finish)


def status(code: int, body: bytes | str = "", headers: str = "", content_type: str = "application/json") -> list[Step]:
    """A refusal."""
    text = body or json.dumps({"error": {"message": f"fault {code}, key {KEY}", "type": "x"}})
    extra = f"x-request-id: req-1\r\n{headers}"
    return [http(text.encode() if isinstance(text, str) else text, f"{code} X", content_type, extra)]


def history_is_valid(messages: Sequence[Any]) -> None:
    """Each call has exactly one answer, in the order of the calls and right behind the message that makes them."""
    asked: list[str] = []
    seen: set[str] = set()
    for message in messages:
        if isinstance(message, ToolResult):
            assert asked and message.call_id == asked.pop(0), messages
        else:
            assert not asked, messages
        if isinstance(message, Assistant):
            asked = [call.id for call in message.tool_calls]
            assert not seen & {*asked} and len({*asked}) == len(asked), messages
            seen |= {*asked}
    assert not asked, messages
