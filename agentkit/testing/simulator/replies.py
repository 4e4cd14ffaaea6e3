"""The possible answers of a simulator: small frozen values that combine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ...messages import Assistant, ToolCall
from .request import SimRequest

__all__ = ["Answers", "AnyReply", "CallStyle", "Cut", "Failure", "Hangup", "Late", "Raw", "Reply"]

CallStyle: TypeAlias = Literal["in_turn", "interleaved", "index_zero", "empty_ids", "objects"]
"""How tool calls are streamed.

"in_turn": one after another, as DeepSeek does. "interleaved": their pieces mixed. "index_zero": each in one piece, all with
index 0 (Ollama). "empty_ids": pieces that repeat an empty id and name (DashScope). "objects": each in one piece, with the
arguments as an object instead of text.
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """A message with its finish reason and the style of its calls."""

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
    """Only the first `after` events of `reply` are sent, then the connection breaks.

    An event is a server-sent event or a keep-alive comment. In a body that is not a stream, it is a keep-alive line or 64
    bytes. With `clean`, the connection does not break: the body ends as if it were complete, as a stream without its end, or as
    a JSON text that stops in the middle.
    """

    reply: AnyReply
    after: int = 2
    clean: bool = False


@dataclass(frozen=True, slots=True)
class Late:
    """`reply` with a pause of `seconds` after its first `after` events. With 0, the pause comes before the status line."""

    reply: AnyReply
    seconds: float
    after: int = 0


AnyReply: TypeAlias = "str | ToolCall | Sequence[ToolCall] | Assistant | Reply | Failure | Raw | Hangup | Cut | Late"
"""A text, one call or several, a whole message, or one of the values of this module."""

AnswerFn: TypeAlias = Callable[[SimRequest], "AnyReply"]
Answers: TypeAlias = "str | Sequence[AnyReply | AnswerFn] | AnswerFn"
"""The name of a scenario; replies (or functions of the request) used in turn; or one function of the request."""
