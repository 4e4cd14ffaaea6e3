"""What a simulator can be told to answer: small frozen values that combine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ...messages import Assistant, ToolCall
from .request import SimRequest

__all__ = ["Answers", "AnyReply", "CallStyle", "Cut", "Failure", "Hangup", "Late", "Raw", "Reply"]

CallStyle: TypeAlias = Literal["in_turn", "interleaved", "index_zero", "empty_ids", "objects"]
"""How tool calls come: one after another (DeepSeek's way); their pieces mixed; each whole, and all with index 0
(Ollama); pieces that repeat an empty id and name (DashScope); each whole, its arguments an object and not a text."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion with more to say than its message: why it ended, and how its calls come."""

    message: str | ToolCall | Sequence[ToolCall] | Assistant
    finish_reason: str | None = None
    """None: "length" if `max_tokens` cut the message, "tool_calls" if it has calls, else "stop"."""
    calls: CallStyle = "in_turn"


@dataclass(frozen=True, slots=True)
class Failure:
    """An HTTP error in DeepSeek's envelope. `headers` are sent with it, for example `{"Retry-After": "1"}`."""

    status: int
    message: str = ""
    type: str = "invalid_request_error"
    code: str = "invalid_request_error"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raw:
    """Any body, sent as it is; a mapping is sent as JSON."""

    body: bytes | str | Mapping[str, Any]
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hangup:
    """No answer at all: the server closes the connection."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Only the first `after` events of `reply` are sent.

    An event is one server-sent event or keep-alive comment; of a body that is not a stream, a keep-alive line or 64
    bytes. Then the connection breaks. With `clean` the body ends as if it were whole: a stream without its end, or a
    JSON text that stops in the middle.
    """

    reply: AnyReply
    after: int = 2
    clean: bool = False


@dataclass(frozen=True, slots=True)
class Late:
    """`reply` with a wait of `seconds` after its first `after` events; 0: before anything, the status line included."""

    reply: AnyReply
    seconds: float
    after: int = 0


AnyReply: TypeAlias = "str | ToolCall | Sequence[ToolCall] | Assistant | Reply | Failure | Raw | Hangup | Cut | Late"
"""A text, one call or several, a whole message, or one of the values of this module."""

AnswerFn: TypeAlias = Callable[[SimRequest], "AnyReply"]
Answers: TypeAlias = "str | Sequence[AnyReply | AnswerFn] | AnswerFn"
"""The name of a scenario; replies (or functions of the request) used in turn; or one function of the request."""
